#[global_allocator]
static ALLOCATOR: monosem::kernels::aligned::Aligned = monosem::kernels::aligned::Aligned;

fn main() -> std::process::ExitCode {
    monosem::cli::main()
}
