//! Why the worker cannot use a GPU.

/// The oldest CUDA version that a driver may support: that of the libraries the worker opens.
pub const MIN_CUDA: (i32, i32) = (13, 0);

/// The lowest compute capability: candle's kernels and ours are built from Ampere on.
pub const MIN_CAPABILITY: (i32, i32) = (8, 0);

/// Why a GPU cannot be used. The text is a clause, to follow a colon; [`hint`](Self::hint) says
/// what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoGpu {
    /// The program has no code for GPUs.
    #[error("this ovis-worker was built without GPU support")]
    NotBuilt,
    /// The driver's library does not exist or cannot be opened.
    #[error("there is no NVIDIA driver ({0})")]
    NoDriver(String),
    /// The driver is older than the CUDA libraries.
    #[error(
        "the NVIDIA driver supports CUDA {major}.{minor}, and ovis-worker needs {}.{}",
        MIN_CUDA.0, MIN_CUDA.1
    )]
    OldDriver {
        /// Major number of the newest CUDA version that the driver supports.
        major: i32,
        /// Its minor number.
        minor: i32,
    },
    /// The driver does not start, for example because it finds no GPU.
    #[error("the NVIDIA driver offers no GPU ({0})")]
    NoDevice(String),
    /// The number is too high.
    #[error("there is no GPU {ordinal}; the driver counts {count}")]
    NoSuchGpu {
        /// The number that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU's generation is too old.
    #[error(
        "GPU {ordinal} has compute capability {major}.{minor}, and ovis-worker needs {}.{}",
        MIN_CAPABILITY.0, MIN_CAPABILITY.1
    )]
    OldGpu {
        /// The GPU's number.
        ordinal: usize,
        /// Major number of its compute capability.
        major: i32,
        /// Minor number.
        minor: i32,
    },
    /// One of CUDA's libraries does not exist or cannot be opened.
    #[error("CUDA's library {name} cannot be opened ({why})")]
    NoLibrary {
        /// The file's name.
        name: &'static str,
        /// The system's words.
        why: String,
    },
}

impl NoGpu {
    /// What to do about it, as a sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotBuilt => {
                "On Linux, `pip install ovis-worker-bin` installs one with GPU support; in a \
                 clone of its repository, `worker/cuda-toolchain build` makes one."
            }
            Self::NoDriver(_) | Self::OldDriver { .. } => {
                "Install NVIDIA's driver 580 or newer to use the GPU."
            }
            Self::NoDevice(_) | Self::NoSuchGpu { .. } => {
                "nvidia-smi lists the GPUs of this machine; a container must be given them."
            }
            Self::OldGpu { .. } => "Use a GPU of the Ampere generation or newer, or --device cpu.",
            Self::NoLibrary { .. } => {
                "Install CUDA 13's libraries: `pip install \"ovis-worker-bin[cuda]\"` in a Python \
                 environment of its own brings them, a PyTorch for CUDA 13 has them, and \
                 LD_LIBRARY_PATH can name their folder."
            }
        }
    }
}
