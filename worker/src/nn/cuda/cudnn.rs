//! cuDNN through the C interface of `kernels/cudnn.cpp`: plans, built once per shape, and their
//! execution.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::hash::Hash;
use std::ptr::null_mut;

use candle_core::cuda_backend::cudarc::driver::sys::cuCtxSynchronize;
use candle_core::{bail, CudaDevice, DType, Device, Result, Tensor};
use lru::LruCache;

use super::address::address;
use super::plans::MAX_PLANS;

extern "C" {
    fn ovis_cudnn_open(handle: *mut *mut c_void, error: *mut c_char, size: usize) -> c_int;
    fn ovis_cudnn_version(version: *mut usize, error: *mut c_char, size: usize) -> c_int;
    fn ovis_cudnn_attention(
        handle: *mut c_void,
        q_dims: *const i64,
        q_strides: *const i64,
        kv_dims: *const i64,
        k_strides: *const i64,
        v_strides: *const i64,
        o_strides: *const i64,
        scale: f32,
        causal: c_int,
        plan: *mut *mut c_void,
        workspace: *mut i64,
        error: *mut c_char,
        size: usize,
    ) -> c_int;
    fn ovis_cudnn_attention_fp8(
        handle: *mut c_void,
        q_dims: *const i64,
        q_strides: *const i64,
        kv_dims: *const i64,
        k_strides: *const i64,
        v_strides: *const i64,
        o_strides: *const i64,
        scale: f32,
        causal: c_int,
        unified: c_int,
        plan: *mut *mut c_void,
        workspace: *mut i64,
        error: *mut c_char,
        size: usize,
    ) -> c_int;
    fn ovis_cudnn_convolution(
        handle: *mut c_void,
        is_bf16: c_int,
        x_dims: *const i64,
        x_strides: *const i64,
        w_dims: *const i64,
        w_strides: *const i64,
        y_dims: *const i64,
        y_strides: *const i64,
        stride: i64,
        before: i64,
        after: i64,
        plan: *mut *mut c_void,
        workspace: *mut i64,
        error: *mut c_char,
        size: usize,
    ) -> c_int;
    fn ovis_cudnn_free(plan: *mut c_void);
    fn ovis_cudnn_run(
        handle: *mut c_void,
        plan: *mut c_void,
        stream: *mut c_void,
        pointers: *const u64,
        count: usize,
        workspace: u64,
        error: *mut c_char,
        size: usize,
    ) -> c_int;
}

/// What cuDNN or its C interface says about a failed call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct CudnnError(String);

/// Calls `body` with a buffer for an error message, and returns the message if `body` fails.
fn checked(body: impl FnOnce(*mut c_char, usize) -> c_int) -> std::result::Result<(), CudnnError> {
    let mut error = [0 as c_char; 512];
    if body(error.as_mut_ptr(), error.len()) == 0 {
        return Ok(());
    }
    // SAFETY: the C side terminates its message with a zero within the given size.
    let text = unsafe { CStr::from_ptr(error.as_ptr()) };
    Err(CudnnError(text.to_string_lossy().into_owned()))
}

/// What an attention plan depends on: dimensions and strides in the order batch, heads, tokens,
/// head dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AttentionShape {
    pub q: [i64; 4],
    pub kv: [i64; 4],
    pub q_strides: [i64; 4],
    pub k_strides: [i64; 4],
    pub v_strides: [i64; 4],
    pub o_strides: [i64; 4],
    pub causal: bool,
}

impl AttentionShape {
    /// The factor of the scores.
    fn scale(&self) -> f32 {
        (self.q[3] as f32).powf(-0.5)
    }
}

/// How an fp8 attention is described to cuDNN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Terms {
    /// As a graph of two products and a softmax, which every cuDNN 9 supports.
    Graph,
    /// As one operation, which cuDNN supports from 9.25 on.
    Operation,
}

/// What a convolution plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConvolutionShape {
    pub dtype: DType,
    pub x: [i64; 4],
    pub weight: [i64; 4],
    pub y: [i64; 4],
    /// Whether all three tensors are stored channels-last.
    pub channels_last: bool,
    pub stride: i64,
    pub before: i64,
    pub after: i64,
}

