//! Plans for a budget of GPU memory, as the commands ask for them.

use candle_core::Device;

use super::error::CliError;
use super::precision::Precision;
use crate::nn::{
    arithmetic_speed, block_path, check_fp8, device_memory, limit_memory, link_speed, pool_memory,
    process_memory, BlockPath, Placement, Residence,
};
use crate::pipeline::{
    device_memory_left, free_host_memory, plan, shown_bytes, Facts, HostFacts, Impossible, Machine,
    MemoryReport, Parameters, Sizes, Storage, Target,
};

/// Memory in GiB of the cards that many people have.
pub const CARDS: [u64; 5] = [24, 16, 12, 8, 6];

/// Steps of an image in a plan: the default.
const STEPS: usize = 50;

/// Bytes that the driver's context, kernels and libraries take, before they are measured.
const OVERHEAD: u64 = 900 << 20;

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

    /// A GPU whose link is not measured.
    fn of_gpu(gpu: &Device) -> Self {
        Self {
            speed: arithmetic_speed(gpu).unwrap_or(Self::USUAL.speed),
            ..Self::USUAL
        }
    }

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
            table_on_host: true,
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
            ..Self::of_card(sizes, target, Assumed::of_gpu(gpu))
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
        let measured = self.gpu.as_ref().and_then(overhead).unwrap_or(0);
        let machine = Machine {
            overhead: machine.overhead.max(measured),
            ..machine
        };
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
            Err(why) => Err(self.with_nearest(why, precision)),
        }
    }

    /// A refusal that names the other precisions with which there is a plan.
    fn with_nearest(&self, why: Impossible, precision: Precision) -> Impossible {
        let (budget, others) = (why.budget, self.precisions().into_iter());
        let others = others.filter(|&other| other != precision);
        why.with_precisions(others.map(|other| self.facts(other, budget)))
    }
}

/// What a model is loaded for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Most bytes of the GPU's memory; `None` for what is free.
    pub vram: Option<u64>,
    /// The images that it is to make.
    pub target: Target,
    /// Most bytes a second that stream; `None` for the GPU's own speed.
    pub link: Option<f64>,
}

/// How a model is to be loaded.
pub struct Loading {
    /// Which weights stay on the device.
    pub residence: Residence,
    /// The plan, on a GPU.
    pub report: Option<MemoryReport>,
}

/// Plans how a model is loaded, within the goal's budget or what is free, and limits what tensors
/// take to the budget. Without a budget, everything stays on the GPU if there is room. On a CPU
/// everything stays too; `say` is told if a budget is given, which it has none of.
///
/// # Errors
/// The model does not fit, or the GPU fails.
pub fn for_loading(
    sizes: Sizes,
    parameters: Parameters,
    placement: &Placement,
    goal: &Goal,
    say: &(impl Fn(&str) + ?Sized),
) -> Result<Loading, CliError> {
    let fits = parameters.check_fit(placement);
    let gpu = &placement.device;
    if gpu.is_cpu() {
        fits?;
        if goal.vram.is_some() {
            say("--vram is a budget of GPU memory and has no effect on a CPU; --memory limits what jobs take there");
        }
        return Ok(Loading {
            residence: Residence::ALL,
            report: None,
        });
    }
    let free = free_budget(gpu);
    // Models that are loaded already have their part of the budget.
    let taken = pool_memory(gpu).map_or(0, |pool| pool.used);
    let budget = match (goal.vram, free) {
        (Some(given), Some(free)) if given > free + taken + RESERVE.1 => {
            let (given, there) = (shown_bytes(given), shown_bytes(free));
            say(&format!(
                "--vram is {given}, and {there} is free: that is the budget"
            ));
            free
        }
        (Some(given), _) => given.saturating_sub(taken),
        (None, Some(free)) => free,
        // A driver that does not tell what is free has no plan either.
        (None, None) => {
            fits?;
            return Ok(Loading {
                residence: Residence::ALL,
                report: None,
            });
        }
    };
    let own = link_speed(gpu).map_err(crate::pipeline::Error::from)?;
    let measured = own.unwrap_or(Assumed::USUAL.link);
    let assumed = Assumed {
        link: goal.link.map_or(measured, |most| measured.min(most)),
        ..Assumed::of_gpu(gpu)
    };
    let planner = Planner {
        gpu: Some(gpu.clone()),
        ..Planner::of_card(sizes, goal.target, assumed)
    };
    let precision = Precision::of(placement);
    let facts = planner.facts(precision, budget);
    let plan = match plan(&facts) {
        Ok(plan) => plan,
        // What is left of a full GPU may do after all.
        Err(_) if goal.vram.is_none() && fits.is_ok() => {
            return Ok(Loading {
                residence: Residence::ALL,
                report: None,
            })
        }
        Err(why) => return Err(planner.with_nearest(why, precision).into()),
    };
    let report = MemoryReport::new(&facts, &plan);
    if goal.vram.is_none() && fits.is_ok() {
        return Ok(Loading {
            residence: Residence::ALL,
            report: report.is_resident().then_some(report),
        });
    }
    let room = budget.saturating_sub(report.overhead);
    let limited = limit_memory(gpu, Some(room)).map_err(crate::pipeline::Error::from)?;
    let (shown, peak) = (shown_bytes(budget), shown_bytes(report.peak));
    let summary = report.summary();
    let enforced = match limited {
        true => "",
        false => "; this driver enforces no limit",
    };
    say(&format!(
        "within {shown} of GPU memory {summary}, {peak} at the peak{enforced}"
    ));
    Ok(Loading {
        residence: plan.residence(),
        report: Some(report),
    })
}

/// Bytes that the process takes of a GPU's memory beside tensors; `None` if the driver does not tell.
fn overhead(gpu: &Device) -> Option<u64> {
    let own = process_memory(gpu)?.own?;
    Some(own.saturating_sub(pool_memory(gpu)?.reserved))
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
    fn a_cpu_has_no_such_budget() {
        let said = std::cell::RefCell::new(Vec::new());
        let sizes = || Sizes::of_geometry(&Geometry::ovis_image_7b());
        let placement = Precision::F32.placed(Device::Cpu);
        let say = |line: &str| said.borrow_mut().push(line.to_owned());
        for vram in [None, Some(1 << 30)] {
            let goal = Goal {
                vram,
                target: Target::image(64, 64),
                link: None,
            };
            let parameters = Parameters::default();
            let made = for_loading(sizes(), parameters, &placement, &goal, &say).unwrap();
            assert!(made.report.is_none() && made.residence == Residence::ALL);
        }
        let said = said.into_inner();
        assert!(
            matches!(&said[..], [line] if line.contains("no effect on a CPU")),
            "{said:?}"
        );
    }
}
