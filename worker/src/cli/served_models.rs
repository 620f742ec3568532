//! Which models `serve` has, by name, and how each is loaded.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ovis_protocol::limits::MAX_MODELS;

use super::also::{name, Also};
use super::error::CliError;
use super::loading;
use super::lora_dir_args::LoraDirArgs;
use super::model_args::{check_precision, DeviceArgs, ModelArgs};
use super::planning::Goal;
use super::values::{parsed, seconds, whole_within, ValueError};
use crate::checkpoint::Checkpoint;
use crate::device::{Backend, Catalog, LoadFailure, Retention, DEFAULT_MODEL};
use crate::jobs::{JobCosts, Model};
use crate::nn::Placement;
use crate::pipeline::{
    AdapterLibrary, Ask, Budget, Cost, Costs, MemoryReport, Outline, Parameters, Pipeline, Target,
};

/// Models beside the one of `--model`, and when models are unloaded.
#[derive(Clone, Debug, Args)]
pub struct ServedModels {
    /// Name of the model in --model, by which jobs may ask for it.
    #[arg(
        long,
        value_name = "NAME",
        default_value = DEFAULT_MODEL,
        value_parser = parsed(name),
        allow_hyphen_values = true
    )]
    name: String,
    /// Another model that jobs may ask for by its name. After the name and its path, which may be
    /// left out, follow `precision=P`, `transformer=F`, `text-encoder=F`, `vae=F` and `tokenizer=F`,
    /// with commas between them. What is left out is as for the model in --model. It is loaded when
    /// a job asks for it; if memory is short, the model that was not used for longest gives way. May
    /// be repeated.
    #[arg(
        long,
        value_name = "NAME=PATH[,KEY=VALUE]",
        value_parser = parsed(Also::parse),
        allow_hyphen_values = true
    )]
    also: Vec<Also>,
    /// Most models that are loaded at a time. The default is as many as fit.
    #[arg(
        long,
        value_name = "N",
        value_parser = whole_within(1, MAX_MODELS),
        allow_hyphen_values = true
    )]
    max_loaded: Option<usize>,
    /// Seconds after which a model without jobs is unloaded. The next job loads it again.
    #[arg(
        long,
        value_name = "off|SECONDS",
        default_value = "off",
        value_parser = parsed(UnloadAfter::parse),
        allow_hyphen_values = true
    )]
    unload_after: UnloadAfter,
}

/// The `--unload-after` argument.
#[derive(Clone, Copy, Debug, PartialEq)]
struct UnloadAfter(Option<f64>);

impl UnloadAfter {
    fn parse(text: &str) -> Result<Self, ValueError> {
        match text.trim() {
            "off" => Ok(Self(None)),
            text => match seconds(text) {
                Ok(seconds) if seconds > 0.0 => Ok(Self(Some(seconds))),
                _ => Err(ValueError::NotIdle),
            },
        }
    }
}

/// A model's files, and where and how it is loaded.
#[derive(Clone)]
struct Source {
    files: ModelArgs,
    or_demo: bool,
    placement: Placement,
    /// Most bytes of the GPU's memory; `None` for what is free.
    vram: Option<u64>,
    host_memory: Option<u64>,
    /// The adapters that jobs may name, which all models share.
    adapters: Arc<AdapterLibrary>,
    /// Bytes that adapters may keep between jobs.
    adapter_memory: u64,
}

fn say(line: &str) {
    tracing::info!("{line}");
}

impl Source {
    fn open(&self) -> Result<Checkpoint, CliError> {
        Ok(self.files.open_or_demo(self.or_demo, say)?)
    }

    fn load(&self, checkpoint: &Checkpoint) -> Result<Pipeline, CliError> {
        let native = checkpoint.native_size();
        let goal = Goal {
            vram: self.vram,
            target: Target::image(native, native),
            link: None,
        };
        let pipeline = loading::load(checkpoint, &self.placement, &goal, say)?;
        loading::warm_up(&pipeline, say)?;
        let pipeline = pipeline.with_host_memory(self.host_memory);
        Ok(pipeline
            .with_library(self.adapters.clone())
            .with_adapter_memory(self.adapter_memory))
    }

    /// Loads the model again, after it was unloaded.
    fn reload(&self) -> Result<Pipeline, LoadFailure> {
        let failure = |error: CliError, lacks_memory: bool| LoadFailure {
            reason: error.message,
            hint: error.hint,
            lacks_memory,
        };
        let checkpoint = self.open().map_err(|error| failure(error, false))?;
        // On a GPU, what does not fit streams.
        if self.placement.device.is_cpu() {
            let fit = Parameters::of(&checkpoint).check_fit(&self.placement);
            fit.map_err(|error| failure(error.into(), true))?;
        }
        self.load(&checkpoint).map_err(|error| {
            let text = error.message.to_ascii_lowercase();
            // The driver's words, and those of a plan that is impossible.
            let words = ["out of memory", "out_of_memory", "gpu memory"];
            let lacks_memory = words.iter().any(|words| text.contains(words));
            failure(error, lacks_memory)
        })
    }

