//! Opens CUDA's libraries at run time, so that the same program runs where they do not exist.

use std::ffi::{c_int, c_void, CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, mem, ptr};

use candle_core::cuda_backend::cudarc::driver::{result, sys};

use super::functions::{Function, CUBLAS, CUBLAS_LT, CURAND, DRIVER};
use crate::nn::no_gpu::{NoGpu, MIN_CAPABILITY, MIN_CUDA};

const DRIVER_NAME: &CStr = c"libcuda.so.1";

/// The libraries that must exist, in an order in which each depends only on earlier ones.
const LIBRARIES: [(&CStr, &[Function]); 3] = [
    (c"libcublasLt.so.13", CUBLAS_LT),
    (c"libcublas.so.13", CUBLAS),
    (c"libcurand.so.10", CURAND),
];

/// What cuDNN is opened with later, by name. Libraries that are already open are found by name even
/// if they are in no folder that the system searches.
const OPTIONAL: [&CStr; 3] = [
    c"libnvrtc-builtins.so.13.0",
    c"libnvrtc.so.13",
    c"libcudnn.so.9",
];

/// Checks that the GPU of a number can be used, and opens CUDA's libraries first, once per process.
///
/// # Errors
/// The driver, a library or the GPU is missing or too old.
pub fn check_gpu(ordinal: usize) -> Result<(), NoGpu> {
    static OPENED: OnceLock<Result<(), NoGpu>> = OnceLock::new();
    OPENED.get_or_init(open).clone()?;
    let failed = |error: result::DriverError| NoGpu::NoDevice(error.to_string());
    let count = result::device::get_count().map_err(failed)?;
    let count = usize::try_from(count).unwrap_or_default();
    if ordinal >= count {
        return Err(NoGpu::NoSuchGpu { ordinal, count });
    }
    let device = result::device::get(ordinal as c_int).map_err(failed)?;
    // SAFETY: `device` is one of the driver's devices.
    let capability = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    use sys::CUdevice_attribute as Attribute;
    let major = capability(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    let minor = capability(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    let (major, minor) = (major.map_err(failed)?, minor.map_err(failed)?);
    match (major, minor) >= MIN_CAPABILITY {
        true => Ok(()),
        false => Err(NoGpu::OldGpu {
            ordinal,
            major,
            minor,
        }),
    }
}

/// Opens the driver and all libraries, and fills the slots of their functions.
fn open() -> Result<(), NoGpu> {
    let driver = open_library(DRIVER_NAME).map_err(NoGpu::NoDriver)?;
    let (major, minor) = supported_cuda(driver)?;
    // An older driver also lacks some of the functions.
    if (major, minor) < MIN_CUDA {
        return Err(NoGpu::OldDriver { major, minor });
    }
    fill(driver, DRIVER).map_err(NoGpu::NoDriver)?;
    result::init().map_err(|error| NoGpu::NoDevice(error.to_string()))?;
    let folders = library_folders(std::env::current_exe().ok().as_deref());
    for (name, functions) in LIBRARIES {
        open_anywhere(name, &folders)
            .and_then(|library| fill(library, functions))
            .map_err(|why| NoGpu::NoLibrary {
                name: name.to_str().unwrap_or_default(),
                why,
            })?;
    }
    for name in OPTIONAL {
        // The use of cuDNN reports its absence.
        let _ = open_anywhere(name, &folders);
    }
    Ok(())
}

/// The newest CUDA version that a driver supports.
fn supported_cuda(driver: Library) -> Result<(i32, i32), NoGpu> {
    let address = driver
        .function(c"cuDriverGetVersion")
        .map_err(NoGpu::NoDriver)?;
    let mut version: c_int = 0;
    // SAFETY: the signature of `cuDriverGetVersion`, which may be called before `cuInit`.
    let status = unsafe {
        let get: unsafe extern "C" fn(*mut c_int) -> c_int = mem::transmute(address);
        get(&raw mut version)
    };
    match status {
        0 => Ok((version / 1000, version % 1000 / 10)),
        status => Err(NoGpu::NoDevice(format!("its version: status {status}"))),
    }
}

/// A library that is never closed.
#[derive(Clone, Copy)]
pub(super) struct Library(ptr::NonNull<c_void>);

impl Library {
    /// The address of a function; an error names it.
    pub(super) fn function(self, name: &CStr) -> Result<*mut c_void, String> {
        // SAFETY: the handle of an open library, and a C string.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        match address.is_null() {
            true => Err(format!("it has no function {}", name.to_string_lossy())),
            false => Ok(address),
        }
    }
}

fn fill(library: Library, functions: &[Function]) -> Result<(), String> {
    for function in functions {
        let address = library.function(function.name)?;
        // SAFETY: the library's function of this name; libraries are never closed.
        unsafe { function.fill(address) };
    }
    Ok(())
}

/// Opens a library that the system finds (by `LD_LIBRARY_PATH`, for example), or one in `folders`.
fn open_anywhere(name: &CStr, folders: &[PathBuf]) -> Result<Library, String> {
    let by_name = open_library(name);
    if by_name.is_ok() {
        return by_name;
    }
    for folder in folders {
        let path = folder.join(name.to_str().unwrap_or_default());
        if path.is_file() {
            let path = CString::new(path.into_os_string().into_encoded_bytes());
            return path
                .map_err(|error| error.to_string())
                .and_then(|path| open_library(&path));
        }
    }
    by_name
}

/// Opens a library by name or path; the error is the system's text.
pub(super) fn open_library(name: &CStr) -> Result<Library, String> {
    // SAFETY: a C string. NVIDIA's libraries may be loaded by any program.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    ptr::NonNull::new(handle).map(Library).ok_or_else(|| {
        // SAFETY: `dlerror` returns null or a C string that lives until this thread's next call.
        let text = unsafe { libc::dlerror() };
        match text.is_null() {
            true => "without a reason".into(),
            false => unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned(),
        }
    })
}

