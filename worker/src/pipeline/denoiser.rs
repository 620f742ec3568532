//! The transformer as a solver sees it: latents and a sigma to a denoised estimate, with
//! classifier-free guidance.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use ovis_protocol::{DenoiseRequest, SigmaInterval, StepCaching};

use super::adapters::AdapterPhases;
use super::error::{self, Error};
use super::inputs::matched_batch;
use super::modulations::ModulationPortions;
use super::types::{Conditioning, DenoiseInputs, Forwards};
use crate::models::mmdit::{BranchInput, Mmdit};
use crate::models::step_cache::{Kept, StepCache};
use crate::nn::{concat, guided_velocity, patchify, scaled_sum, AdapterSet, RopeTable};
use crate::sampling::{Snapshot, SnapshotError};

/// The relative change of the first block's output below which the other blocks are skipped.
/// ParaAttention uses 0.08 for FLUX.1. On the demo model, 50 steps of a poster run 44 of 100
/// forwards with it and 26 with 0.15; pixels then differ from the exact ones by 1.3 and 2.5
/// of 255 on average.
fn threshold(caching: StepCaching) -> Option<f64> {
    match caching {
        StepCaching::Off => None,
        StepCaching::Safe => Some(0.08),
        StepCaching::Fast => Some(0.15),
    }
}

/// The text of one or several batch entries, and the state of their step cache.
struct Branch {
    /// As the transformer of the current phase embeds it.
    text: Tensor,
    /// The conditioning of every entry, if several phases embed it.
    conditioning: Option<Tensor>,
    rope: RopeTable,
    cache: Option<StepCache>,
}

/// The two branches of classifier-free guidance.
pub struct Branches {
    positive: Branch,
    negative: Option<Branch>,
    /// The entries of the positive, then those of the negative, where one forward of both is
    /// faster than two.
    batched: Option<Branch>,
    phases: AdapterPhases,
    /// The phase whose texts these are.
    phase: usize,
}

impl Branches {
    /// Embeds the texts of a job whose latents have the shape `dims`, `[B, C, H/8, W/8]`.
    ///
    /// # Errors
    /// A conditioning has another width or batch than the job, the negative one is missing, or
    /// the device fails.
    pub fn new(
        model: &Mmdit,
        request: &DenoiseRequest,
        inputs: &DenoiseInputs,
        (batch, _, height, width): (usize, usize, usize, usize),
        phases: AdapterPhases,
    ) -> error::Result<Self> {
        let set = phases.set(0);
        let branch = |conditioning: &Conditioning, name: &str, other: Option<&Branch>| {
            let text = matched_batch(conditioning, batch, model.config().context_dim, name)?;
            let conditioning = phases.alternate().then(|| text.clone());
            let text = AdapterSet::with(set, || model.embed_text(&text))?;
            let rope = match other.filter(|other| other.text.dims() == text.dims()) {
                Some(other) => other.rope.clone(),
                None => model.rope(text.dim(1)?, height / 2, width / 2)?,
            };
            let cache = threshold(request.cache).map(StepCache::new);
            Ok::<_, Error>(Branch {
                text,
                conditioning,
                rope,
                cache,
            })
        };
        let positive = branch(&inputs.positive, "positive", None)?;
        let negative = match (request.cfg == 1.0, &inputs.negative) {
            (true, _) => None,
            (false, Some(negative)) => Some(branch(negative, "negative", Some(&positive))?),
            (false, None) => {
                return Err(Error::invalid(
                    format!(
                        "cfg is {}, but there is no negative conditioning",
                        request.cfg
                    ),
                    "Connect a negative prompt (an empty one will do), or set cfg to 1.",
                ))
            }
        };
        let batched = match &negative {
            Some(negative) if prefers_batched(&positive, negative, model) => Some(Branch {
                text: concat(&[&positive.text, &negative.text], 0)?,
                conditioning: None,
                rope: positive.rope.clone(),
                cache: None,
            }),
            _ => None,
        };
        Ok(Self {
            positive,
            negative,
            batched,
            phases,
            phase: 0,
        })
    }

    /// Embeds the texts again if a sigma is in another phase than the last one. Says whether it is.
    fn enter(&mut self, model: &Mmdit, sigma: f32) -> Result<bool> {
        let phase = self.phases.at(sigma);
        if phase == self.phase {
            return Ok(false);
        }
        let branches = [Some(&mut self.positive), self.negative.as_mut()];
        for branch in branches.into_iter().flatten() {
            if let Some(conditioning) = &branch.conditioning {
                let embed = || model.embed_text(conditioning);
                branch.text = AdapterSet::with(self.phases.set(phase), embed)?;
            }
        }
        if let (Some(batched), Some(negative)) = (&mut self.batched, &self.negative) {
            batched.text = concat(&[&self.positive.text, &negative.text], 0)?;
        }
        self.phase = phase;
        Ok(true)
    }

