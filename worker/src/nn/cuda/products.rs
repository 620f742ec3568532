//! cuBLASLt's matrix products. A plan is built once per shape and kept.
//!
//! cuBLAS is column-major and computes `y = x W^T` as `y^T = W x^T`. In its terms the weight is
//! transposed, which is the only layout in which Ada and Hopper multiply fp8.

use std::cell::RefCell;
use std::ffi::c_void;
use std::mem::size_of_val;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::cuda_backend::WrapErr;
use candle_core::{Error, Result};
use lru::LruCache;

use super::plans::MAX_PLANS;

/// Bytes of workspace: NVIDIA's recommendation for Hopper.
const WORKSPACE: usize = 32 << 20;

/// Number of operations above which a product runs at a Hopper GPU's power limit. There the
/// algorithm that needs the least energy is the fastest, not the one with the lowest latency.
const LARGE: f64 = 1e11;

/// Number of algorithms requested from the heuristics.
const CANDIDATES: usize = 8;

/// Types of the factors. The result is bf16, and sums are float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Factors {
    /// bf16.
    Bf16,
    /// E4M3; the scales are not applied.
    Fp8,
    /// E4M3; the result is multiplied by the scales of its row of `x` and of its row of the weight.
    Fp8Scaled,
}

/// What a plan depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Product {
    pub factors: Factors,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Stride between rows of `x`, in elements.
    pub stride: usize,
    pub bias: bool,
}

impl Product {
    /// Number of multiplications and additions.
    fn operations(&self) -> f64 {
        2.0 * self.rows as f64 * self.inputs as f64 * self.outputs as f64
    }
}

/// Addresses; 0 stands for an absent operand.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    /// `[rows, inputs]`.
    pub x: u64,
    /// `[outputs, inputs]`.
    pub weight: u64,
    /// `[rows, outputs]`.
    pub y: u64,
    /// `[outputs]`, bf16.
    pub bias: u64,
    /// `[rows]`, float32.
    pub x_scales: u64,
    /// `[outputs]`, float32.
    pub weight_scales: u64,
}

/// A cuBLASLt handle, its workspace, and the plans built with it.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    stream: Arc<CudaStream>,
    is_hopper: bool,
    /// `None` for a product that cuBLASLt does not support. The least recently used plans are
    /// evicted: every prompt length needs plans of its own. A plan is read only during a launch, so
    /// it may be freed while the device is still working.
    plans: RefCell<LruCache<Product, Option<Plan>>>,
}

impl Products {
    /// Opens cuBLASLt for products on one stream.
    pub fn new(stream: Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().w()?;
        // SAFETY: only cuBLASLt accesses the workspace, and writes it before reading.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.w()?;
        Ok(Self {
            handle: result::create_handle().map_err(Error::wrap)?,
            workspace,
            is_hopper: stream.context().compute_capability().w()?.0 == 9,
            stream,
            plans: RefCell::new(LruCache::new(MAX_PLANS)),
        })
    }

    /// Whether the GPU is of the Hopper generation.
    pub fn is_hopper(&self) -> bool {
        self.is_hopper
    }

    /// Whether a product of such factors has been supported so far; `None` if none has been tried.
    pub fn support(&self, factors: Factors) -> Option<bool> {
        let plans = self.plans.borrow();
        let tried = plans
            .iter()
            .filter(|(product, _)| product.factors == factors);
        tried.map(|(_, plan)| plan.is_some()).reduce(|a, b| a || b)
    }

