//! `image-fuzzer`: makes corrupted images and checks what programs do with them.

fn main() -> std::process::ExitCode {
    image_fuzzer::cli::main()
}
