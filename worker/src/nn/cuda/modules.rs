//! Compiled kernels, loaded once per thread and GPU.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::WrapErr;
use candle_core::{bail, CudaDevice, Result};

/// The compiled kernels of `kernels/NAME.cu`, with NAME.
macro_rules! family {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin")),
        )
    };
}

/// All compiled kernels, by the name of their source file.
const FAMILIES: &[(&str, &[u8])] = &[
    family!("blocks"),
    family!("channels_last"),
    family!("copy"),
    family!("elementwise"),
    family!("fp8"),
    family!("fp8_heads"),
    family!("group_norm"),
    family!("hopper_product"),
    family!("latents"),
    family!("norm"),
    family!("pointwise"),
    family!("rope"),
    family!("rows"),
];

/// The kernels that one thread has loaded on one GPU.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

thread_local! {
    /// By the GPU's ordinal.
    static LOADED: RefCell<HashMap<usize, Loaded>> = RefCell::default();
}

/// A kernel of `kernels/FAMILY.cu`, loaded at its first use.
pub(super) fn function(
    device: &CudaDevice,
    family: &'static str,
    name: String,
) -> Result<CudaFunction> {
    let context = device.cuda_stream().context().clone();
    LOADED.with_borrow_mut(|loaded| {
        let loaded = loaded.entry(context.ordinal()).or_default();
        if let Some(function) = loaded.functions.get(&name) {
            return Ok(function.clone());
        }
        let module = match loaded.modules.get(family) {
            Some(module) => module.clone(),
            None => {
                let Some((_, image)) = FAMILIES.iter().find(|(known, _)| *known == family) else {
                    bail!("there is no kernel family {family}");
                };
                let module = context.load_module(Ptx::from_binary(image.to_vec())).w()?;
                loaded.modules.insert(family, module.clone());
                module
            }
        };
        let function = module.load_function(&name).w()?;
        loaded.functions.insert(name, function.clone());
        Ok(function)
    })
}
