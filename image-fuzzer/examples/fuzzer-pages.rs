//! Writes the man pages and the completions of the fuzzer, from the options themselves, below a
//! folder: `cargo run --example fuzzer-pages -- PREFIX/share`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap_complete::{Shell, generate_to};

const NAME: &str = "image-fuzzer";

fn main() -> Result<()> {
    let share = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: fuzzer-pages DIR")?;
    let command = image_fuzzer::cli::command();
    let folder = |name: &str| -> Result<PathBuf> {
        let dir = share.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    };
    clap_mangen::generate_to(command.clone(), folder("man/man1")?)?;
    for (shell, dir) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let dir = folder(dir)?;
        let file = generate_to(shell, &mut command.clone(), NAME, &dir)?;
        if shell == Shell::Bash {
            // Found by the name of the program.
            std::fs::rename(file, dir.join(NAME))?;
        }
    }
    Ok(())
}
