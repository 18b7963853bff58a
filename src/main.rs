fn main() -> std::process::ExitCode {
    monosem::cli::main()
}
