//! Our own layout: declared groups, new tests.

use std::path::Path;

use crate::fixture::{CHECK, bare, said, script};

/// An empty suite in our layout, with two groups.
fn suite() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for sub in ["iotests/cases", "goldens", "groups"] {
        std::fs::create_dir_all(dir.path().join(sub)).expect("a directory");
    }
    let groups = "quick  takes a second\nrw     reads and writes\n";
    std::fs::write(dir.path().join("groups/groups"), groups).expect("written");
    dir
}

fn check(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = bare(CHECK.as_ref());
    command.args(args).current_dir(dir);
    command
}

fn case(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join("iotests/cases").join(name), text).expect("written");
}

#[test]
fn groups_must_be_declared() {
    let dir = suite();
    let dir = dir.path();
    case(dir, "001.rs", "//! A.\n//!\n//! group: rw\n");
    script(&dir.join("iotests/cases/002"), "# B.\n#\n# group: quick\n");
    std::fs::write(dir.join("groups/group.local"), "1 quick\n").expect("written");
    assert_eq!(
        said(&mut check(dir, &["-n", "-g", "quick"])).fine(),
        "001\n002\n"
    );
    let listed = said(&mut check(dir, &["--list-groups"])).fine();
    assert_eq!(
        listed,
        "quick     2  takes a second\nrw        1  reads and writes\n"
    );
    let err = said(&mut check(dir, &["-n", "-g", "qick"])).failed(1);
    assert!(
        err.starts_with("check: -g: group 'qick' is not declared in "),
        "{err}"
    );
    assert!(err.ends_with("did you mean 'quick'?\n"), "{err}");
    case(dir, "003.rs", "//! C.\n//!\n//! group: rw slwo\n");
    let err = said(&mut check(dir, &["-n"])).failed(1);
    assert!(
        err.starts_with("check: iotests/cases/003.rs:3: group 'slwo' is not declared"),
        "{err}"
    );
    case(
        dir,
        "003.rs",
        "//! C.\n//!\n//! group: rw\n//! supportd_fmt: raw\n",
    );
    let err = said(&mut check(dir, &["-n"])).failed(1);
    let want = "check: iotests/cases/003.rs:4: unknown word 'supportd_fmt'; did you mean \
                'supported_fmt'?\n";
    assert_eq!(err, want);
    std::fs::remove_file(dir.join("iotests/cases/003.rs")).expect("removed");
    let script_with = |line: &str| {
        script(
            &dir.join("iotests/cases/003"),
            &format!("# C.\n#\n# {line}\n"),
        );
        said(&mut check(dir, &["-n"])).failed(1)
    };
    let want = "check: iotests/cases/003:4: unknown word 'groups'; did you mean 'group'?\n";
    assert_eq!(script_with("groups: rw"), want);
    let want = "check: iotests/cases/003:4: unknown word 'qcow3' in 'supported_fmt'; did you \
                mean 'qcow2'?\n";
    assert_eq!(script_with("supported_fmt: qcow3"), want);
}

#[test]
fn fewer_than_one_at_once_is_an_error_where_no_script_computes_it() {
    let dir = suite();
    let dir = dir.path();
    case(dir, "001.rs", "//! A.\n//!\n//! group: rw\n");
    for jobs in ["0", "-1"] {
        let err = said(&mut check(dir, &["-qcow2", "-j", jobs])).failed(1);
        let want = format!("check: argument -j: must be at least 1, not {jobs};");
        assert!(err.starts_with(&want), "{err}");
    }
}

