//! `image-fuzzer`: makes corrupted disk images and checks programs for crashes, hangs and
//! corruption.

fn main() -> std::process::ExitCode {
    image_fuzzer::cli::main()
}
