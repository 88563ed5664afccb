//! What the program says, and where to: standard output that is full or gone, pages in pipes,
//! words that mean nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn fuzzer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the fuzzer starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A work folder with one finding, of which there is no more than the record.
fn work(dir: &Path) {
    let finding = dir.join("findings/one");
    fs::create_dir_all(&finding).unwrap();
    let record = r#"{"class":"crash","site":"SIGSEGV in a < b","summary":"died","command":"true",
        "confirmed":true,"minimised":true,"edits":1,"bytes":1}"#;
    fs::write(finding.join("finding.json"), record).unwrap();
}

/// A valid image in `dir`.
fn image(dir: &Path) -> PathBuf {
    let spec = image_formats::qcow2::Spec::default();
    let built = image_formats::qcow2::build(&spec).unwrap();
    let image = dir.join("image");
    fs::write(&image, built.image.bytes().to_vec(1 << 30).unwrap()).unwrap();
    image
}

#[test]
fn a_page_goes_to_standard_output_too() {
    let dir = tempfile::tempdir().unwrap();
    let work_dir = dir.path().join("work");
    work(&work_dir);
    for name in ["-", "/proc/self/fd/1"] {
        let done = run(fuzzer().args(["report", "--html", name]).arg(&work_dir));
        assert!(done.status.success(), "{done:?}");
        let page = text(&done.stdout);
        assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
        assert!(page.ends_with("</html>\n"), "{page}");
    }
    let page = dir.path().join("page.html");
    let done = run(fuzzer()
        .args(["report", "--html"])
        .arg(&page)
        .arg(&work_dir));
    assert!(text(&done.stdout).starts_with("1 group in "), "{done:?}");
    assert!(
        fs::read_to_string(&page)
            .unwrap()
            .contains("<p>1 group, by")
    );
    // What the file held that standard output appends to stays.
    let log = dir.path().join("log");
    fs::write(&log, "before\n").unwrap();
    let done = fuzzer()
        .args(["report", "--html", "/proc/self/fd/1"])
        .arg(&work_dir)
        .stdout(File::options().append(true).open(&log).unwrap())
        .status();
    assert!(done.unwrap().success());
    let held = fs::read_to_string(&log).unwrap();
    assert!(held.starts_with("before\n<!DOCTYPE html>"), "{held}");
}

/// What was asked for was lost on a full disk: the program panicked.
#[test]
fn a_full_disk_is_told_and_a_reader_that_has_gone_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let work_dir = dir.path().join("work");
    work(&work_dir);
    let image = image(dir.path());
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    let seeds = ["-s", "x", "--intensity", "0", "-c", &reader];
    let tests = ["--tests", "1", "--intensity", "0", "-c", &reader];
    let (work_dir, image) = (work_dir.to_str().unwrap(), image.to_str().unwrap());
    let kept = dir.path().join("seed");
    let kept = kept.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["report", work_dir], &[]),
        (&["report", "--json", work_dir], &[]),
        (&["report", "--html", "-", work_dir], &[]),
        (&["set", image, "header.nb_snapshots", "0"], &[]),
        (&["show", image], &[]),
        (&["--help"], &[]),
        (&seeds, &[kept]),
        (&tests, &["campaign"]),
        (&["reproduce"], &["seed/test-0"]),
    ];
    for (words, more) in cases {
        let start = |out: Stdio| {
            let mut fuzzer = fuzzer();
            fuzzer.current_dir(dir.path()).args(words).args(more);
            run(fuzzer.stdout(out))
        };
        let done = start(File::create("/dev/full").unwrap().into());
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.starts_with("image-fuzzer: cannot write to standard output: "),
            "{words:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = start(writer.into());
        assert_ne!(done.status.code(), Some(101), "{words:?}: {done:?}");
        assert_eq!(text(&done.stderr), "", "{words:?}");
        // With nowhere to complain to either, the exit status is left.
        let mut deaf = fuzzer();
        deaf.current_dir(dir.path()).args(words).args(more);
        let full = || File::create("/dev/full").unwrap();
        let done = deaf.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(done.code(), Some(1), "{words:?}");
    }
}