#[test]
fn a_local_file_declares_groups_of_its_own() {
    let dir = suite();
    let dir = dir.path();
    case(dir, "001.rs", "//! A.\n//!\n//! group: rw\n");
    let local = |text: &str| std::fs::write(dir.join("groups/group.local"), text).expect("written");
    local("1 mine\ngroup mine  what I work on\n");
    assert_eq!(said(&mut check(dir, &["-n", "-g", "mine"])).fine(), "001\n");
    let listed = said(&mut check(dir, &["--list-groups"])).fine();
    assert!(listed.contains("mine      1  what I work on\n"), "{listed}");
    let err = said(&mut check(dir, &["-n", "-g", "mien"])).failed(1);
    assert!(err.contains("group.local; did you mean 'mine'?"), "{err}");
    for (text, want) in [
        ("group mine\n", "group 'mine': expected its meaning"),
        ("group rw mine\n", "group 'rw' is declared already, in /"),
        ("group\n", "expected the name of a group and its meaning"),
    ] {
        local(text);
        let err = said(&mut check(dir, &["-n"])).failed(1);
        assert!(err.contains("group.local'") && err.contains(want), "{err}");
    }
}

#[test]
fn scripts_are_tests_with_references_in_goldens() {
    let dir = suite();
    let dir = dir.path();
    let body = "# Shows the format.\n#\n# group: rw\n\necho $IMGFMT; pwd\n";
    script(&dir.join("iotests/cases/029"), body);
    let cases = dir
        .join("iotests/cases")
        .canonicalize()
        .expect("a directory");
    let golden = format!("qcow2\n{}\n", cases.display());
    std::fs::write(dir.join("goldens/029.out"), golden).expect("written");
    let tools = dir.join("tools");
    for tool in ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"] {
        script(&tools.join(tool), "");
    }
    let bin = ["/usr/bin", "/bin"].map(Path::new);
    let path = std::env::join_paths([tools.as_path()].into_iter().chain(bin)).expect("a path");
    // An emulator that happens to be installed is not this test's business.
    let ran = said(check(dir, &["-qcow2"]).env("PATH", &path));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Passed all 1 iotests"), "{}", ran.out);
    let found = ran
        .out
        .lines()
        .find(|l| l.starts_with("PROGRAMS"))
        .unwrap_or_default();
    assert!(
        found.ends_with("qemu-img qemu-io qemu-nbd qemu-storage-daemon"),
        "{}",
        ran.out
    );

    // The verdicts of TAP are numbered; in a QEMU tree they are as they were.
    let ran = said(check(dir, &["-qcow2", "-tap", "-j", "1", "--repeat", "2"]).env("PATH", &path));
    assert!(ran.out.contains("\n1..2\n"), "{}", ran.out);
    for line in ["\nok 1 qcow2 029\n", "\nok 2 qcow2 029:2\n"] {
        assert!(ran.out.contains(line), "{}", ran.out);
    }

    // A header may ask for retries.
    let body = "# Passes when run again.\n#\n# group: rw\n# retries: 1\n\n\
                [ -e $TEST_DIR/../../ran ] || { touch $TEST_DIR/../../ran; exit 1; }\n";
    script(&dir.join("iotests/cases/030"), body);
    std::fs::write(dir.join("goldens/030.out"), "").expect("written");
    for (flaky, status, tap) in [
        ("fail", 1, "not ok 1 qcow2 030\n# flaky: "),
        ("pass", 0, "ok 1 qcow2 030\n# flaky: "),
    ] {
        let args = ["-qcow2", "-tap", "--flaky", flaky, "30"];
        let ran = said(check(dir, &args).env("PATH", &path));
        assert_eq!(ran.status, Some(status), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(&format!("\n{tap}")), "{}", ran.out);
        std::fs::remove_file(dir.join("ran")).expect("removed");
    }

    std::fs::remove_file(tools.join("qemu-img")).expect("removed");
    let tools_only = said(check(dir, &["-qcow2"]).env("PATH", &tools)).failed(1);
    let want = "check: qemu-img is not installed: install it (Debian: qemu-utils) \
                or set QEMU_IMG_PROG\n";
    assert_eq!(tools_only, want);
}

