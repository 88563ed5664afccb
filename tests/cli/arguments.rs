//! Command lines that are wrong, and help.

use crate::fixture::{Suite, said};

#[test]
fn mistakes_in_words_end_with_status_two() {
    let suite = Suite::new();
    for (line, want) in [
        (
            "-raw -qcow2",
            "error: argument -qcow2: not allowed with argument -raw",
        ),
        (
            "-nocache -c none",
            "error: argument -c: not allowed with argument -nocache",
        ),
        ("-j", "error: argument -j: expected one argument"),
        (
            "--colour on",
            "error: unrecognized arguments: --colour (did you mean --color?)",
        ),
        (
            "--s 001",
            "error: ambiguous option: --s could match --source-dir, --start-from",
        ),
        (
            "-nope",
            "error: unrecognized arguments: -nope (did you mean -nocache?)",
        ),
        (
            "-E grop(rw)",
            "error: argument -E/--filter: unknown predicate 'grop'; did you mean 'group'?\n  \
             grop(rw)\n  ^^^^\n",
        ),
        ("-c nnoe 001", "error: argument -c: invalid choice: 'nnoe'"),
        ("-i x 001", "error: argument -i: invalid choice: 'x'"),
        (
            "--timeout 5m",
            "error: argument --timeout: invalid time: '5m'",
        ),
        (
            "--formats qcow3",
            "error: argument --formats: invalid choice: 'qcow3'",
        ),
        (
            "--shard 3/2",
            "error: argument --shard: invalid shard: '3/2'",
        ),
    ] {
        let err = said(&mut suite.check(line)).failed(2);
        assert!(err.starts_with(&format!("check: {want}")), "{line}: {err}");
    }
}

#[test]
fn mistakes_found_later_end_with_status_one_and_a_line() {
    let suite = Suite::new();
    suite
        .pair("001", "", "")
        .file("group.local", "# x\n\n001 mine\n");
    for (line, want) in [
        ("999", "Test \"999\" is not found in "),
        ("named", "Test \"tests/named\" is not found"),
        ("./001", "Paths are unsupported for test selection"),
        (
            "-x rw 001",
            "Can't exclude from individually specified tests.",
        ),
        ("-g none", "No tests selected"),
        ("-g mine --start-from 7", "Test \"007\" is not found"),
        (
            "-X /nonexistent/file 001",
            "argument -X: cannot read /nonexistent/file",
        ),
        ("-nXfile", "argument -X: cannot read file"),
        (
            "--source-dir /nonexistent",
            "argument --source-dir: /nonexistent is not a directory",
        ),
    ] {
        let err = said(&mut suite.check(line)).failed(1);
        assert!(err.starts_with(&format!("check: {want}")), "{line}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let empty = Suite::new();
    let err = said(&mut empty.check("-qcow2")).failed(1);
    assert!(
        err.starts_with("check: No tests selected: there are none in /"),
        "{err}"
    );
    suite.file("group.local", "002 mine\n");
    let err = said(&mut suite.check("-n")).failed(1);
    assert!(
        err.contains("group.local'") && err.contains("\"002\""),
        "{err}"
    );
}

#[test]
fn profiles_are_read_from_the_tree_and_from_the_users_file() {
    let suite = Suite::new();
    suite.pair("001", "", "").test("002", "auto", "");
    let home = suite.root().join("home");
    for dir in [suite.dir().join(".config"), home.join(".config/check")] {
        std::fs::create_dir_all(dir).expect("a directory");
    }
    let mine = |text: &str| {
        std::fs::write(home.join(".config/check/check.toml"), text).expect("written");
    };
    suite.file(".config/check.toml", "[profile.ci]\ngroups = [\"rw\"]\n");
    let check = |line: &str| {
        let mut command = suite.check(line);
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME");
        said(&mut command)
    };
    assert_eq!(check("-n --profile ci").fine(), "001\n");
    assert_eq!(check("-n --profile ci -g auto").fine(), "002\n");
    mine("[profile.mine]\ninherits = \"ci\"\n[profile.ci]\ngroups = \"auto\"\n");
    assert_eq!(check("-n --profile mine").fine(), "002\n");
    assert_eq!(check("-n").fine(), "001\n002\n");
    suite.file(
        ".config/check.toml",
        "[profile.ci]\n\nretrys = 3\ngruops = 1\n",
    );
    let err = check("-n --profile ci").failed(2);
    let want = "check: error: .config/check.toml:4: unknown key 'gruops'; did you mean 'groups'?";
    assert!(err.starts_with(want), "{err}");
}

#[test]
fn help_is_a_page_on_stdout() {
    let suite = Suite::new();
    let short = said(&mut suite.check("-h")).fine();
    let long = said(&mut suite.check("--help")).fine();
    assert!(short.starts_with("usage: check [options] [TEST ...]\n"));
    assert!(long.contains("exit status:\n  0 "), "{long}");
    assert!(short.len() < long.len());
}
