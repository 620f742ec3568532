//! The `ovis-worker` program.

/// Every operation makes tensors of megabytes and drops them. The system's
/// allocator gives such memory back and asks for it again, which costs a fifth
/// of a CPU's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ovis_worker::cli::main()
}