    /// The costs of the model's jobs. On a CPU whose jobs have a memory of their own, the weights
    /// take none of it.
    fn costs(&self, costs: Costs, weights: u64) -> Arc<dyn JobCosts> {
        let is_apart = self.placement.device.is_cpu() && self.host_memory.is_some();
        let weights = if is_apart { 0 } else { weights };
        Arc::new(WithWeights { costs, weights })
    }
}

/// What a model's jobs take, and what its weights do.
struct WithWeights {
    costs: Costs,
    weights: u64,
}

impl JobCosts for WithWeights {
    fn cost(&self, ask: Ask) -> Cost {
        self.costs.cost(ask)
    }

    fn weights(&self) -> u64 {
        self.weights
    }
}

impl ServedModels {
    /// Opens all models and loads the main one, within `vram` bytes of the GPU's memory. Returns
    /// them, the memory that is left for jobs, and the adapters that jobs may name.
    ///
    /// # Errors
    /// A name is given twice, a model cannot be opened, or the main one cannot be loaded.
    pub fn load(
        &self,
        files: &ModelArgs,
        or_demo: bool,
        (device, vram): (&DeviceArgs, Option<u64>),
        lora: &LoraDirArgs,
    ) -> Result<(Catalog<Pipeline>, Budget, Arc<AdapterLibrary>), CliError> {
        self.check()?;
        let checkpoint = files.open_or_demo(or_demo, say)?;
        let adapters = lora.library(&checkpoint);
        let main = Source {
            files: files.clone(),
            or_demo,
            placement: device.placement(say)?,
            vram,
            host_memory: device.host_memory(),
            adapters: adapters.clone(),
            adapter_memory: lora.memory(),
        };
        // The others are opened first, so that a wrong path is reported before anything is loaded.
        let others = self.also.iter().map(|also| self.other(also, &main));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let weights = Parameters::of(&checkpoint).weights(&main.placement);
        let pipeline = main.load(&checkpoint)?;
        say(&loading::paths(&pipeline)?);
        let planned = pipeline.memory_report().map(MemoryReport::weight_bytes);
        let weights = planned.unwrap_or(weights);
        let model = Model::new(
            &*self.name,
            pipeline.capabilities(),
            main.costs(pipeline.costs(), weights),
            pipeline.weight_bytes(),
        );
        let retention = Retention {
            most: self.max_loaded,
            idle: self.unload_after.0.map(Duration::from_secs_f64),
        };
        let budget = pipeline.budget();
        let reload = Box::new(move || main.reload());
        let mut models = Catalog::new(model, pipeline, Some(reload), retention);
        for (model, source) in others {
            models.push(model, Box::new(move || source.reload()));
        }
        Ok((models, budget, adapters))
    }

    fn check(&self) -> Result<(), CliError> {
        let names = self.also.iter().map(|also| &also.name);
        let mut names: Vec<_> = names.chain([&self.name]).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(CliError::new(
                format!("two models are named `{}`", pair[0]),
                "Give each --also another name, and another than --name.",
            ));
        }
        if self.also.iter().any(|also| also.name == DEFAULT_MODEL) {
            return Err(CliError::new(
                format!("`{DEFAULT_MODEL}` stands for the model in --model"),
                "Give the --also another name.",
            ));
        }
        match names.len() > MAX_MODELS {
            true => Err(CliError::new(
                format!("{} models are more than {MAX_MODELS}", names.len()),
                "Start another worker for some of them.",
            )),
            false => Ok(()),
        }
    }

    /// A model beside the main one, without its weights.
    fn other(&self, also: &Also, main: &Source) -> Result<(Model, Source), CliError> {
        let named = |error: CliError| {
            let message = format!("the model `{}`: {}", also.name, error.message);
            CliError::new(message, error.hint)
        };
        let source = Source {
            files: also.files(&main.files),
            or_demo: main.or_demo && also.path.is_none(),
            placement: match also.precision {
                None => main.placement.clone(),
                Some(precision) => {
                    let device = main.placement.device.clone();
                    check_precision(precision, &device).map_err(named)?;
                    precision.placed(device)
                }
            },
            ..main.clone()
        };
        let checkpoint = source.open().map_err(named)?;
        let outline = Outline::of(
            &checkpoint,
            &source.placement,
            Some(source.adapters.clone()),
        );
        let outline = outline.map_err(|error| named(error.into()))?;
        say(&format!(
            "`{}` is {} in {}, which is loaded when a job asks for it",
            also.name, outline.capabilities.model, outline.capabilities.precision
        ));
        let costs = source.costs(outline.costs, outline.weights);
        let bytes = outline.file_bytes;
        let model = Model::new(&*also.name, outline.capabilities, costs, bytes);
        Ok((model, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_times_are_seconds_or_off() {
        assert_eq!(UnloadAfter::parse("off"), Ok(UnloadAfter(None)));
        assert_eq!(UnloadAfter::parse("90"), Ok(UnloadAfter(Some(90.0))));
        for text in ["0", "-1", "soon", "nan", ""] {
            assert_eq!(UnloadAfter::parse(text), Err(ValueError::NotIdle), "{text}");
        }
    }
}
