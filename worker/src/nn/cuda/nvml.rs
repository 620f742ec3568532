//! What processes take of a GPU's memory, by NVIDIA's management library.

use std::ffi::{c_char, c_int, c_uint, c_void, CString};
use std::mem;

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::CudaDevice;

use super::open::{open_library, Library};
use crate::nn::memory::ProcessBytes;

/// Most processes that are looked at.
const PROCESSES: usize = 256;

/// `nvmlMemory_t`.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlProcessInfo_t` of `nvmlDeviceGetComputeRunningProcesses_v3`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Process {
    pid: c_uint,
    used: u64,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// A handle of a GPU.
type Handle = *mut c_void;

/// See [`process_memory`](crate::nn::process_memory). `None` without the library.
pub fn processes(device: &CudaDevice) -> Option<ProcessBytes> {
    let library = open_library(c"libnvidia-ml.so.1").ok()?;
    let gpu = device.cuda_stream().context().cu_device();
    let id = result::device::get_uuid(gpu).ok()?;
    let name = CString::new(uuid_text(id.bytes.map(|byte| byte as u8))).ok()?;
    // SAFETY: the signatures of nvml.h, with memory of the types and sizes that it names.
    unsafe {
        let init: unsafe extern "C" fn() -> c_int = function(library, c"nvmlInit_v2")?;
        let by_uuid: unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int =
            function(library, c"nvmlDeviceGetHandleByUUID")?;
        let memory_info: unsafe extern "C" fn(Handle, *mut Memory) -> c_int =
            function(library, c"nvmlDeviceGetMemoryInfo")?;
        let running: unsafe extern "C" fn(Handle, *mut c_uint, *mut Process) -> c_int =
            function(library, c"nvmlDeviceGetComputeRunningProcesses_v3")?;
        // The library counts its users; it stays open as the driver does.
        succeeded(init())?;
        let mut handle: Handle = std::ptr::null_mut();
        succeeded(by_uuid(name.as_ptr(), &raw mut handle))?;
        let mut memory = Memory::default();
        succeeded(memory_info(handle, &raw mut memory))?;
        let mut found = [Process::default(); PROCESSES];
        let mut count = PROCESSES as c_uint;
        let listed = succeeded(running(handle, &raw mut count, found.as_mut_ptr()));
        let known = listed.map_or(0, |()| (count as usize).min(PROCESSES));
        let own = found[..known]
            .iter()
            .find(|process| process.pid == std::process::id());
        Some(ProcessBytes {
            // The library gives u64::MAX where it does not know.
            own: own
                .map(|process| process.used)
                .filter(|used| *used != u64::MAX),
            all: memory.used,
            total: memory.total,
        })
    }
}

fn succeeded(status: c_int) -> Option<()> {
    (status == 0).then_some(())
}

/// A function of the library.
///
/// # Safety
/// `F` is a function pointer with the signature of this name.
unsafe fn function<F: Copy>(library: Library, name: &std::ffi::CStr) -> Option<F> {
    let address = library.function(name).ok()?;
    // SAFETY: a pointer of the same size, with the signature that the caller names.
    Some(unsafe { mem::transmute_copy(&address) })
}

/// A GPU's identifier as the library takes it: `GPU-` and 32 digits in groups.
fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::from("GPU");
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_groups() {
        let bytes: Vec<u8> = (0..16).map(|i| i * 17).collect();
        let text = uuid_text(bytes.try_into().unwrap());
        assert_eq!(text, "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }
}
