//! Archives: made from a small suite, run elsewhere.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{CHECK, Said, Suite, bare, said, script};

/// A suite in our layout with a built runner, tools to test, and the programs of the system
/// that scripts use: cargo is not among them.
struct Built {
    root: tempfile::TempDir,
}

/// A stand-in for the program with the tests.
const IOTEST: &str = "echo \"test $1 on $IMGFMT\"\n";

impl Built {
    fn new() -> Self {
        let built = Self {
            root: tempfile::tempdir().expect("a directory"),
        };
        let top = built.top();
        let file = |name: &str, text: &str| {
            let path = top.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("written");
        };
        file(
            "groups/groups",
            "quick  takes a second\nrw  reads and writes\n",
        );
        file("groups/group.local", "2 quick\n");
        file("iotests/cases/001.rs", "//! A.\n//!\n//! group: rw quick\n");
        file("goldens/001.out", "test 001 on qcow2\n");
        let body = "# B.\n#\n# group: rw\n\ncat data/text\n";
        script(&top.join("iotests/cases/002"), body);
        file("iotests/cases/data/text", "text\n");
        file("goldens/002.out", "text\n");
        file(
            ".config/check.toml",
            "[profile.one]\nformats = [\"qcow2\"]\n",
        );
        for tool in ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"] {
            script(&built.root.path().join("tools").join(tool), "");
        }
        std::fs::create_dir_all(top.join("target")).expect("a directory");
        copy(CHECK.as_ref(), &top.join("target/check"));
        script(&top.join("target/iotest"), IOTEST);
        std::fs::create_dir(built.away()).expect("a directory");
        built
    }

    fn top(&self) -> PathBuf {
        self.root.path().join("top")
    }

    /// Another folder, where nothing of the suite is.
    fn away(&self) -> PathBuf {
        self.root.path().join("away")
    }

    /// The archive.
    fn file(&self) -> PathBuf {
        self.root.path().join("suite")
    }

    fn run(&self, program: &Path, dir: &Path, args: &[&str]) -> Command {
        let mut command = bare(program);
        let tools = [
            self.root.path().join("tools"),
            "/usr/bin".into(),
            "/bin".into(),
        ];
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::join_paths(tools).expect("a path"));
        command
    }

    fn make(&self) -> Said {
        let file = self.file();
        let file = file.to_str().expect("UTF-8");
        let program = self.top().join("target/check");
        said(&mut self.run(&program, &self.top(), &["archive", file]))
    }

    fn made() -> Self {
        let built = Self::new();
        built.make().fine();
        built
    }

    /// What a run of the archive, elsewhere, says.
    fn away_with(&self, args: &[&str]) -> Said {
        said(&mut self.run(&self.file(), &self.away(), args))
    }

    /// Where the archive is unpacked: the only folder of its kind.
    fn unpacked(&self) -> PathBuf {
        let all = folders(&self.away().join("scratch-archive"));
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

/// Copies a program that is started soon. A program that is open for writing cannot be, and
/// one that another thread starts at the moment would keep a file of ours open.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

/// What is in a folder, sorted.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut all: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    all
}

#[test]
fn an_archive_runs_elsewhere_and_tells_what_it_is() {
    let built = Built::new();
    let told = built.make().fine();
    assert!(told.contains("suite: "), "{told}");
    // Nothing of it is needed any more.
    std::fs::rename(built.top(), built.root.path().join("gone")).expect("renamed");
    let version = built.away_with(&["--version"]).fine();
    assert!(told.ends_with(&version), "{told}{version}");
    for want in [
        "archive of 2 tests\nbuilt 20",
        "\nfor linux on ",
        " with glibc 2.",
    ] {
        assert!(version.contains(want), "{version}");
    }
    assert!(folders(&built.away()).is_empty());
    assert!(
        built
            .away_with(&["--help"])
            .fine()
            .contains("check archive FILE")
    );

    assert_eq!(built.away_with(&["-n", "-g", "quick"]).fine(), "001\n002\n");
    let ran = built.away_with(&["--profile", "one"]).fine();
    assert!(ran.ends_with("\nPassed all 2 iotests\n"), "{ran}");
    // A failure names the reference, which is still there, and a command that works.
    let ran = built.away_with(&["-raw"]);
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    let golden = built.unpacked().join("goldens/001.out");
    assert!(golden.is_file());
    assert!(
        ran.out.contains(golden.to_str().expect("UTF-8")),
        "{}",
        ran.out
    );
    let again = format!("{} -raw 001", built.file().display());
    assert!(ran.out.contains(&again), "{}", ran.out);
    let again = built.away_with(&["-raw", "001"]);
    assert_eq!(again.status, Some(1), "{}", again.err);
    let history = built.away_with(&["--history"]).fine();
    assert!(history.contains("001"), "{history}");
}

