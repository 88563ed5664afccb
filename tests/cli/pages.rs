//! Man pages and completions have every option.

use std::path::Path;
use std::process::Command;

use check::args::{Flag, flags};

use crate::fixture::{CHECK, bare, said};

#[test]
fn man_page_and_completions_have_every_option() {
    let pages = Path::new(CHECK).with_file_name("examples").join("pages");
    if !pages.exists() {
        // Built with all targets only.
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    said(bare(&pages).arg(dir.path()).arg("image-check")).fine();
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("a page");
    let man = text("man/man1/image-check.1").replace("\\-", "-");
    let bash = text("bash-completion/completions/image-check");
    let zsh = text("zsh/site-functions/_image-check");
    let fish = text("fish/vendor_completions.d/image-check.fish");
    for word in flags().flat_map(Flag::words) {
        assert!(man.contains(word), "{word}");
        assert!(
            bash.contains(&format!(" {word}")) || bash.contains(&format!("\"{word}")),
            "{word}"
        );
        assert!(zsh.contains(&format!("){word}")), "{word}");
        let bare = word.trim_start_matches('-');
        assert!(fish.contains(&format!(" {bare}")), "{word}");
    }
    assert!(
        man.contains("image-check -qcow2 -g quick") && !man.contains("  check -"),
        "{man}"
    );
    // What bash completes, as a user meets it.
    let script = format!(
        "source {}\nCOMP_WORDS=(image-check --flaky p); COMP_CWORD=2; _image_check\n\
         echo ${{COMPREPLY[@]}}\n\
         COMP_WORDS=(image-check -qco); COMP_CWORD=1; _image_check; echo ${{COMPREPLY[@]}}\n",
        dir.path()
            .join("bash-completion/completions/image-check")
            .display()
    );
    let completed = said(Command::new("bash").args(["-c", &script])).fine();
    assert_eq!(completed, "pass\n-qcow -qcow2\n");
}