#[test]
fn json_tells_of_a_folder_whose_name_is_no_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let work_dir = dir.path().join(std::ffi::OsStr::from_bytes(b"w\xff"));
    work(&work_dir);
    let done = run(fuzzer().args(["report", "--json"]).arg(&work_dir));
    assert!(done.status.success(), "{done:?}");
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let folder = json["groups"][0]["folder"].as_str().unwrap();
    assert!(folder.ends_with("w\u{fffd}/findings/one"), "{folder}");
}

/// A pipe was once waited for, or taken for an image without bytes.
#[test]
fn what_has_no_offsets_is_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = pipe.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["show", pipe], "a pipe"),
        (&["set", pipe, "header.version", "3"], "a pipe"),
        (&["show", "/dev/stdin"], "a pipe"),
        (&["show", "-f", "qcow2", "/dev/null"], "a device without"),
        (&["show", "/"], "a directory"),
    ];
    for (words, what) in cases {
        let (reader, _writer) = std::io::pipe().unwrap();
        let done = run(fuzzer().args(words).stdin(reader));
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains(&format!("is {what}")), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Who could write in its folder once changed a file of others, by putting another in its
/// place.
#[test]
fn a_file_of_others_is_left_alone() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("not run: it takes root to be somebody else");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    // Where it is built others may not be allowed to look.
    let program = dir.path().join("image-fuzzer");
    fs::copy(env!("CARGO_BIN_EXE_image-fuzzer"), &program).unwrap();
    let folder_mode = |mode| {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    let set = || {
        let mut other = Command::new(&program);
        other.arg("set").arg(&image);
        other.args(["header.nb_snapshots", "3"]);
        run(other.current_dir("/").uid(NOBODY).gid(NOBODY))
    };
    let old = fs::read(&image).unwrap();
    folder_mode(0o777);
    let done = set();
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    assert!(fs::read(&image).unwrap() == old);
    // Their own file they may change, in whatever folder it is.
    chown(&image, Some(NOBODY), None).unwrap();
    folder_mode(0o755);
    let done = set();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read(&image).unwrap()[60..64], [0, 0, 0, 3]);
}

/// Of a program without symbols a crash is named by offsets, which no other build has: that
/// crash was printed, and then said not to show.
#[test]
fn a_crash_at_another_place_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let reproduce = |command: &str, site: Option<&str>| {
        let _ = fs::remove_dir_all(dir.path().join("work"));
        let words = ["-s", "x", "--intensity", "0", "-c", command, "work"];
        run(fuzzer().current_dir(dir.path()).args(words));
        let folder = dir.path().join("work/test-0");
        if let Some(site) = site {
            let record = serde_json::json!({
                "class": "crash", "site": site, "summary": "", "command": command,
                "confirmed": true, "minimised": true, "edits": 0, "bytes": 0,
            });
            fs::write(folder.join("finding.json"), record.to_string()).unwrap();
        }
        let done = run(fuzzer().arg("reproduce").arg(&folder));
        let said = text(&done.stdout);
        let last = said.lines().last().unwrap_or_default().to_owned();
        (done.status.code(), last)
    };
    let dies = "sh -c 'kill -SEGV $$'";
    let (status, said) = reproduce(dies, Some("SIGSEGV in nosuch+0x1 < nosuch"));
    assert_eq!(status, Some(3), "{said}");
    // Where it is takes a debugger to tell.
    let told = "a crash shows by the same signal, ";
    assert!(said.starts_with(told), "{said}");
    let (status, said) = reproduce(dies, Some("SIGABRT in nosuch+0x1 < nosuch"));
    assert_eq!(status, Some(3), "{said}");
    assert!(said.starts_with("the fault does not show: crash"), "{said}");
    // A test that is no finding has no fault of its own.
    let (status, said) = reproduce("true", None);
    assert_eq!((status, &*said), (Some(3), "no fault shows"));
    let (status, said) = reproduce(dies, None);
    assert_eq!(status, Some(0));
    assert!(said.starts_with("a fault shows: crash: SIGSEGV"), "{said}");
}

#[test]
fn a_mistyped_subcommand_is_no_work_folder() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(fuzzer().current_dir(dir.path()).arg("reprot"));
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(
        said.contains("did you mean 'report'?") && said.contains("./reprot"),
        "{said}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