#[test]
fn another_runner_starts_an_archive_that_may_not_be_executed() {
    let built = Built::made();
    let file = built.file();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("a mode");
    // In a folder that has tests of its own.
    let suite = Suite::new();
    suite.test("003", "rw", "");
    let args = ["--from-archive", file.to_str().expect("UTF-8"), "-raw"];
    let ran = said(&mut built.run(CHECK.as_ref(), &suite.dir(), &args));
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Failures: 001\n"), "{}", ran.out);
    let again = format!("{CHECK} -raw --from-archive {} 001", file.display());
    assert!(ran.out.contains(&again), "{}", ran.out);
}

#[test]
fn the_same_build_gives_the_same_bytes() {
    let built = Built::made();
    let first = std::fs::read(built.file()).expect("an archive");
    // Names that come from the folder in another order, and other times.
    let cases = built.top().join("iotests/cases");
    std::fs::rename(cases.join("data"), cases.join("x")).expect("renamed");
    std::fs::copy(cases.join("001.rs"), cases.join("y")).expect("a copy");
    std::fs::rename(cases.join("y"), cases.join("001.rs")).expect("renamed");
    std::fs::rename(cases.join("x"), cases.join("data")).expect("renamed");
    built.make().fine();
    assert!(std::fs::read(built.file()).expect("an archive") == first);
}

#[test]
fn an_unpacked_folder_that_was_changed_is_kept_and_not_used() {
    let built = Built::made();
    built.away_with(&["-n"]).fine();
    let dir = built.unpacked();
    let golden = dir.join("goldens/001.out");
    let case = dir.join("iotests/cases/002");
    // Python leaves what it compiled.
    std::fs::create_dir(dir.join("iotests/cases/__pycache__")).expect("a directory");
    std::fs::write(dir.join("iotests/cases/__pycache__/x.pyc"), "").expect("written");
    built.away_with(&["-n"]).fine();
    // Of the same size, as a careless editor or a broken disk leaves it.
    let changes: [(&str, &dyn Fn()); 4] = [
        ("goldens/001.out has changed", &|| {
            std::fs::write(&golden, "test 001 on qcow1\n").expect("written");
        }),
        ("iotests/cases/002 has changed", &|| {
            std::fs::set_permissions(&case, PermissionsExt::from_mode(0o644)).expect("a mode");
        }),
        ("goldens/001.out is missing", &|| {
            std::fs::remove_file(&golden).expect("removed");
        }),
        ("goldens/003.out is not of the archive", &|| {
            std::fs::write(golden.with_file_name("003.out"), "").expect("written");
        }),
    ];
    for (n, (why, change)) in changes.iter().enumerate() {
        change();
        let ran = built.away_with(&["-qcow2"]);
        assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
        let aside = format!("{}.changed-{}", dir.display(), n + 1);
        let want = format!(
            "check: {} was not as in the archive ({why}): unpacked again; what it held is in \
             {aside}\n",
            dir.display()
        );
        assert_eq!(ran.err, want);
        assert!(Path::new(&aside).is_dir());
    }
    let changed = format!("{}.changed-1/goldens/001.out", dir.display());
    let kept = std::fs::read_to_string(changed).expect("kept");
    assert_eq!(kept, "test 001 on qcow1\n");
    assert_eq!(folders(&built.away().join("scratch-archive")).len(), 5);
}