impl ConvolutionShape {
    /// Strides of one of the dense tensors, in the order of its dimensions.
    fn strides(&self, [_, channels, height, width]: &[i64; 4]) -> [i64; 4] {
        match self.channels_last {
            true => [channels * height * width, 1, channels * width, *channels],
            false => [channels * height * width, height * width, *width, 1],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape {
    Attention(AttentionShape),
    AttentionFp8(AttentionShape, Terms),
    Convolution(ConvolutionShape),
}

/// A compiled plan, owned by the C side.
struct Plan {
    plan: *mut c_void,
    workspace: usize,
}

impl Drop for Plan {
    /// Synchronises first, because a plan may own the code of a kernel that is still running.
    fn drop(&mut self) {
        // SAFETY: the plan came from the C side and is freed once. If the synchronisation fails,
        // the device is lost and there is nothing left to do.
        unsafe {
            let _ = cuCtxSynchronize();
            ovis_cudnn_free(self.plan);
        }
    }
}

/// A cuDNN handle and the plans built with it.
pub(super) struct Cudnn {
    handle: *mut c_void,
    /// `None` for a shape that cuDNN does not support. The least recently used plans are evicted:
    /// every prompt length needs an attention plan of its own.
    plans: RefCell<LruCache<Shape, Option<Plan>>>,
}

impl Cudnn {
    /// Opens libcudnn and creates a handle on the current context.
    pub(super) fn open() -> std::result::Result<Self, CudnnError> {
        let mut handle = null_mut();
        // SAFETY: both pointers are valid during the call.
        checked(|error, size| unsafe { ovis_cudnn_open(&mut handle, error, size) })?;
        Ok(Self {
            handle,
            plans: RefCell::new(LruCache::new(MAX_PLANS)),
        })
    }

    /// Name and version of the library, such as `cuDNN 9.28.1`.
    pub(super) fn version(&self) -> String {
        let mut version = 0;
        // SAFETY: the pointer is valid during the call, and `self` exists only once the library
        // is open.
        match checked(|error, size| unsafe { ovis_cudnn_version(&mut version, error, size) }) {
            Ok(()) => {
                let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
                format!("cuDNN {major}.{minor}.{patch}")
            }
            Err(_) => "a cuDNN that does not tell its version".into(),
        }
    }

    /// Number of shapes that were requested and are not supported.
    pub(super) fn refused(&self) -> usize {
        let plans = self.plans.borrow();
        plans.iter().filter(|(_, plan)| plan.is_none()).count()
    }

    /// Calls `with` with the plan of a shape, or with `None` if cuDNN does not support it.
    fn with_plan<T>(&self, shape: Shape, with: impl FnOnce(Option<&Plan>) -> T) -> T {
        let mut plans = self.plans.borrow_mut();
        let plan = plans.get_or_insert(shape.clone(), || self.build(&shape));
        with(plan.as_ref())
    }

    fn build(&self, shape: &Shape) -> Option<Plan> {
        let mut plan = null_mut();
        let mut workspace = 0;
        // SAFETY: the arrays have the four elements that the C side reads and outlive the call.
        let built = checked(|error, size| unsafe {
            match shape {
                Shape::Attention(s) => ovis_cudnn_attention(
                    self.handle,
                    s.q.as_ptr(),
                    s.q_strides.as_ptr(),
                    s.kv.as_ptr(),
                    s.k_strides.as_ptr(),
                    s.v_strides.as_ptr(),
                    s.o_strides.as_ptr(),
                    s.scale(),
                    s.causal.into(),
                    &mut plan,
                    &mut workspace,
                    error,
                    size,
                ),
                Shape::AttentionFp8(s, terms) => ovis_cudnn_attention_fp8(
                    self.handle,
                    s.q.as_ptr(),
                    s.q_strides.as_ptr(),
                    s.kv.as_ptr(),
                    s.k_strides.as_ptr(),
                    s.v_strides.as_ptr(),
                    s.o_strides.as_ptr(),
                    s.scale(),
                    s.causal.into(),
                    (*terms == Terms::Operation).into(),
                    &mut plan,
                    &mut workspace,
                    error,
                    size,
                ),
                Shape::Convolution(s) => ovis_cudnn_convolution(
                    self.handle,
                    (s.dtype == DType::BF16).into(),
                    s.x.as_ptr(),
                    s.strides(&s.x).as_ptr(),
                    s.weight.as_ptr(),
                    s.strides(&s.weight).as_ptr(),
                    s.y.as_ptr(),
                    s.strides(&s.y).as_ptr(),
                    s.stride,
                    s.before,
                    s.after,
                    &mut plan,
                    &mut workspace,
                    error,
                    size,
                ),
            }
        });
        match built {
            Ok(()) => {
                tracing::debug!(?shape, workspace, "cuDNN has a plan for this shape");
                Some(Plan {
                    plan,
                    workspace: workspace as usize,
                })
            }
            Err(reason) => {
                tracing::debug!(?shape, %reason, "cuDNN has no plan for this shape");
                None
            }
        }
    }

    /// Runs the plan of `shape` on `tensors`, in the C side's order. Returns `false` if cuDNN does
    /// not support the shape.
    fn run(&self, device: &CudaDevice, shape: Shape, tensors: &[&Tensor]) -> Result<bool> {
        self.with_plan(shape, |plan| match plan {
            Some(plan) => self.launch(device, plan, tensors).map(|()| true),
            None => Ok(false),
        })
    }

    fn launch(&self, device: &CudaDevice, plan: &Plan, tensors: &[&Tensor]) -> Result<()> {
        // SAFETY: only cuDNN accesses its workspace, and writes it before reading.
        let workspace = unsafe {
            Tensor::empty(
                plan.workspace.max(1),
                DType::U8,
                &Device::Cuda(device.clone()),
            )?
        };
        let pointers = tensors
            .iter()
            .map(|tensor| address(tensor))
            .collect::<Result<Vec<u64>>>()?;
        let workspace_at = address(&workspace)?;
        let stream = device.cuda_stream();
        // SAFETY: the plan was built for tensors of these shapes and strides.
        let ran = checked(|error, size| unsafe {
            ovis_cudnn_run(
                self.handle,
                plan.plan,
                stream.cu_stream().cast(),
                pointers.as_ptr(),
                pointers.len(),
                workspace_at,
                error,
                size,
            )
        });
        match ran {
            Ok(()) => Ok(()),
            Err(reason) => bail!("cuDNN failed: {reason}"),
        }
    }

    /// Attention of bf16 tensors.
    pub(super) fn attention(
        &self,
        device: &CudaDevice,
        shape: AttentionShape,
        [q, k, v, out]: [&Tensor; 4],
    ) -> Result<bool> {
        self.run(device, Shape::Attention(shape), &[q, k, v, out])
    }

    /// Whether cuDNN supports this attention of E4M3 tensors.
    pub(super) fn supports_fp8(&self, shape: &AttentionShape, terms: Terms) -> bool {
        let shape = Shape::AttentionFp8(shape.clone(), terms);
        self.with_plan(shape, |plan| plan.is_some())
    }

    /// Attention of E4M3 tensors: q, k, v and the output, then the scalars that
    /// `ovis_cudnn_attention_fp8` lists.
    pub(super) fn attention_fp8(
        &self,
        device: &CudaDevice,
        shape: AttentionShape,
        terms: Terms,
        tensors: [&Tensor; 12],
    ) -> Result<bool> {
        self.run(device, Shape::AttentionFp8(shape, terms), &tensors)
    }

    /// Convolution of dense tensors.
    pub(super) fn convolution(
        &self,
        device: &CudaDevice,
        shape: ConvolutionShape,
        [x, weight, y]: [&Tensor; 3],
    ) -> Result<bool> {
        self.run(device, Shape::Convolution(shape), &[x, weight, y])
    }
}
