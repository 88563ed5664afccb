//! `image-fuzzer`: makes images that lie and judges what programs do with them.

fn main() -> std::process::ExitCode {
    image_fuzzer::cli::main()
}