    /// What the adapters of the current phase change.
    fn set(&self) -> Option<Arc<AdapterSet>> {
        self.phases.set(self.phase).cloned()
    }
}

/// Whether one forward of both branches is faster than two. It is for a single image on a GPU,
/// where attention is faster over more heads at once. Both texts must have one length, and
/// there must be no step cache, which decides for each branch by itself.
fn prefers_batched(positive: &Branch, negative: &Branch, model: &Mmdit) -> bool {
    model.placement().device.is_cuda()
        && positive.text.dims()[0] == 1
        && positive.text.dims() == negative.text.dims()
        && positive.cache.is_none()
        && negative.cache.is_none()
}

/// The results of as many branches as were given.
fn exactly<const N: usize>(results: Vec<Tensor>) -> Result<[Tensor; N]> {
    results.try_into().map_err(|results: Vec<Tensor>| {
        candle_core::Error::Msg(format!("{N} branches have {} results", results.len()))
    })
}

/// All that is needed to evaluate the transformer at any of a job's sigmas.
pub struct Denoiser {
    modulations: ModulationPortions,
    branches: Branches,
    guidance: f64,
    guided: Option<SigmaInterval>,
    /// Forwards so far, each branch counted by itself.
    forwards: u64,
}

/// Name of the number of forwards in a snapshot.
const FORWARDS: &str = "denoiser.forwards";

/// More forwards than a job can have: counts above come from a damaged snapshot.
const MAX_FORWARDS: usize = u32::MAX as usize;

impl Denoiser {
    /// For a job that evaluates the model at `sigmas`.
    pub fn new(branches: Branches, request: &DenoiseRequest, sigmas: Vec<f32>) -> Self {
        Self {
            modulations: ModulationPortions::new(sigmas),
            branches,
            guidance: request.cfg,
            guided: request.guided,
            forwards: 0,
        }
    }

    /// Whether guidance is applied at a sigma.
    fn guides_at(&self, sigma: f32) -> bool {
        // The interval's ends are rounded as sigmas are, so that an equal one counts.
        self.guided
            .is_none_or(|at| (at.end as f32..=at.start as f32).contains(&sigma))
    }

    /// The denoised estimate `x - sigma * velocity` of latents `[B, C, H/8, W/8]`.
    ///
    /// # Errors
    /// The sigma is not one of the job's, the job is cancelled, or the device fails.
    pub fn denoise(&mut self, model: &Mmdit, x: &Tensor, sigma: f32) -> Result<Tensor> {
        let tokens = patchify(x, model.placement().compute())?;
        let guided = self.guides_at(sigma);
        if self.branches.enter(model, sigma)? {
            self.modulations.forget();
        }
        let set = self.branches.set();
        AdapterSet::with(set.as_ref(), || {
            self.estimate(model, x, sigma, &tokens, guided)
        })
    }

