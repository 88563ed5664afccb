//! The launcher, and the script that installs what is missing: with programs of
//! our own in the place of cargo and apt-get.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{bare, said, script};

/// A directory with links to the few programs the scripts use, so that nothing
/// else is found.
fn bin(dir: &Path, programs: &[&str]) -> PathBuf {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    for program in programs {
        let found = ["/usr/bin", "/bin"].map(|d| Path::new(d).join(program));
        let found = found.iter().find(|p| p.exists()).expect(program);
        std::os::unix::fs::symlink(found, bin.join(program)).expect("a link");
    }
    bin
}

const BASICS: [&str; 15] = [
    "bash", "sh", "env", "dirname", "readlink", "find", "mkdir", "touch", "mv", "rm", "grep",
    "head", "mktemp", "uname", "id",
];

/// A copy of the launcher and the scripts in a directory of its own.
fn copy(dir: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = dir.join("top");
    for sub in ["scripts", "scripts/lib", "src", "crates", "iotests"] {
        std::fs::create_dir_all(top.join(sub)).expect("a directory");
    }
    for file in ["check", "scripts/deps.sh", "scripts/lib/packages.sh"] {
        std::fs::copy(here.join(file), top.join(file)).expect("a copy");
    }
    top
}

fn run(program: &Path, bin: &Path) -> Command {
    let mut command = bare(program);
    command.env("PATH", bin);
    command
}

/// A cargo that writes down each call and makes the two programs.
const CARGO: &str = r#"
echo "cargo $*" >>calls
mkdir -p target/suite
for program in check iotest; do
    printf '#!/bin/sh\necho "$0 $*"\n' >target/suite/$program
    chmod +x target/suite/$program
done
"#;

#[test]
fn it_builds_once_and_then_starts_what_was_built() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    installed(&bin, &[]);
    script(&bin.join("cargo"), CARGO);
    let link = dir.path().join("check");
    std::os::unix::fs::symlink(top.join("check"), &link).expect("a link");

    let first = said(run(&top.join("check"), &bin).args(["-qcow2", "001"]));
    assert!(first.out.ends_with("check -qcow2 001\n"), "{}", first.out);
    assert!(first.err.contains("check: building"), "{}", first.err);
    for program in [&top.join("check"), &link] {
        let again = said(run(program, &bin).arg("a b")).fine();
        assert!(again.ends_with("check a b\n"), "{again}");
    }
    let calls = || std::fs::read_to_string(top.join("calls")).expect("calls");
    assert_eq!(calls().lines().count(), 1);

    // A source from the future is newer whatever the clock's grain.
    let source = top.join("src/new.rs");
    let file = std::fs::File::create(&source).expect("a file");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    file.set_modified(later).expect("a time");
    said(run(&top.join("check"), &bin).arg("-n"));
    assert_eq!(calls().lines().count(), 2);

    // A script is run as it is; a test that is compiled is built, whatever its time.
    let cases = top.join("iotests/cases");
    let write = |name: &str| std::fs::write(cases.join(name), "").expect("written");
    std::fs::create_dir(&cases).expect("a directory");
    std::fs::remove_file(&source).expect("removed");
    let built = || {
        said(&mut run(&top.join("check"), &bin));
        calls().lines().count()
    };
    let before = built();
    let touched = |name: &str| {
        write(name);
        let file = std::fs::File::options().write(true).open(cases.join(name));
        file.expect("a file").set_modified(later).expect("a time");
    };
    touched("029");
    assert_eq!(built(), before);
    write("001.rs");
    let file = std::fs::File::options()
        .write(true)
        .open(cases.join("001.rs"));
    let earlier = std::time::SystemTime::UNIX_EPOCH;
    file.expect("a file").set_modified(earlier).expect("a time");
    assert_eq!(built(), before + 1);
    assert_eq!(built(), before + 1);
    std::fs::remove_file(cases.join("001.rs")).expect("removed");
    assert_eq!(built(), before + 2);
    touched("002.rs");
    assert_eq!(built(), before + 3);

    // Without cargo what was built is run, and that is said.
    std::fs::remove_file(bin.join("cargo")).expect("removed");
    let stale = said(run(&top.join("check"), &bin).arg("-n"));
    assert_eq!(stale.status, Some(0));
    assert!(
        stale.err.contains("no cargo to build them"),
        "{}",
        stale.err
    );
}

