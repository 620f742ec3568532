//! Writes a part's tensors into one file in another precision and layout.
//!
//! - `target`: the precisions that can be written
//! - `outputs`: the tensors of the file: their names, and which rows of the part they are
//! - `transformer_rules`, `text_encoder_rules`: which tensors are quantized, and to what
//! - `values`: a tensor's rows as numbers, and numbers as bytes
//! - `vocabulary`, `llama_metadata`: what llama.cpp wants to know of a language model
//! - `plan`: the file planned, with its header and its size
//! - `write`: the file written, a few rows at a time
//!
//! Sources: ComfyUI-GGUF `tools/convert.py` and `tools/lcpp.patch`; llama.cpp
//! `src/llama-quant.cpp`; stable-diffusion.cpp `src/model_loader.cpp`
//! (`tensor_should_be_converted`); ComfyUI `comfy/utils.py` (`convert_old_quants`).

mod llama_metadata;
mod outputs;
mod plan;
mod target;
mod text_encoder_rules;
mod transformer_rules;
mod values;
mod vocabulary;
mod write;

pub use plan::{Conversion, FileLayout};
pub use target::Target;
pub use write::WriteError;
