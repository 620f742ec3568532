//! ComfyUI's 8-bit files: a weight `NAME.weight` of one byte a value, and beside it what turns
//! the bytes into values.
//!
//! - `coding`: the factors and the rotation of a weight
//! - `marks`: the JSON by which a file says how a weight is stored
//! - `fold`: takes all of these from a file's tensors and sets them on their weights
//!
//! Source: ComfyUI `comfy/utils.py` (`convert_old_quants`), `comfy/ops.py`
//! (`mixed_precision_ops`), `comfy/quant_ops.py`; stable-diffusion.cpp `docs/int8_convrot.md`.

mod coding;
mod fold;
mod marks;

pub use coding::Coding;
pub(super) use fold::fold;