#[test]
fn an_archive_needs_no_build_and_no_tools() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    let archive = dir.path().join("suite");
    script(&archive, "echo \"archive: $0 $*\"\n");
    let run = |args: &[&str]| {
        let mut check = run(&top.join("check"), &bin);
        said(check.args(args).current_dir(dir.path()))
    };
    // It can be started without anything that was built here; and so it is, as nothing can
    // be built.
    for args in [
        &["--from-archive", "suite", "-raw"][..],
        &["-raw", "--from-archive=suite"],
    ] {
        let started = run(args).fine();
        assert!(started.starts_with("archive: "), "{started}");
        assert!(
            started.ends_with(&format!(" {}\n", args.join(" "))),
            "{started}"
        );
    }
    let program = top.join("target/suite/check");
    script(&program, "echo \"built: $*\"\n");
    let started = run(&["--from-archive", "suite", "-raw"]).fine();
    assert_eq!(started, "built: --from-archive suite -raw\n");
    // What is passed on to a program is none of ours.
    let err = run(&["--", "x", "--from-archive", "suite"]).err;
    assert!(err.contains("no cargo"), "{err}");
    script(&program.with_file_name("iotest"), "");
    std::fs::write(program.with_file_name(".check-built"), "").expect("written");
    assert_eq!(run(&["archive", "file"]).fine(), "built: archive file\n");
}

/// A wrong header once gave hundreds of lines of cargo's.
#[test]
fn of_a_build_that_fails_for_a_header_its_line_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    installed(&bin, &[]);
    let line = "iotests/cases/003.rs:3: unknown word 'groups'; did you mean 'group'?";
    let cargo = format!(
        "echo 'error: iotests@0.1.0: {}' >&2\necho 'error: failed to run' >&2\nexit 101\n",
        line.replace('\'', "'\\''"),
    );
    script(&bin.join("cargo"), &cargo);
    let err = said(&mut run(&top.join("check"), &bin)).failed(1);
    let lines: Vec<&str> = err.lines().skip(1).collect();
    assert_eq!(lines, [format!("check: {line}")]);

    let cargo = "echo 'warning: w' >&2\nprintf 'error[E0425]: x\n at iotests/cases/003.rs:3: y' >&2\nexit 101\n";
    script(&bin.join("cargo"), cargo);
    let err = said(&mut run(&top.join("check"), &bin)).failed(1);
    let lines: Vec<&str> = err.lines().skip(1).collect();
    let want = [
        "warning: w",
        "error[E0425]: x",
        " at iotests/cases/003.rs:3: y",
        "check: the build failed",
    ];
    assert_eq!(lines, want);
}

/// Puts the programs that the suite needs into `bin`, and these others.
fn installed(bin: &Path, others: &[&str]) {
    let tools = [
        "qemu-img",
        "qemu-io",
        "qemu-nbd",
        "qemu-storage-daemon",
        "cc",
    ];
    for tool in tools.iter().chain(others) {
        script(&bin.join(tool), "");
    }
}

/// Puts an apt-get and a sudo that write down their calls into `bin`.
fn watched_installers(bin: &Path) -> impl Fn() -> bool {
    let calls = bin.join("installer.calls");
    for program in ["apt-get", "sudo"] {
        let body = format!("echo \"$0 $*\" >>'{}'\n", calls.display());
        script(&bin.join(program), &body);
    }
    move || calls.exists()
}