/// The folders of CUDA's libraries in the Python environment that a program is installed in.
///
/// NVIDIA's packages, on which PyTorch depends, put them into `nvidia/cu13/lib` and, for cuDNN,
/// `nvidia/cudnn/lib` beside the other packages: `lib/python3.X/site-packages` of a virtual or user
/// environment, `dist-packages` in Debian's, and the folder itself after `pip install --target`.
/// cuDNN for CUDA 12 has the same folder and file names, and needs CUDA 12's libraries; its folder
/// is left out.
fn library_folders(program: Option<&Path>) -> Vec<PathBuf> {
    let Some(prefix) = program.and_then(|program| program.parent()?.parent()) else {
        return Vec::new();
    };
    let mut packages = vec![prefix.to_path_buf()];
    for lib in ["lib", "lib64"] {
        for python in sorted(&prefix.join(lib)) {
            let name = python.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b"python3") {
                packages.push(python.join("site-packages"));
                packages.push(python.join("dist-packages"));
            }
        }
    }
    packages
        .iter()
        .flat_map(|folder| {
            let cudnn = has_cudnn_13(folder).then(|| folder.join("nvidia/cudnn/lib"));
            [Some(folder.join("nvidia/cu13/lib")), cudnn]
        })
        .flatten()
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Whether a folder of Python packages has cuDNN for CUDA 13, by the package's description.
fn has_cudnn_13(packages: &Path) -> bool {
    sorted(packages).iter().any(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b"nvidia_cudnn_cu13-") && name.ends_with(b".dist-info")
    })
}

/// The entries of a folder in alphabetical order; none if it cannot be read.
fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_beside_the_program_in_each_kind_of_environment() {
        let root = tempfile::tempdir().unwrap();
        for (prefix, packages) in [
            ("venv", "lib/python3.12/site-packages"),
            ("fedora", "lib64/python3.13/site-packages"),
            ("debian", "lib/python3/dist-packages"),
            ("target", ""),
        ] {
            let prefix = root.path().join(prefix);
            let packages = prefix.join(packages);
            let [cuda, cudnn] =
                ["cu13", "cudnn"].map(|name| packages.join("nvidia").join(name).join("lib"));
            for folder in [
                &cuda,
                &cudnn,
                &packages.join("nvidia_cudnn_cu12-9.10.2.21.dist-info"),
            ] {
                fs::create_dir_all(folder).unwrap();
            }
            let found = || library_folders(Some(&prefix.join("bin/ovis-worker")));
            assert_eq!(found(), std::slice::from_ref(&cuda));
            fs::create_dir(packages.join("nvidia_cudnn_cu13-9.20.0.48.dist-info")).unwrap();
            assert_eq!(found(), [cuda, cudnn]);
        }
        assert!(library_folders(Some(&root.path().join("bin/ovis-worker"))).is_empty());
        assert!(library_folders(None).is_empty());
    }

    #[test]
    fn a_library_that_is_missing_is_named_by_the_system() {
        let why = open_anywhere(c"libovis-nothing.so.1", &[]).err().unwrap();
        assert!(why.contains("libovis-nothing.so.1"), "{why}");
    }
}