    fn estimate(
        &mut self,
        model: &Mmdit,
        x: &Tensor,
        sigma: f32,
        tokens: &Tensor,
        guided: bool,
    ) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (modulations, row) = self.modulations.at(model, sigma)?;
        let predict = |branches: Vec<&mut Branch>, tokens: &Tensor| {
            let inputs = branches.into_iter().map(|branch| BranchInput {
                image: tokens,
                text: &branch.text,
                rope: &branch.rope,
                cache: branch.cache.as_mut(),
            });
            model.forward_all(inputs.collect(), modulations, row)
        };
        let Branches {
            positive,
            negative,
            batched,
            ..
        } = &mut self.branches;
        let (cond, uncond) = match (batched, negative) {
            (Some(batched), _) if guided => {
                self.forwards += 2;
                let velocities = predict(vec![batched], &concat(&[tokens, tokens], 0)?)?;
                let [velocities] = exactly(velocities)?;
                let entries = tokens.dim(0)?;
                (
                    velocities.narrow(0, 0, entries)?,
                    Some(velocities.narrow(0, entries, entries)?),
                )
            }
            (_, Some(negative)) if guided => {
                self.forwards += 2;
                let [cond, uncond] = exactly(predict(vec![positive, negative], tokens)?)?;
                (cond, Some(uncond))
            }
            _ => {
                self.forwards += 1;
                let [cond] = exactly(predict(vec![positive], tokens)?)?;
                (cond, None)
            }
        };
        let size = (height, width);
        let velocity = guided_velocity(&cond, uncond.as_ref(), self.guidance, size)?;
        scaled_sum(&[(1.0, x), (-f64::from(sigma), &velocity)])
    }

    /// How many forwards there were, and how many of them a step cache answered.
    pub fn forwards(&self) -> Forwards {
        Forwards {
            asked: self.forwards,
            answered: self.caches().map(|(_, cache)| cache.answered()).sum(),
        }
    }

    /// What an evaluation counts: the forwards, and those that the step caches have answered.
    pub fn counts(&self) -> (u64, Vec<u64>) {
        let answered = self.caches().map(|(_, cache)| cache.answered());
        (self.forwards, answered.collect())
    }

    /// Takes back what an evaluation has counted that failed.
    pub fn recount(&mut self, (forwards, answered): (u64, Vec<u64>)) {
        self.forwards = forwards;
        let Branches {
            positive, negative, ..
        } = &mut self.branches;
        let branches = std::iter::once(positive).chain(negative);
        let caches = branches.filter_map(|branch| branch.cache.as_mut());
        for (cache, answered) in caches.zip(answered) {
            cache.recount(answered);
        }
    }

    /// The step caches there are, with the names of their branches.
    fn caches(&self) -> impl Iterator<Item = (&'static str, &StepCache)> {
        let positive = Some(&self.branches.positive);
        let branches = [
            ("positive", positive),
            ("negative", self.branches.negative.as_ref()),
        ];
        branches
            .into_iter()
            .filter_map(|(name, branch)| Some((name, branch?.cache.as_ref()?)))
    }

    /// Stores the state that changes from step to step: the step caches and the counts.
    ///
    /// # Errors
    /// A tensor cannot be copied from the device.
    pub fn save(&self, snapshot: &mut Snapshot) -> std::result::Result<(), SnapshotError> {
        snapshot.put(FORWARDS, self.forwards);
        for (branch, cache) in self.caches() {
            let name = |part: &str| format!("cache.{branch}.{part}");
            snapshot.put(&name("answered"), cache.answered());
            snapshot.put(&name("is_filled"), cache.kept().is_some());
            if let Some(Kept {
                first,
                magnitude,
                rest,
            }) = cache.kept()
            {
                snapshot.put_tensor(&name("first"), first)?;
                snapshot.put_tensor(&name("magnitude"), magnitude)?;
                snapshot.put_tensor(&name("rest"), rest)?;
            }
        }
        Ok(())
    }

    /// Brings a new denoiser of the same job into the state in which [`save`](Self::save) was
    /// called; `dims` is the shape of the latents, `[B, C, H/8, W/8]`.
    ///
    /// # Errors
    /// The snapshot lacks a part of the state, or has a tensor of another shape or type.
    pub fn restore(
        &mut self,
        snapshot: &Snapshot,
        model: &Mmdit,
        (batch, _, height, width): (usize, usize, usize, usize),
    ) -> std::result::Result<(), SnapshotError> {
        self.forwards = snapshot.count(FORWARDS, MAX_FORWARDS)? as u64;
        let tokens = (height / 2) * (width / 2);
        let shape = [batch, tokens, model.config().hidden_size];
        let placement = model.placement();
        let Branches {
            positive, negative, ..
        } = &mut self.branches;
        let branches = [
            ("positive", Some(positive)),
            ("negative", negative.as_mut()),
        ];
        for (branch_name, branch) in branches {
            let Some(cache) = branch.and_then(|branch| branch.cache.as_mut()) else {
                continue;
            };
            let name = |part: &str| format!("cache.{branch_name}.{part}");
            let tensor = |part: &str, dtype: DType, shape: &[usize]| {
                snapshot.tensor(&name(part), dtype, shape, &placement.device)
            };
            let kept = match snapshot.get(&name("is_filled"))? {
                false => None,
                true => Some(Kept {
                    first: tensor("first", placement.compute(), &shape)?,
                    magnitude: tensor("magnitude", DType::F32, &[])?,
                    rest: tensor("rest", placement.compute(), &shape)?,
                }),
            };
            let answered = snapshot.count(&name("answered"), MAX_FORWARDS)?;
            cache.restore(answered as u64, kept);
        }
        Ok(())
    }
}
