//! Plans for a budget of GPU memory, as the commands ask for them.

use candle_core::Device;

use super::error::CliError;
use super::precision::Precision;
use crate::nn::{block_path, check_fp8, device_memory, BlockPath, Placement};
use crate::pipeline::{
    device_memory_left, free_host_memory, plan, shown_bytes, Facts, HostFacts, Impossible, Machine,
    MemoryReport, Sizes, Storage, Target,
};

/// Memory in GiB of the cards that many people have.
pub const CARDS: [u64; 5] = [24, 16, 12, 8, 6];

/// Steps of an image in a plan: the default.
const STEPS: usize = 50;

/// Bytes that the driver's context, kernels and libraries take, before they are measured.
const OVERHEAD: u64 = 900 << 20;

/// Whether weights that have no room on the GPU can stream.
const STREAMS: bool = false;

/// Whether the text encoder's table stays in host memory.
const TABLE_ON_HOST: bool = false;

/// Least GPU memory that `auto` leaves to other programs: a part of all, and bytes.
const RESERVE: (u64, u64) = (16, 768 << 20);

/// What is assumed of a GPU that is not measured.
#[derive(Clone, Copy, Debug)]
pub struct Assumed {
    /// Bytes a second from pinned host memory to the GPU.
    pub link: f64,
    /// Operations a second of the transformer in bf16.
    pub speed: f64,
}

impl Assumed {
    /// A card of 100 TFLOP/s on 16 lanes of PCIe 4.0.
    pub const USUAL: Self = Self {
        link: 25e9,
        speed: 100e12,
    };

    /// A machine with a budget, and the host memory that this one has.
    fn machine(self, budget: u64, has_own_products: bool) -> Machine {
        Machine {
            budget,
            overhead: OVERHEAD,
            link: self.link,
            speed: self.speed,
            has_own_products,
            host: HostFacts {
                free: free_host_memory(),
                may_pin: true,
            },
            table_on_host: TABLE_ON_HOST,
        }
    }
}

/// A model to plan for.
pub struct Planner {
    sizes: Sizes,
    target: Target,
    assumed: Assumed,
    /// The GPU, if it is there.
    gpu: Option<Device>,
}

impl Planner {
    /// For a card that need not be there.
    pub fn of_card(sizes: Sizes, target: Target, assumed: Assumed) -> Self {
        Self {
            sizes,
            target,
            assumed,
            gpu: None,
        }
    }

    /// For a GPU.
    pub fn of_gpu(sizes: Sizes, target: Target, gpu: &Device) -> Self {
        Self {
            gpu: Some(gpu.clone()),
            ..Self::of_card(sizes, target, Assumed::USUAL)
        }
    }

    /// What is made.
    pub fn target(&self) -> Target {
        self.target
    }

    /// What is assumed of the GPU.
    pub fn assumed(&self) -> Assumed {
        self.assumed
    }

    /// The precisions between which memory differs most and that the GPU computes in, the largest
    /// first. Those that a file in blocks would not be loaded in are left out.
    pub fn precisions(&self) -> Vec<Precision> {
        let usual = Precision::USUAL.into_iter();
        let fits = |precision: &Precision| match precision {
            Precision::F32 => false,
            Precision::Bf16 => true,
            Precision::Fp8 => self.gpu.as_ref().is_none_or(|gpu| check_fp8(gpu).is_ok()),
            Precision::Blocks(_) => !self.sizes.is_in_blocks(),
        };
        usual.filter(fits).collect()
    }

    fn facts(&self, precision: Precision, budget: u64) -> Facts {
        // Sizes ask only whether the device is a CPU, on which blocks are beside float32.
        let gpu = self.gpu.as_ref().unwrap_or(&Device::Cpu);
        let placement = match precision {
            Precision::Blocks(_) => Placement {
                weights: candle_core::DType::BF16,
                ..precision.placed(gpu.clone())
            },
            _ => precision.placed(gpu.clone()),
        };
        let has_own_products = self.gpu.is_some()
            && matches!(
                block_path(&placement, self.sizes.head_dim()),
                BlockPath::Own { .. }
            );
        let machine = self.assumed.machine(budget, has_own_products);
        let storage = Storage::of(&placement);
        self.sizes.facts(&storage, &machine, self.target, STEPS)
    }

    /// The plan in a precision within a budget, or why there is none.
    ///
    /// # Errors
    /// The numbers, and what there is a plan for.
    pub fn plan(&self, precision: Precision, budget: u64) -> Result<MemoryReport, Impossible> {
        let facts = self.facts(precision, budget);
        match plan(&facts) {
            Ok(plan) => Ok(MemoryReport::new(&facts, &plan)),
            Err(why) => {
                let others = self.precisions().into_iter();
                let others = others.filter(|&other| other != precision);
                Err(why.with_precisions(others.map(|other| self.facts(other, budget))))
            }
        }
    }

