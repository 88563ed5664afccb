//! What the README shows is run: every `console` block, line by line.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The lines of the README's console blocks: each command with the output that
/// is shown under it.
fn commands(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            found.push((command.to_owned(), Vec::new()));
        } else if let Some((_, shown)) = found.last_mut().filter(|_| inside) {
            shown.push(line.to_owned());
        }
    }
    found
}

/// The README's shell blocks, whole.
fn blocks(readme: &str) -> Vec<String> {
    let parts = readme.split("```sh\n").skip(1);
    let ends = parts.filter_map(|part| part.split_once("```"));
    ends.map(|(block, _)| block.to_owned()).collect()
}

/// The program of another package of this workspace, as built beside `check`.
fn sibling(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_check")).with_file_name(name)
}

#[test]
fn every_console_line_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let commands = commands(&readme);
    assert!(commands.len() >= 8, "the README shows too few commands");
    let work = tempfile::tempdir().expect("a directory");
    let fuzzer = sibling("image-fuzzer");
    for (line, shown) in commands {
        if line.starts_with("image-fuzzer ") && !fuzzer.exists() {
            // Only `cargo test --workspace` builds it.
            continue;
        }
        let line = line.replace("WORK", work.path().join("work").to_str().expect("UTF-8"));
        let script = format!(
            "check() {{ {} \"$@\"; }}\nfuzz() {{ {} \"$@\"; }}\n{}",
            env!("CARGO_BIN_EXE_check"),
            fuzzer.display(),
            line.replace("./check", "check")
                .replace("image-fuzzer", "fuzz"),
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(root)
            .env("TEST_DIR", work.path().join("scratch"))
            .env_remove("CI")
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stdout);
        // 3: the fuzzer found something, which is fine for the README.
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{line}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for wanted in shown {
            assert!(
                said.contains(&wanted),
                "{line} does not print {wanted:?}:\n{said}"
            );
        }
    }
}

/// The fuzzer's longer examples, with seconds in place of minutes, and a script in place of
/// a wrapper in a build of QEMU.
#[test]
fn the_fuzzer_s_shell_blocks_of_the_readme_work() {
    let fuzzer = sibling("image-fuzzer");
    if !fuzzer.exists() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(home.path().join("qemu/build")).expect("a directory");
    let wrapper = home.path().join("qemu/wrapper");
    std::fs::write(&wrapper, "#!/bin/sh\nexec qemu-img \"$@\"\n").expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).expect("a mode");
    let blocks = blocks(&readme);
    let examples = blocks.iter().filter(|it| it.contains("image-fuzzer -d"));
    let mut count = 0;
    for (number, block) in examples.enumerate() {
        assert!(block.contains(" -d 60 "), "{block}");
        let script = block
            .replace("image-fuzzer", &fuzzer.display().to_string())
            .replace(" -d 60 ", " --tests 40 ")
            .replace("WORK", &format!("work{number}"));
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(home.path())
            .env("HOME", home.path())
            .output()
            .expect("bash");
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{block}\n{output:?}"
        );
        count += 1;
    }
    assert_eq!(count, 2, "the README shows other examples");
}

#[test]
fn the_two_set_up_commands_are_what_the_checks_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let makefile = std::fs::read_to_string(root.join("Makefile")).expect("the Makefile");
    for target in ["check-block", "check"] {
        assert!(readme.contains(&format!("\nmake {target} ")));
        assert!(makefile.contains(&format!("\n{target}: deps-there\n")));
    }
    let ci = std::fs::read_to_string(root.join(".ci/run")).expect("what decides");
    assert!(ci.contains("\nmake check\n"));
    // Whatever can be made is made there.
    let targets = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "));
    for target in targets.flat_map(str::split_whitespace) {
        let made = ci.lines().filter(|line| line.starts_with("make "));
        let made = made
            .flat_map(str::split_whitespace)
            .any(|word| word == target);
        assert!(
            made || target == "deps-there",
            ".ci/run does not make {target}"
        );
    }
}
