//! The programs in `scripts/`.

use std::path::Path;

use crate::fixture::{bare, said};

/// Writes files, given as path and text.
fn write(top: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = top.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
}

/// A workspace of a program and a crate, with nothing wrong.
const WORKSPACE: [(&str, &str); 8] = [
    (
        "Cargo.toml",
        "[workspace]\nmembers = [\"app\", \"crates/*\"]\n",
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\n[dependencies]\nlow = { path = \"../crates/low\" }\n",
    ),
    ("app/src/main.rs", "fn main() { app::cli::main() }\n"),
    (
        "app/src/lib.rs",
        "pub mod cli;\nmod model;\nmod tools;\npub use model::Model;\n",
    ),
    (
        "app/src/cli.rs",
        "use crate::{Model, tools::{self, deep::Tool}};\nuse low::model;\n",
    ),
    (
        "app/src/tools/mod.rs",
        "mod deep;\npub use deep::Tool;\npub struct Kit;\n\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\n",
    ),
    (
        "app/src/tools/deep.rs",
        "// crate::cli is no import here: \"use\nuse super::Kit;\nfn f() { g(\"crate::cli\", '\"', crate::model::NONE) }\n",
    ),
    ("app/src/model.rs", "pub struct Model<'a>(&'a str);\n"),
];

const DRAWN: &str = "```modules app\ncli  # the command line\ntools\nmodel\n```\n";

/// What `scripts/modules` prints of the workspace with other files added.
fn modules(args: &[&str], changes: &[(&str, &str)]) -> crate::fixture::Said {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), &WORKSPACE);
    write(
        dir.path(),
        &[
            ("ARCHITECTURE.md", DRAWN),
            ("crates/low/Cargo.toml", "[package]\nname = \"low\"\n"),
            ("crates/low/src/lib.rs", "pub mod model {}\n"),
        ],
    );
    write(dir.path(), changes);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/modules");
    said(bare(&script).args(args).arg("--root").arg(dir.path()))
}

#[test]
fn modules_lists_what_each_file_imports() {
    let want = "\
app src/cli.rs: src/model.rs src/tools/deep.rs src/tools/mod.rs
app src/lib.rs: src/model.rs
app src/main.rs: src/cli.rs
app src/model.rs:
app src/tools/deep.rs: src/model.rs src/tools/mod.rs
app src/tools/mod.rs: src/tools/deep.rs
low src/lib.rs:
";
    assert_eq!(modules(&[], &[]).fine(), want);
    assert_eq!(modules(&["--check"], &[]).fine(), "");
}

#[test]
fn modules_finds_what_must_not_be() {
    let cases: [(&[(&str, &str)], &str); 7] = [
        (
            &[(
                "app/src/model.rs",
                "use super::tools::Kit;\npub struct Model;\n",
            )],
            "app: src/model.rs imports src/tools/mod.rs: tools is on a higher floor than model\n\
             app: circle of imports: src/model.rs -> src/tools/mod.rs -> src/tools/deep.rs -> \
             src/model.rs (3 files import each other)\n",
        ),
        (
            &[("ARCHITECTURE.md", "```modules app\ncli\ntools model\n```\n")],
            "app: src/tools/deep.rs imports src/model.rs: model is on the same floor as tools\n",
        ),
        (
            &[(
                "ARCHITECTURE.md",
                "```modules app\ncli\ntools tools\nmodels\n```\n",
            )],
            "ARCHITECTURE.md: modules app: tools is named twice\n\
             ARCHITECTURE.md: modules app: model is not named\n\
             ARCHITECTURE.md: modules app: there is no module models\n",
        ),
        (
            &[("ARCHITECTURE.md", "```modules other\ncli\n```\n")],
            "ARCHITECTURE.md: modules other: there is no such package\n",
        ),
        (
            &[
                ("crates/low/src/lib.rs", "mod a;\nmod b;\npub use a::A;\n"),
                ("crates/low/src/a.rs", "use crate::b::B;\npub struct A;\n"),
                ("crates/low/src/b.rs", "use crate::A;\npub struct B;\n"),
            ],
            "low: circle of imports: src/a.rs -> src/b.rs -> src/a.rs\n",
        ),
        (
            &[(
                "crates/low/Cargo.toml",
                "[package]\nname = \"low\"\n[dev-dependencies.app]\n",
            )],
            "low: depends on app: crates use crates only\n",
        ),
        (
            &[
                (
                    "Cargo.toml",
                    "[workspace]\nmembers = [\"app\", \"crates/low\", \"two\"]\n",
                ),
                (
                    "two/Cargo.toml",
                    "[package]\nname = \"two\"\n[dependencies]\napp.path = \"../app\"\n",
                ),
                ("two/src/lib.rs", ""),
            ],
            "two: depends on app: programs use crates, never each other\n",
        ),
    ];
    for (changes, want) in cases {
        let said = modules(&["--check"], changes);
        assert_eq!(
            (said.out.as_str(), said.status),
            (want, Some(1)),
            "{}",
            said.err
        );
    }
}