    /// Enqueues the product. Returns `false` without any effect if cuBLASLt does not support it.
    ///
    /// # Safety
    /// The addresses are of tensors that are alive now and have the product's sizes.
    pub unsafe fn run(&self, product: Product, operands: &Operands) -> bool {
        let mut plans = self.plans.borrow_mut();
        let plan = plans.get_or_insert_mut(product, || {
            let made = self.plan(product, operands);
            match &made {
                Ok(_) => tracing::debug!(?product, "cuBLASLt takes this product"),
                Err(reason) => {
                    tracing::debug!(?product, ?reason, "cuBLASLt does not take this product");
                }
            }
            made.ok()
        });
        let Some(ready) = plan else {
            return false;
        };
        if let Err(reason) = self.launch(ready, product, operands) {
            tracing::warn!(?product, ?reason, "cuBLASLt failed at this product");
            *plan = None;
            return false;
        }
        true
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn plan(&self, product: Product, operands: &Operands) -> Outcome<Plan> {
        let described = Described::new(product)?;
        described.point_at(product, operands)?;
        let preference = Preference(result::create_matmul_pref()?);
        let most = WORKSPACE;
        result::set_matmul_pref_attribute(
            preference.0,
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            (&raw const most).cast(),
            size_of_val(&most),
        )?;
        let found = self.candidates(&described, &preference)?;
        let algorithm = match product.operations() >= LARGE && self.is_hopper {
            true => found.iter().find(|algorithm| prefers_256x128(algorithm)),
            false => None,
        };
        Ok(Plan {
            described,
            // `candidates` returns at least one.
            algorithm: *algorithm.unwrap_or(&found[0]),
        })
    }

    /// The algorithms that cuBLASLt's heuristics suggest, at least one, fastest first.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn candidates(
        &self,
        described: &Described,
        preference: &Preference,
    ) -> Outcome<Vec<sys::cublasLtMatmulAlgo_t>> {
        let mut found: Vec<sys::cublasLtMatmulHeuristicResult_t> =
            vec![std::mem::zeroed(); CANDIDATES];
        let mut count = 0;
        sys::cublasLtMatmulAlgoGetHeuristic(
            self.handle,
            described.product.0,
            described.weight.0,
            described.x.0,
            described.y.0,
            described.y.0,
            preference.0,
            CANDIDATES as i32,
            found.as_mut_ptr(),
            &raw mut count,
        )
        .result()?;
        found.truncate(count as usize);
        match found.is_empty() {
            true => Err(CublasError(
                sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            )),
            false => Ok(found.into_iter().map(|one| one.algo).collect()),
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn launch(&self, plan: &Plan, product: Product, operands: &Operands) -> Outcome<()> {
        let described = &plan.described;
        described.point_at(product, operands)?;
        let (one, zero) = (1f32, 0f32);
        let (workspace, _in_use) = self.workspace.device_ptr(&self.stream);
        result::matmul(
            self.handle,
            described.product.0,
            (&raw const one).cast(),
            (&raw const zero).cast(),
            operands.weight as *const c_void,
            described.weight.0,
            operands.x as *const c_void,
            described.x.0,
            operands.y as *const c_void,
            described.y.0,
            operands.y as *mut c_void,
            described.y.0,
            &raw const plan.algorithm,
            workspace as *mut c_void,
            WORKSPACE,
            self.stream.cu_stream().cast(),
        )
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.plans.get_mut().clear();
        // SAFETY: nothing uses the handle any more. A failure cannot be handled here.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Whether an algorithm uses tiles of 256 x 128. On an H200 at its limit of 700 W, a block's large
/// bf16 products run at 682 and 661 TFLOP/s with these tiles, and at 661 and 648 with the
/// heuristics' first choice (rows of two images, normally distributed values, a fifth of a second
/// each).
fn prefers_256x128(algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
    use sys::cublasLtMatmulAlgoConfigAttributes_t::CUBLASLT_ALGO_CONFIG_TILE_ID;
    let mut tile = 0u32;
    let mut written = 0;
    // SAFETY: the attribute is an unsigned 32-bit number.
    let asked = unsafe {
        sys::cublasLtMatmulAlgoConfigGetAttribute(
            algorithm,
            CUBLASLT_ALGO_CONFIG_TILE_ID,
            (&raw mut tile).cast(),
            size_of_val(&tile),
            &raw mut written,
        )
    };
    asked.result().is_ok() && tile == sys::cublasLtMatmulTile_t::CUBLASLT_MATMUL_TILE_256x128 as u32
}

/// Result of a cuBLASLt call.
type Outcome<T> = std::result::Result<T, CublasError>;

/// A product's description and the algorithm chosen for it.
struct Plan {
    described: Described,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// A product as cuBLASLt describes it.
struct Described {
    product: Description,
    weight: Layout,
    x: Layout,
    y: Layout,
}

impl Described {
    fn new(of: Product) -> Outcome<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let factor = match of.factors {
            Factors::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            Factors::Fp8 | Factors::Fp8Scaled => sys::cudaDataType::CUDA_R_8F_E4M3,
        };
        let product = Description(result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?);
        let transposed = 1i32;
        product.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &transposed)?;
        if of.factors != Factors::Bf16 {
            // Twice as fast, with sums of about 14 bits: still far finer than the factors' 4.
            product.set(Attribute::CUBLASLT_MATMUL_DESC_FAST_ACCUM, &1i8)?;
        }
        if of.factors == Factors::Fp8Scaled {
            let vector =
                sys::cublasLtMatmulMatrixScale_t::CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
            product.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &vector)?;
            product.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &vector)?;
        }
        if of.bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            product.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            let kind = sys::cudaDataType::CUDA_R_16BF;
            product.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &kind)?;
        }
        let layout = |kind, width: usize, count: usize, stride: usize| {
            result::create_matrix_layout(kind, width as u64, count as u64, stride as i64)
                .map(Layout)
        };
        let bf16 = sys::cudaDataType::CUDA_R_16BF;
        Ok(Self {
            product,
            weight: layout(factor, of.inputs, of.outputs, of.inputs)?,
            x: layout(factor, of.inputs, of.rows, of.stride)?,
            y: layout(bf16, of.outputs, of.rows, of.outputs)?,
        })
    }

    /// Sets the operands whose addresses are part of the description.
    fn point_at(&self, of: Product, operands: &Operands) -> Outcome<()> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        if of.bias {
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
            self.product.set(attribute, &operands.bias)?;
        }
        if of.factors == Factors::Fp8Scaled {
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER;
            self.product.set(attribute, &operands.weight_scales)?;
            let attribute = Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER;
            self.product.set(attribute, &operands.x_scales)?;
        }
        Ok(())
    }
}

struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    /// Sets an attribute to a copy of `value`, which has the attribute's C type.
    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Outcome<()> {
        // SAFETY: the description is alive, and `value` is read before the call returns.
        unsafe {
            result::set_matmul_desc_attribute(
                self.0,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of_val(value),
            )
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it was created by cuBLASLt and is freed once. A failure cannot be handled here.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Layout(sys::cublasLtMatrixLayout_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as above.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
