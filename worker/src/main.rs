//! The `ovis-worker` program.

fn main() -> std::process::ExitCode {
    ovis_worker::cli::main()
}
