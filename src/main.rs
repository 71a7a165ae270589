//! The `smartrouter` command.

mod cli;

/// Records come and go by the million, each in a dozen small pieces: with the C library's allocator a quarter of the CPU goes here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