    /// The plan that a model is loaded by.
    ///
    /// # Errors
    /// There is none, or it takes what the loader cannot do.
    fn carried_out(&self, precision: Precision, budget: u64) -> Result<MemoryReport, CliError> {
        let report = self.plan(precision, budget)?;
        if STREAMS || report.is_resident() {
            return Ok(report);
        }
        let stays = |other: &Precision| {
            let report = self.plan(*other, budget);
            report.is_ok_and(|report| report.is_resident())
        };
        let other = self.precisions().into_iter().find(stays);
        Err(CliError::new(
            format!(
                "{} within {} of GPU memory {}, and weights cannot stream yet",
                report.precision,
                shown_bytes(budget),
                report.summary()
            ),
            match other {
                Some(other) => format!("With --precision {} all weights stay.", other.name()),
                None => "Give a larger budget, or use a GPU with more memory.".into(),
            },
        ))
    }
}

/// The plan of a model that is about to be loaded, within `vram` bytes or what is free. `None` on a
/// CPU, which has no such budget: `say` is told if one is given. `None` also without a budget where
/// what is free is too little for a plan with all weights on the GPU.
///
/// # Errors
/// The model does not fit the budget.
pub fn for_loading(
    sizes: Sizes,
    placement: &Placement,
    vram: Option<u64>,
    target: Target,
    say: &(impl Fn(&str) + ?Sized),
) -> Result<Option<MemoryReport>, CliError> {
    if placement.device.is_cpu() {
        if vram.is_some() {
            say("--vram is a budget of GPU memory and has no effect on a CPU; --memory limits what jobs take there");
        }
        return Ok(None);
    }
    let precision = Precision::of(placement);
    let planner = Planner::of_gpu(sizes, target, &placement.device);
    let report = match vram {
        None => match free_budget(&placement.device) {
            Some(free) => planner
                .plan(precision, free)
                .ok()
                .filter(MemoryReport::is_resident),
            None => None,
        },
        Some(budget) => Some(planner.carried_out(precision, budget)?),
    };
    if let (Some(report), Some(_)) = (&report, vram) {
        let (budget, peak) = (shown_bytes(report.budget), shown_bytes(report.peak));
        let summary = report.summary();
        say(&format!(
            "within {budget} of GPU memory {summary}, {peak} at the peak"
        ));
    }
    Ok(report)
}

/// The budget without `--vram`: what is free of a GPU's memory, without a reserve for the desktop
/// and other programs. `None` if the driver does not tell.
pub fn free_budget(gpu: &Device) -> Option<u64> {
    let (part, least) = RESERVE;
    let (_, total) = device_memory(gpu);
    let reserve = (total / part).max(least);
    Some(device_memory_left(gpu)?.saturating_sub(reserve) + OVERHEAD)
}

impl From<Impossible> for CliError {
    fn from(why: Impossible) -> Self {
        Self::new(why.to_string(), why.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Geometry;

    fn planner() -> Planner {
        let sizes = Sizes::of_geometry(&Geometry::ovis_image_7b());
        Planner::of_card(sizes, Target::image(1024, 1024), Assumed::USUAL)
    }

    #[test]
    fn a_budget_has_a_plan_or_the_nearest() {
        let planner = planner();
        let report = planner.plan(Precision::Bf16, 24 << 30).unwrap();
        assert!(report.is_resident() && report.peak <= 24 << 30);
        let why = planner.plan(Precision::Bf16, 2 << 30).unwrap_err();
        let error = CliError::from(why);
        assert!(error.message.contains("takes"), "{}", error.message);
        assert!(error.hint.contains("--vram"), "{}", error.hint);
    }

    #[test]
    fn a_plan_that_streams_names_a_precision_that_stays() {
        let planner = planner();
        match planner.carried_out(Precision::Bf16, 16 << 30) {
            Ok(report) => assert!(STREAMS && !report.is_resident()),
            Err(error) => {
                assert!(!STREAMS && error.message.contains("streams"), "{error}");
                assert_eq!(error.hint, "With --precision fp8 all weights stay.");
            }
        }
    }

    #[test]
    fn a_cpu_has_no_such_budget() {
        let said = std::cell::RefCell::new(Vec::new());
        let sizes = || Sizes::of_geometry(&Geometry::ovis_image_7b());
        let placement = Precision::F32.placed(Device::Cpu);
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        for vram in [None, Some(1 << 30)] {
            let target = Target::image(64, 64);
            let report = for_loading(sizes(), &placement, vram, target, &say).unwrap();
            assert!(report.is_none());
        }
        let said = said.into_inner();
        assert!(
            matches!(&said[..], [line] if line.contains("no effect on a CPU")),
            "{said:?}"
        );
    }
}