#[test]
fn several_runs_unpack_at_once() {
    let built = Built::made();
    let all_at_once = || {
        let start = |_| {
            let mut run = built.run(&built.file(), &built.away(), &["-n"]);
            run.stdout(Stdio::null()).stderr(Stdio::null());
            run.spawn().expect("a program")
        };
        let running: Vec<_> = (0..6).map(start).collect();
        for mut child in running {
            assert!(child.wait().expect("an exit status").success());
        }
        assert_eq!(built.away_with(&["-n"]).fine(), "001\n002\n");
    };
    all_at_once();
    let dir = built.unpacked();
    std::fs::write(dir.join("iotests/cases/003.rs"), "").expect("written");
    all_at_once();
    let [good, wrong] = &folders(&built.away().join("scratch-archive"))[..] else {
        panic!("more than one folder was set aside, or a temporary one is left");
    };
    assert_eq!(*good, dir);
    assert!(wrong.join("iotests/cases/003.rs").is_file());
}

#[test]
fn what_needs_the_source_tree_is_refused() {
    let built = Built::made();
    for args in [
        &["--bless", "1"][..],
        &["--review"],
        &["--unused-goldens"],
        &["--new", "x"],
        &["--source-dir", "."],
        &["--install-into", "."],
        &["archive", "other"],
    ] {
        let err = built.away_with(args).failed(1);
        let want = format!(
            "check: {} needs the source tree; it cannot be used with an archive\n",
            args[0]
        );
        assert_eq!(err, want);
    }
    let mut regenerate = built.run(&built.file(), &built.away(), &["-qcow2"]);
    let err = said(regenerate.env("QEMU_IOTESTS_REGEN", "1")).failed(1);
    assert!(
        err.starts_with("check: QEMU_IOTESTS_REGEN needs the source"),
        "{err}"
    );
    assert!(folders(&built.away()).is_empty());
}

#[test]
fn what_is_no_archive_is_told_in_a_line() {
    let built = Built::made();
    let whole = std::fs::read(built.file()).expect("an archive");
    let file = built.away().join("x");
    let open = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        let args = ["--from-archive", "x", "-n"];
        let err = said(&mut built.run(CHECK.as_ref(), &built.away(), &args)).failed(1);
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    for foreign in [&b"#!/bin/sh\n"[..], &whole[..whole.len() / 2], b""] {
        let err = open(foreign);
        assert!(
            err.starts_with("check: 'x' is not an archive, or only a part"),
            "{err}"
        );
    }
    // What a transfer that was cut off leaves may still be a program.
    let short = built.away().join("short");
    copy(&built.file(), &short);
    let cut = Command::new("truncate")
        .args(["-s", "-5"])
        .arg(&short)
        .status();
    assert!(cut.expect("truncate").success());
    let err = said(&mut built.run(&short, &built.away(), &["-n"])).failed(1);
    assert!(
        err.starts_with("check: archive '") && err.contains("/short' is incomplete;"),
        "{err}"
    );
    let with_a_hole = [&whole[..1000], &whole[2000..]].concat();
    assert!(open(&with_a_hole).starts_with("check: archive 'x' is damaged;"));
    let mut damaged = whole.clone();
    damaged[100_000] ^= 1;
    let err = open(&damaged);
    assert!(
        err.contains("it is damaged: 'check' is not what its list says"),
        "{err}"
    );
    assert!(folders(&built.away().join("scratch-archive")).is_empty());
}

#[test]
fn nothing_but_an_archive_is_overwritten_and_only_our_layout_fits() {
    let built = Built::new();
    std::fs::write(built.file(), "mine").expect("written");
    let err = built.make().failed(1);
    assert!(
        err.contains("exists and is not an archive; remove it"),
        "{err}"
    );
    assert_eq!(std::fs::read(built.file()).expect("kept"), b"mine");

    let suite = Suite::new();
    suite.test("001", "rw", "");
    let err = said(suite.check("archive x").env("PATH", "/usr/bin:/bin")).failed(1);
    assert!(
        err.contains("is not a suite in the layout of this project"),
        "{err}"
    );
    for line in ["archive", "archive a b"] {
        let err = said(&mut suite.check(line)).failed(2);
        assert!(
            err.contains("usage of this command: check archive FILE"),
            "{err}"
        );
    }
}

#[test]
fn where_nothing_can_be_written_or_run_it_is_told() {
    let built = Built::made();
    std::fs::write(built.away().join("scratch-archive"), "").expect("written");
    let err = built.away_with(&["-n"]).failed(1);
    assert!(
        err.starts_with("check: cannot unpack '") && err.contains("set TEST_DIR"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}
