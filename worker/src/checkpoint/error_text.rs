//! The sentence of each [`WeightsError`], and advice on it.

use std::fmt;
use std::path::PathBuf;

use super::error::WeightsError;
use super::{folder, text};

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::sentence(&self.sentence()))
    }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
    names.join(", ")
}

impl WeightsError {
    fn sentence(&self) -> String {
        match self {
            Self::Unreadable { file, reason } => {
                format!("`{}` cannot be read: {reason}", file.display())
            }
            Self::DeadLink { file, target } => format!(
                "`{}` is a link to `{}`, which is not there",
                file.display(),
                target.display()
            ),
            Self::NotAFile { file, what } => {
                format!("`{}` is {what}, not a file", file.display())
            }
            Self::NotSafetensors { file, kind } => format!(
                "`{}` is {}, not a {} file",
                file.display(),
                kind.what(),
                if folder::is_gguf(file) { "GGUF" } else { "safetensors" }
            ),
            Self::Unfinished { file, reason } => format!(
                "`{}` is incomplete: {reason}",
                file.display()
            ),
            Self::Truncated { file, tensor, needed, present } => format!(
                "`{}` is truncated: tensor `{tensor}` needs {needed} bytes of file, there are {present}",
                file.display()
            ),
            Self::BadHeader { file, reason } => {
                format!("the header of `{}` is damaged: {reason}", file.display())
            }
            Self::OtherModel { file, part, model, tensor } => format!(
                "`{}` holds the {part} of {model}, not of Ovis-Image: it has the tensor `{tensor}`",
                file.display()
            ),
            Self::OtherByName { file, part, model } => format!(
                "`{}` is by its name the {part} of {model}, whose tensors have the same shapes as Ovis-Image's",
                file.display()
            ),
            Self::OtherPart { file, part, tensor } if tensor.is_empty() => {
                format!("`{}` holds no {part}: it has no tensors", file.display())
            }
            Self::OtherPart { file, part, tensor } => format!(
                "`{}` holds no {part}: its first tensor is `{tensor}`",
                file.display()
            ),
            Self::AllInOne { file, tensor } => format!(
                "`{}` is an all-in-one checkpoint, which is not read: beside the transformer it has `{tensor}`",
                file.display()
            ),
            Self::Adapter { file, part, tensor } => format!(
                "`{}` is a LoRA adapter and holds no {part}: it has the tensor `{tensor}`",
                file.display()
            ),
            Self::Missing { file, part, tensor } => {
                format!("`{}` lacks the {part}'s tensor `{tensor}`", file.display())
            }
            Self::Shape { file, part, tensor, found, expected } => format!(
                "tensor `{tensor}` in `{}` has the shape {found:?}, the {part}'s geometry asks for {expected:?}",
                file.display()
            ),
            Self::Unknown { file, part, tensor } => format!(
                "tensor `{tensor}` in `{}` is unknown to the {part}",
                file.display()
            ),
            Self::Dtype { file, tensor, dtype } => format!(
                "tensor `{tensor}` in `{}` is stored as {dtype}, which cannot be loaded",
                file.display()
            ),
            Self::NewDtype { file, tensor, dtype } => format!(
                "tensor `{tensor}` in `{}` is stored as `{dtype}`, a type that this ovis-worker does not know",
                file.display()
            ),
            Self::Scale { file, tensor, dtype, shape } => format!(
                "tensor `{tensor}` in `{}` scales a weight by {dtype} of shape {shape:?}, not by one F32 or one for each row",
                file.display()
            ),
            Self::Value { file, tensor, value, dtype } => format!(
                "tensor `{tensor}` of `{}` has the value {value}, which {}",
                file.display(),
                match dtype {
                    Some(dtype) => format!("{dtype} cannot store"),
                    None => "cannot be stored in another type".into(),
                }
            ),
            Self::Geometry { file, part, reason } => {
                format!("the {part} in `{}` cannot be built: {reason}", file.display())
            }
            Self::Json { file, reason } => {
                format!("`{}` is not usable: {reason}", file.display())
            }
            Self::Ambiguous { folder, part, candidates } => format!(
                "`{}` has several files that could be the {part}: {}",
                folder.display(),
                list(candidates)
            ),
            Self::Nothing { path, seen, .. } => format!(
                "`{}` holds no Ovis-Image weights in any known layout: {seen}",
                path.display()
            ),
            Self::NoRepository { path, caches } if caches.is_empty() => format!(
                "there is no file or folder `{}`, and no Hugging Face cache on this machine",
                path.display()
            ),
            Self::NoRepository { path, caches } => format!(
                "there is no file or folder `{}`, and no such repository in the Hugging Face cache {}",
                path.display(),
                list(caches)
            ),
            Self::Address { path } => format!(
                "`{}` is a web address, and weights are never downloaded",
                path.display()
            ),
            Self::NoPath => "no weights were named".into(),
            Self::Tokenizer { file, reason } => format!(
                "the tokenizer in `{}` cannot be built: {reason}",
                file.display()
            ),
            Self::Table { file, part, tensor, reason } => format!(
                "the {part} in `{}` and the model disagree about `{tensor}`: {reason}",
                file.display()
            ),
            Self::Rows { file, tensor, rows, count } => format!(
                "tensor `{tensor}` in `{}` has {count} rows, not {} to {} in whole bytes and blocks",
                file.display(),
                rows.start,
                rows.end
            ),
            Self::Device { file, tensor, reason } => format!(
                "tensor `{tensor}` of `{}` could not be put on the device: {reason}",
                file.display()
            ),
        }
    }

