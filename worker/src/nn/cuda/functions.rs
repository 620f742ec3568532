//! CUDA's functions as slots that are filled at run time.
//!
//! candle and cudarc call the functions of CUDA's libraries by their names, as if the program were
//! linked with the libraries. Then it would start only where all of them exist. Instead, each name
//! is defined here as a jump to an address in a slot, and [`open`](super::open) fills the slots with
//! the addresses of the libraries that it opens. A name that is missing here is an undefined symbol
//! for the linker.

use std::arch::naked_asm;
use std::ffi::{c_int, c_void, CStr};
use std::sync::atomic::{AtomicPtr, Ordering};

/// One function of a library: its name, and where its address goes.
pub struct Function {
    /// The name that the library exports.
    pub name: &'static CStr,
    slot: &'static AtomicPtr<c_void>,
}

impl Function {
    /// Makes the function callable.
    ///
    /// # Safety
    /// `address` is that of a function with the C signature of this name, in a library that is
    /// never closed.
    pub unsafe fn fill(&self, address: *mut c_void) {
        self.slot.store(address, Ordering::Release);
    }
}

/// `$list`: a library's functions. Until a function's slot is filled, it returns `$unopened`, the
/// library's status code for "not initialized".
macro_rules! functions {
    ($(#[$doc:meta])* $list:ident, $unopened:literal, [$($name:ident)*]) => {
        $(#[$doc])*
        pub const $list: &[Function] = &[$($name::FUNCTION),*];

        $(#[allow(non_snake_case)]
        mod $name {
            use super::{c_int, c_void, naked_asm, AtomicPtr, Function};

            extern "C" fn unopened() -> c_int {
                $unopened
            }

            static SLOT: AtomicPtr<c_void> =
                AtomicPtr::new(unopened as extern "C" fn() -> c_int as *mut c_void);

            pub const FUNCTION: Function = Function {
                name: match super::CStr::from_bytes_with_nul(
                    concat!(stringify!($name), "\0").as_bytes(),
                ) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                },
                slot: &SLOT,
            };

            // SAFETY: the name is that of the library's function, which this stands for; the
            // library is not linked. The jump changes no argument, and no register that the
            // calling convention keeps.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "C" fn $name() {
                #[cfg(target_arch = "x86_64")]
                naked_asm!("jmp qword ptr [rip + {slot}]", slot = sym SLOT);
                #[cfg(target_arch = "aarch64")]
                naked_asm!(
                    "adrp x16, {slot}",
                    "ldr x16, [x16, :lo12:{slot}]",
                    "br x16",
                    slot = sym SLOT,
                );
            }
        })*
    };
}

functions! {
    /// Of the driver, `libcuda.so.1`. The status is `CUDA_ERROR_NOT_INITIALIZED`.
    DRIVER, 3, [
        cuCtxDestroy_v2 cuCtxGetCurrent cuCtxSetCurrent cuCtxSynchronize cuDeviceGet
        cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetDefaultMemPool cuDeviceGetMemPool
        cuDeviceGetName cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain
        cuDeviceSetMemPool cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventSynchronize
        cuFuncSetAttribute cuGetErrorString cuInit cuLaunchHostFunc cuLaunchKernel cuMemAllocAsync
        cuMemAlloc_v2 cuMemFreeAsync cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc
        cuMemPoolCreate cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute
        cuMemPoolTrimTo cuMemcpyDtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyHtoDAsync_v2
        cuMemcpyPeerAsync cuMemsetD8Async cuModuleGetFunction cuModuleLoad cuModuleLoadData
        cuModuleUnload cuStreamCreate cuStreamDestroy_v2 cuStreamIsCapturing cuStreamSynchronize
        cuStreamWaitEvent cuTensorMapEncodeTiled
    ]
}

functions! {
    /// Of `libcublas.so.13`. The status is `CUBLAS_STATUS_NOT_INITIALIZED`.
    CUBLAS, 1, [
        cublasCreate_v2 cublasDestroy_v2 cublasDgemmStridedBatched cublasGemmStridedBatchedEx
        cublasSetStream_v2
    ]
}

functions! {
    /// Of `libcublasLt.so.13`. The status is `CUBLAS_STATUS_NOT_INITIALIZED`.
    CUBLAS_LT, 1, [
        cublasLtCreate cublasLtDestroy cublasLtMatmul cublasLtMatmulAlgoConfigGetAttribute
        cublasLtMatmulAlgoGetHeuristic cublasLtMatmulDescCreate cublasLtMatmulDescDestroy
        cublasLtMatmulDescSetAttribute cublasLtMatmulPreferenceCreate
        cublasLtMatmulPreferenceDestroy cublasLtMatmulPreferenceSetAttribute
        cublasLtMatrixLayoutCreate cublasLtMatrixLayoutDestroy
    ]
}

functions! {
    /// Of `libcurand.so.10`. The status is `CURAND_STATUS_NOT_INITIALIZED`.
    CURAND, 101, [
        curandCreateGenerator curandDestroyGenerator curandGenerateNormal
        curandGenerateNormalDouble curandSetPseudoRandomGeneratorSeed curandSetStream
    ]
}