#[test]
fn what_is_missing_is_named_and_nothing_is_installed() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    let called = watched_installers(&bin);
    script(&bin.join("cc"), "");
    script(&bin.join("cargo"), CARGO);
    let start = |line: &str, tried: &str| {
        let mut check = run(&top.join("check"), &bin);
        check.env("CHECK_DEPS_TRIED", tried);
        said(check.args(line.split_whitespace()))
    };
    assert!(!start("-n", "").err.contains("missing"), "nothing is run");
    let want = format!(
        "check: missing: qemu-img qemu-io qemu-nbd qemu-storage-daemon; install with: make -C {} deps\n",
        top.display()
    );
    for _ in 0..2 {
        let ended = start("-qcow2", "");
        assert_eq!((ended.err.as_str(), ended.status), (want.as_str(), Some(0)));
        assert!(ended.out.ends_with("check -qcow2\n"), "{}", ended.out);
    }
    let after_deps = start("-qcow2", "y").fine();
    assert!(after_deps.ends_with("check -qcow2\n"), "{after_deps}");
    assert!(!called());

    // Without a linker the previous build is run.
    std::fs::remove_file(bin.join("cc")).expect("removed");
    std::fs::remove_file(top.join("target/suite/.check-built")).expect("removed");
    let stale = start("-n", "");
    assert_eq!(stale.status, Some(0));
    assert!(stale.err.contains("no cc to build them"), "{}", stale.err);
    assert!(!called());
}

#[test]
fn without_cargo_and_without_a_build_it_says_what_to_install() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &BASICS);
    let err = said(&mut run(&top.join("check"), &bin)).failed(1);
    assert!(
        err.contains("check: missing: cargo; install with: make -C"),
        "{err}"
    );
    assert!(err.contains("without cargo, of Rust 1.88"), "{err}");
}

/// An apt-get that writes down its calls and "installs" by making programs.
const APT: &str = r#"
echo "$*" >>"$CALLS"
for word; do
    case $word in
        gcc) made=cc ;;
        qemu-utils) made="qemu-img qemu-io qemu-nbd" ;;
        qemu-system-common) made=qemu-storage-daemon ;;
        fuse3) echo 'E: no such package' >&2; exit 100 ;;
        *) made= ;;
    esac
    for program in $made; do printf '#!/bin/sh\n' >"$BIN/$program"; chmod +x "$BIN/$program"; done
done
"#;

#[test]
fn packages_are_named_first_and_what_cannot_be_had_is_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(
        dir.path(),
        &[&BASICS[..], &["chmod", "sed", "awk", "cat", "cp"]].concat(),
    );
    script(&bin.join("cargo"), "");
    script(&bin.join("sudo"), "exec \"$@\"\n");
    script(&bin.join("apt-get"), APT);
    script(&bin.join("apt-cache"), "");
    script(&bin.join("dpkg-query"), "printf 1:9.9+ds-1~bpo12+1\n");
    let calls = dir.path().join("calls");
    let mut deps = run(&top.join("scripts/deps.sh"), &bin);
    deps.arg("valgrind").env("CALLS", &calls).env("BIN", &bin);
    let ended = said(&mut deps);
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let missing =
        "deps: missing: gcc libc6-dev qemu-utils fuse3 valgrind; installing with apt-get\n";
    assert!(ended.err.starts_with(missing), "{}", ended.err);
    for want in [
        "deps: cannot install fuse3;",
        "deps: missing: qemu-system-common (for qemu-storage-daemon)",
        ", the version of the image tools, is not available; tests that need a machine are not run",
    ] {
        assert!(ended.err.contains(want), "{want}: {}", ended.err);
    }
    let calls = std::fs::read_to_string(&calls).expect("calls");
    assert!(calls.contains("update"), "{calls}");
}

#[test]
fn an_emulator_of_the_same_version_is_installed_from_its_suite() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    installed(&bin, &["fusermount3", "cargo"]);
    script(&bin.join("sudo"), "exec \"$@\"\n");
    script(&bin.join("apt-get"), APT);
    script(
        &bin.join("apt-cache"),
        "echo \"$2 | 1:9.9~bpo12+1 | there\"\n",
    );
    script(&bin.join("dpkg-query"), "printf 1:9.9~bpo12+1\n");
    let calls = dir.path().join("calls");
    let mut deps = run(&top.join("scripts/deps.sh"), &bin);
    deps.env("CALLS", &calls).env("BIN", &bin);
    assert_eq!(said(&mut deps).status, Some(0));
    let calls = std::fs::read_to_string(&calls).expect("calls");
    assert!(calls.contains("-backports qemu-system-"), "{calls}");
    assert!(calls.contains("=1:9.9~bpo12+1"), "{calls}");
}