    /// Advice for the person who named the file; may be empty.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Unreadable { .. } => "Check the path and its permissions.",
            Self::DeadLink { .. } => {
                "Download it again; in a Hugging Face cache, `hf download` fetches what is missing."
            }
            Self::NotAFile { .. } => "Name a .safetensors or .gguf file, or a folder that holds one.",
            Self::NotSafetensors { kind, .. } => kind.hint(),
            Self::Unfinished { .. } => {
                "Download it again: `hf download AIDC-AI/Ovis-Image-7B` goes on where it ended."
            }
            Self::Truncated { .. } | Self::BadHeader { .. } => "Download the file again.",
            Self::OtherModel { .. } | Self::OtherPart { .. } => {
                "Name the Ovis-Image file with --transformer, --text-encoder or --vae."
            }
            Self::OtherByName { .. } => {
                "Put FLUX.1's ae.safetensors beside it, or name this file with --vae if it is that all the same."
            }
            Self::Missing { .. } | Self::Shape { .. } | Self::Unknown { .. } => {
                "The file may belong to another model or an unfinished conversion; compare it with the published one."
            }
            Self::AllInOne { .. } => {
                "Name a file for each part with --transformer, --text-encoder and --vae, such as ovis_image_bf16.safetensors, ovis_2.5.safetensors and ae.safetensors."
            }
            Self::Adapter { .. } => {
                "`ovis-worker merge` merges adapters; here, name the file of the model itself, such as ovis_image_bf16.safetensors."
            }
            Self::Dtype { .. } | Self::NewDtype { .. } | Self::Scale { .. } => {
                "Use the bf16, f16 or f32 release of the file, ComfyUI's scaled fp8 or int8, or a GGUF of Q8_0, Q2_K to Q6_K, Q4_0 to Q5_1, IQ4_NL or IQ4_XS."
            }
            Self::Value { dtype: Some(_), .. } => "Choose --type bf16.",
            Self::Value { .. } => "Download the file again.",
            Self::Ambiguous { .. } => {
                "Name the file itself with --transformer, --text-encoder or --vae."
            }
            Self::Nothing { hint, .. } => hint,
            Self::NoRepository { .. } => {
                "Check the path, or fetch the repository with `hf download`; the worker never downloads."
            }
            Self::Address { .. } => {
                "Download the repository with `hf download AIDC-AI/Ovis-Image-7B`, and give that name or its folder."
            }
            Self::NoPath => "Give --model, or --transformer, --text-encoder, --vae and --tokenizer.",
            Self::Tokenizer { .. } | Self::Json { .. } => {
                "Take the file from the model's repository again."
            }
            Self::Geometry { .. }
            | Self::Table { .. }
            | Self::Rows { .. }
            | Self::Device { .. } => "",
        };
        text::sentence(hint)
    }
}
