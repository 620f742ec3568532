//! The `ovis-worker` program.

/// mimalloc instead of the system's allocator. Every operation allocates and frees tensors of
/// several megabytes. The system's allocator returns such memory to the kernel each time and maps
/// it again, which takes a fifth of the CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ovis_worker::cli::main()
}