#[test]
fn every_script_has_a_help_and_refuses_unknown_options() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listing = std::fs::read_dir(top.join("scripts")).expect("scripts/");
    let mut count = 0;
    for entry in listing {
        let script = entry.expect("an entry").path();
        // What scripts share.
        if script.is_dir() {
            continue;
        }
        let name = script.file_name().expect("a name").to_string_lossy();
        let usage = format!("usage: scripts/{name}");
        let long = said(bare(&script).arg("--help")).fine();
        assert!(long.contains(&usage), "{name}: {long}");
        assert_eq!(said(bare(&script).arg("-h")).fine(), long, "{name}");
        let err = said(bare(&script).arg("--nonsense")).failed(2);
        assert!(err.contains("unknown option '--nonsense'"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        count += 1;
    }
    assert!(count >= 6, "only {count} scripts");
}

/// `scripts/qemu-version` in an environment that has no server.
fn qemu_version(args: &[&str]) -> crate::fixture::Said {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/qemu-version");
    let mut command = bare(&script);
    command
        .args(args)
        .env("DEBIAN_MIRROR", "file:///nonexistent/debian");
    said(&mut command)
}

#[test]
fn qemu_version_refuses_what_it_cannot_do_before_it_fetches() {
    for (args, want) in [
        (&[][..], "no suite given"),
        (&["-x", "sid"], "unknown option '-x'"),
        (&["sid", "a", "b"], "unexpected argument 'b'"),
        (&["--list", "sid"], "unexpected argument 'sid' with --list"),
        (&["../sid"], "'../sid' cannot be the name of a suite"),
    ] {
        let err = qemu_version(args).failed(2);
        let want = format!("qemu-version: {want} (see scripts/qemu-version --help)\n");
        assert_eq!(err, want, "{args:?}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let foreign = dir.path().join("foreign");
    write(&foreign, &[("letter", "kept\n")]);
    let name = foreign.to_str().expect("a name in UTF-8");
    let err = qemu_version(&["-f", "sid", name]).failed(1);
    assert!(
        err.ends_with("is there and was not made by this script; name another folder\n"),
        "{err}"
    );
    assert!(foreign.join("letter").exists());
}

#[test]
fn qemu_version_leaves_a_folder_that_is_there_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = dir.path().join("made");
    write(&made, &[("versions", "qemu-utils 1:7.2\n")]);
    let name = made.to_str().expect("a name in UTF-8");
    let again = qemu_version(&["sid", name]);
    assert_eq!(again.status, Some(0), "{}", again.err);
    assert!(
        again
            .err
            .contains("make it again with: scripts/qemu-version -f sid")
    );
    // What cannot be fetched changes nothing, and leaves nothing.
    if Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        let err = qemu_version(&["-f", "sid", name]).failed(1);
        assert!(
            err.contains("suite sid cannot be fetched from file:///nonexistent/debian"),
            "{err}"
        );
    }
    assert!(made.join("versions").exists());
    let left = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 1);
}
