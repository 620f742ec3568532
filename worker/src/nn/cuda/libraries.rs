//! The libraries and kernels that a thread keeps open between calls, per GPU.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, Result};

use super::cudnn::Cudnn;
use super::hopper::Hopper;
use super::products::Products;

/// What one thread has opened on one GPU. The inner `None` means that it was tried and is not
/// available.
#[derive(Clone, Default)]
struct Opened {
    products: Option<Rc<Products>>,
    hopper: Option<Option<Rc<Hopper>>>,
    cudnn: Option<Option<Rc<Cudnn>>>,
}

thread_local! {
    /// By the GPU's ordinal.
    static OPENED: RefCell<HashMap<usize, Opened>> = RefCell::default();
}

/// Runs `body` with this thread's state of `device`. `body` must not call this again.
fn with_opened<R>(device: &CudaDevice, body: impl FnOnce(&mut Opened) -> R) -> R {
    let ordinal = device.cuda_stream().context().ordinal();
    OPENED.with_borrow_mut(|opened| body(opened.entry(ordinal).or_default()))
}

/// This thread's cuBLASLt.
pub(super) fn products(device: &CudaDevice) -> Result<Rc<Products>> {
    with_opened(device, |opened| match &opened.products {
        Some(products) => Ok(products.clone()),
        None => {
            let products = Rc::new(Products::new(device.cuda_stream())?);
            opened.products = Some(products.clone());
            Ok(products)
        }
    })
}

/// This thread's Hopper kernels, or `None` on other GPUs. Opened once.
pub(super) fn hopper(device: &CudaDevice) -> Result<Option<Rc<Hopper>>> {
    if let Some(known) = with_opened(device, |opened| opened.hopper.clone()) {
        return Ok(known);
    }
    let hopper = match Hopper::open(device) {
        Ok(hopper) => hopper.map(Rc::new),
        Err(reason) => {
            tracing::warn!(%reason, "this GPU's own matrix products are not used");
            None
        }
    };
    with_opened(device, |opened| opened.hopper = Some(hopper.clone()));
    Ok(hopper)
}

/// This thread's cuDNN handle, or `None` where the library cannot be used. Opened once.
pub(super) fn cudnn(device: &CudaDevice) -> Result<Option<Rc<Cudnn>>> {
    if let Some(known) = with_opened(device, |opened| opened.cudnn.clone()) {
        return Ok(known);
    }
    device.cuda_stream().context().bind_to_thread().w()?;
    let cudnn = match Cudnn::open() {
        Ok(cudnn) => Some(Rc::new(cudnn)),
        Err(reason) => {
            tracing::warn!(
                %reason,
                "cuDNN is not used: attention and convolutions will be slower and need more \
                 memory; put the folder of libcudnn.so.9 into LD_LIBRARY_PATH"
            );
            None
        }
    };
    with_opened(device, |opened| opened.cudnn = Some(cudnn.clone()));
    Ok(cudnn)
}