#[test]
fn a_new_test_gets_the_next_free_number() {
    let dir = suite();
    let dir = dir.path();
    case(dir, "001.rs", "//! A.\n//!\n//! group: rw\n");
    // Two paths, and how the reference is written.
    let new = |args: &[&str]| {
        let said = said(&mut check(dir, args)).fine();
        let (paths, hint) = said.split_once("./check -qcow2 --bless ").expect("a hint");
        assert!(hint.contains("saves its reference"), "{hint}");
        paths.to_owned()
    };
    assert_eq!(
        new(&["--new", "data is kept"]),
        "iotests/cases/002.rs\ngoldens/002.out\n"
    );
    let text = std::fs::read_to_string(dir.join("iotests/cases/002.rs")).expect("a test");
    assert!(
        text.starts_with("//! Data is kept.\n//!\n//! group: rw quick\n"),
        "{text}"
    );
    assert!(dir.join("goldens/002.out").is_file());
    assert_eq!(
        new(&["--new", "more", "-g", "quick", "--start-from", "100"]),
        "iotests/cases/100.rs\ngoldens/100.out\n"
    );
    let listed = said(&mut check(dir, &["-n", "-raw"])).fine();
    assert_eq!(listed, "001\n002\n100\n");
    let err = said(&mut check(dir, &["--new", "x", "-g", "rv"])).failed(1);
    assert!(err.ends_with("did you mean 'rw'?\n"), "{err}");
}

#[test]
fn a_new_test_gets_no_number_that_is_kept_for_another_question() {
    let dir = suite();
    let dir = dir.path();
    case(dir, "001.rs", "//! A.\n//!\n//! group: rw\n");
    case(dir, "030.rs", "//! B.\n//!\n//! group: rw quick\n");
    case(dir, "031.rs", "//! C.\n//!\n//! group: rw\n");
    let table = "| range | question |\n| --- | --- |\n| 001-029 | a? |\n| 030-039 | b? |\n";
    std::fs::write(dir.join("iotests/README.md"), table).expect("a table");
    let new = |args: &[&str]| {
        let said = said(&mut check(dir, args)).fine();
        let paths = said
            .split_once("./check")
            .map(|(paths, _)| paths.to_owned());
        paths.expect("a hint")
    };
    let path = |n: &str| format!("iotests/cases/{n}.rs\ngoldens/{n}.out\n");
    assert_eq!(new(&["--new", "b", "-g", "quick"]), path("032"));
    assert_eq!(new(&["--new", "neither", "-g", "rw"]), path("040"));
    assert_eq!(new(&["--new", "a", "--start-from", "1"]), path("002"));
}

#[test]
fn tests_are_named_by_path_from_any_directory_and_listed() {
    let dir = suite();
    let dir = dir.path();
    // Folders that look like those of another layout.
    std::fs::create_dir(dir.join("iotests/tests")).expect("a directory");
    script(&dir.join("iotests/cases/020"), "# C.\n#\n# group: rw\n");
    let header = "//! Data is kept. More of it.\n//!\n//! group: rw quick\n";
    case(dir, "001.rs", header);
    case(dir, "010.rs", "//! B.\n//!\n//! group: rw\n");
    for (below, word) in [
        (".", "iotests/cases/001.rs"),
        ("iotests/cases", "001.rs"),
        ("iotests/cases", "iotests/cases/001.rs"),
        ("iotests", "cases/001.rs"),
        ("goldens", "./001.out"),
        ("groups", "../goldens/001.out"),
    ] {
        let mut command = check(&dir.join(below), &["-n", word]);
        assert_eq!(said(&mut command).fine(), "001\n", "{below} {word}");
    }
    assert_eq!(
        said(&mut check(dir, &["--list"])).fine(),
        "001  quick rw  Data is kept.\n010  rw        B.\n020  rw        C.\n"
    );
    said(&mut check(dir, &["--list", "--json", "list", "1"])).fine();
    assert_eq!(
        std::fs::read_to_string(dir.join("list")).expect("a list"),
        "{\"groups\":[\"quick\",\"rw\"],\"summary\":\"Data is kept. More of it.\",\
         \"test\":\"001\"}\n"
    );
    let both = said(&mut check(dir, &["-n", "-g", "quick", "1", "10"]));
    assert_eq!((both.status, both.out.as_str()), (Some(0), "001\n"));
    assert_eq!(
        both.err,
        "check: 010 is not run: it is not in group quick\n"
    );
}