/// What `deps.sh` does without a cargo, where apt has these packages: what it says, and its calls
/// of apt-get.
fn cargo_from(packages: &str) -> (String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(
        dir.path(),
        &[&BASICS[..], &["chmod", "sed", "awk", "cat", "cp", "sort"]].concat(),
    );
    installed(&bin, &["cc", "fusermount3", "qemu-system-x86_64"]);
    let manifest = "[workspace.package]\nrust-version = \"1.88\"\n";
    std::fs::write(top.join("Cargo.toml"), manifest).expect("a file");
    script(&bin.join("sudo"), "exec \"$@\"\n");
    script(&bin.join("apt-get"), APT);
    let policy = "for package; do :; done\ncase $package in\n".to_owned() + packages + "esac\n";
    script(&bin.join("apt-cache"), &policy);
    let calls = dir.path().join("calls");
    let mut deps = run(&top.join("scripts/deps.sh"), &bin);
    deps.env("CALLS", &calls).env("BIN", &bin);
    deps.env("CARGO_HOME", dir.path().join("none"));
    let said = said(&mut deps);
    let calls = std::fs::read_to_string(&calls).unwrap_or_default();
    (said.err, calls)
}

#[test]
fn a_cargo_that_is_new_enough_is_installed() {
    let old = "rustc | cargo) echo '  Candidate: 0.66.0+ds1-1' ;;\n";
    let web = "rustc-web | cargo-web) echo '  Candidate: 1.96.0+dfsg1-1~deb12u2' ;;\n";
    let (err, calls) = cargo_from(&(old.to_owned() + web));
    assert!(
        err.contains("deps: missing: cargo; installing rustc-web cargo-web"),
        "{err}"
    );
    assert!(
        calls.contains("install --no-install-recommends rustc-web cargo-web"),
        "{calls}"
    );
    let new = "rustc | cargo) echo '  Candidate: 1.100.0-1' ;;\n";
    let (err, _) = cargo_from(&(new.to_owned() + web));
    assert!(err.contains("cargo; installing rustc cargo"), "{err}");
    let (err, calls) = cargo_from(old);
    assert!(
        err.contains("deps: no package has Rust 1.88 or newer"),
        "{err}"
    );
    assert!(!calls.contains("cargo"), "{calls}");
}

#[test]
fn without_apt_every_missing_package_is_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &BASICS);
    let mut deps = run(&top.join("scripts/deps.sh"), &bin);
    let err = said(deps.env("CARGO_HOME", dir.path())).failed(1);
    for want in [
        "deps: cannot install qemu-utils (there is no apt-get); no test can be run",
        "deps: these are Debian package names",
        "deps: cannot install cargo (there is no apt-get); nothing can be built without it",
        "deps: still missing: cc cargo qemu-img qemu-io qemu-nbd qemu-storage-daemon",
    ] {
        assert!(err.contains(want), "{want}: {err}");
    }
}

#[test]
fn without_root_every_missing_package_is_one_line_and_nothing_is_built() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = copy(dir.path());
    let bin = bin(dir.path(), &[&BASICS[..], &["chmod"]].concat());
    let called = watched_installers(&bin);
    std::fs::remove_file(bin.join("id")).expect("removed");
    script(&bin.join("id"), "echo 1000\n");
    script(&bin.join("cargo"), CARGO);
    for _ in 0..2 {
        let err = said(run(&top.join("check"), &bin).arg("-qcow2")).failed(1);
        let lines: Vec<&str> = err.lines().collect();
        let want = format!(
            "check: missing: cc; install with: make -C {} deps",
            top.display()
        );
        let last = "check: nothing can be built without cc, which links programs";
        assert_eq!(lines, [want.as_str(), last]);
    }
    assert!(!called() && !top.join("calls").exists());

    std::fs::remove_file(bin.join("sudo")).expect("removed");
    let err = said(&mut run(&top.join("scripts/deps.sh"), &bin)).failed(1);
    for package in ["gcc", "libc6-dev", "qemu-utils", "fuse3", "qemu-system-"] {
        let line = format!("deps: cannot install {package}");
        assert_eq!(err.matches(&line).count(), 1, "{package}: {err}");
    }
    assert_eq!(
        err.matches("(not root, and there is no sudo)").count(),
        5,
        "{err}"
    );
    assert!(!called() && !top.join("calls").exists());
}
