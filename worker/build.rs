//! With the `cuda` feature, compiles `kernels/*.cu` with nvcc and the cuDNN interface with the C++
//! compiler. `worker/cuda-toolchain` sets the environment variables that this reads.

#[cfg(feature = "cuda")]
fn main() {
    cuda::kernels();
    cuda::cudnn();
    cuda::link();
}

#[cfg(not(feature = "cuda"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::{env, fs};

    /// Machine code for Ampere (which 8.6 and 8.9 run as well), Hopper and both kinds of Blackwell,
    /// and PTX that the driver compiles for any other GPU newer than Hopper.
    const TARGETS: [&str; 5] = [
        "arch=compute_80,code=sm_80",
        "arch=compute_90,code=sm_90",
        "arch=compute_100,code=sm_100",
        "arch=compute_120,code=sm_120",
        "arch=compute_90,code=compute_90",
    ];

    /// The same from Ada (8.9) on, the first generation with 8-bit floats.
    const FP8_TARGETS: [&str; 5] = [
        "arch=compute_89,code=sm_89",
        "arch=compute_90,code=sm_90",
        "arch=compute_100,code=sm_100",
        "arch=compute_120,code=sm_120",
        "arch=compute_90,code=compute_90",
    ];

    /// For kernels with instructions that only Hopper has.
    const HOPPER_TARGETS: [&str; 1] = ["arch=compute_90a,code=sm_90a"];

    /// Reads an environment variable and makes cargo rerun this script when it changes.
    fn variable(name: &str) -> Option<String> {
        println!("cargo:rerun-if-env-changed={name}");
        env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn toolkit() -> Option<PathBuf> {
        variable("CUDA_HOME")
            .or_else(|| variable("CUDA_PATH"))
            .map(PathBuf::from)
    }

    /// Compiles every `kernels/NAME.cu` to `OUT_DIR/NAME.fatbin`.
    pub fn kernels() {
        println!("cargo:rerun-if-changed=kernels");
        let nvcc = toolkit().map_or_else(|| "nvcc".into(), |home| home.join("bin/nvcc"));
        let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
        for entry in fs::read_dir("kernels").expect("kernels/ lies beside build.rs") {
            let source = entry.expect("kernels/ is readable").path();
            if source
                .extension()
                .is_some_and(|extension| extension == "cu")
            {
                compile(&nvcc, &source, &out);
            }
        }
    }

    fn compile(nvcc: &Path, source: &Path, out: &Path) {
        let name = source.file_stem().expect("a kernel file has a name");
        let mut command = Command::new(nvcc);
        command.args(["-fatbin", "-O3", "-std=c++17"]);
        let targets: &[&str] = match name.to_str() {
            Some("fp8" | "fp8_heads") => &FP8_TARGETS,
            Some("hopper_product") => &HOPPER_TARGETS,
            _ => &TARGETS,
        };
        for target in targets {
            command.args(["-gencode", target]);
        }
        command
            .arg(source)
            .arg("-o")
            .arg(out.join(name).with_extension("fatbin"));
        match command.status() {
            Ok(status) if status.success() => (),
            Ok(status) => panic!("nvcc failed on {} ({status})", source.display()),
            Err(e) => panic!(
                "nvcc cannot be started as {} ({e}). On a machine without a CUDA toolkit, \
                 build with worker/cuda-toolchain build.",
                nvcc.display()
            ),
        }
    }

    /// Compiles the C interface to cuDNN, which needs only its headers.
    pub fn cudnn() {
        let mut includes: Vec<PathBuf> = variable("OVIS_CUDNN_INCLUDE")
            .map(|paths| env::split_paths(&paths).collect())
            .unwrap_or_default();
        if let Some(home) = toolkit() {
            includes.push(home.join("include"));
        }
        if !includes
            .iter()
            .any(|dir| dir.join("cudnn_frontend.h").exists())
        {
            panic!(
                "cudnn_frontend.h is in none of {includes:?}. Set OVIS_CUDNN_INCLUDE to the \
                 headers of cuDNN 9 and of cudnn-frontend, separated by a colon, or build with \
                 worker/cuda-toolchain build."
            );
        }
        let mut build = cc::Build::new();
        for dir in includes {
            // As system headers, so that their warnings are not shown.
            build.flag("-isystem").flag(dir.display().to_string());
        }
        build
            .cpp(true)
            .std("c++17")
            .opt_level(2)
            .file("kernels/cudnn.cpp")
            .compile("ovis_cudnn");
    }

    /// No CUDA library is linked but the static runtime of candle's kernels: `src/nn/cuda/functions.rs`
    /// defines their functions, and the libraries are opened at run time. Those that candle and
    /// cudarc name for the linker are empty archives in a folder of the toolchain script.
    pub fn link() {
        if let Some(dir) = variable("OVIS_CUDA_LINK_DIR") {
            println!("cargo:rustc-link-search=native={dir}");
        }
        // The binary finds the libraries that the toolchain script has fetched by their absolute
        // paths. Elsewhere it finds those of its Python environment, or needs LD_LIBRARY_PATH.
        for dir in variable("OVIS_CUDA_RUN_DIRS")
            .iter()
            .flat_map(env::split_paths)
        {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
        }
    }
}
