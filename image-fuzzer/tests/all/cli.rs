//! Output and messages: a full or closed standard output, pages in pipes, unknown words; and
//! the subcommands `generate` and `conform`.

mod conform;

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

/// It once started a campaign without an end in the current folder.
#[test]
fn a_bare_call_prints_help() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(fuzzer().current_dir(dir.path()));
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let said = text(&done.stderr);
    assert!(said.contains("Usage: image-fuzzer"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_word_that_means_something_else_is_no_work_folder() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path());
    let cases: [(&[&str], &str); 3] = [
        (
            &["image", "-d", "1"],
            "did you mean 'image-fuzzer show image'?",
        ),
        (&["reprot"], "did you mean 'report'?"),
        (&["reprot", "-d", "1"], "did you mean 'report'?"),
    ];
    for (words, question) in cases {
        let done = run(fuzzer().current_dir(dir.path()).args(words));
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        let said = text(&done.stderr);
        assert!(said.contains(question), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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

/// On a full disk the program once panicked.
#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
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
    let cases: [(&[&str], &[&str]); 10] = [
        (&["report", work_dir], &[]),
        (&["report", "--sarif", "-", work_dir], &[]),
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
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(
            stderr.starts_with("image-fuzzer: cannot write to standard output: "),
            "{words:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{words:?}: {stderr}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = start(writer.into());
        assert_ne!(done.status.code(), Some(101), "{words:?}: {done:?}");
        assert_eq!(text(&done.stderr), "", "{words:?}");
        // Where standard error is full too, only the exit status remains.
        let mut fuzzer = fuzzer();
        fuzzer.current_dir(dir.path()).args(words).args(more);
        let full = || File::create("/dev/full").unwrap();
        let done = fuzzer.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(done.code(), Some(1), "{words:?}");
    }
}

/// What is looked for is what QEMU printed, numbers included.
#[test]
fn a_report_is_sorted_filtered_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let finding = |work: &str, name: &str, class: &str, site: &str| {
        let folder = dir.path().join(work).join("findings").join(name);
        fs::create_dir_all(&folder).unwrap();
        let record = serde_json::json!({
            "class": class, "signature": site, "summary": format!("{name} at offset != 0"),
            "command": "true", "confirmed": true, "minimised": true, "edits": 1, "bytes": 1,
        });
        fs::write(folder.join("finding.json"), record.to_string()).unwrap();
    };
    let assertion = "assertion: a.c: f: offset != N";
    finding("one", "died", "crash", assertion);
    finding("one", "hung", "hang", "f < g");
    finding(
        "one",
        "freed",
        "memory-error",
        "double free, allocated in f",
    );
    finding("two", "died", "crash", assertion);
    finding("two", "slow", "slow", "qemu-img info");
    let report = |words: &[&str]| {
        let done = run(fuzzer().current_dir(dir.path()).arg("report").args(words));
        assert!(done.status.success(), "{done:?}");
        text(&done.stdout)
    };
    let all = report(&["one"]);
    let places = ["memory-error", "crash  ", "hang  "].map(|word| all.find(word).unwrap());
    assert!(places.is_sorted(), "{all}");
    assert!(all.contains("died at offset != 0"), "{all}");
    for words in [["--class", "hang"], ["--matching", "hung|f < g"]] {
        let some = report(&[&words[..], &["one"]].concat());
        assert!(
            some.contains("hang  ") && !some.contains("crash  "),
            "{some}"
        );
        assert!(some.contains("2 groups left out"), "{some}");
    }
    let compared = report(&["one", "--against", "two"]);
    for wanted in ["still there: died", "new: f < g", "gone: qemu-img info"] {
        assert!(compared.contains(wanted), "{wanted}: {compared}");
    }
    let log = report(&["one", "--against", "two", "--sarif", "-"]);
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let states: Vec<&str> = results
        .iter()
        .map(|result| result["baselineState"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["new", "unchanged", "new", "absent"]);
    let wrong = run(fuzzer()
        .current_dir(dir.path())
        .args(["report", "one", "--against", "no"]));
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

#[test]
fn json_has_folders_whose_names_are_not_utf_8() {
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

/// Opening a pipe once blocked, or gave an empty image.
#[test]
fn files_without_offsets_are_not_images() {
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
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(
            stderr.contains(&format!("is {what}")),
            "{words:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// With write access to the folder alone a file of another user was once replaced.
#[test]
fn a_file_without_write_access_is_not_changed() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        println!("not run: changing the user needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    // Other users may not have access to the build folder.
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
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Permission denied"), "{stderr}");
    assert!(fs::read(&image).unwrap() == old);
    // A user's own file can be changed in any folder.
    chown(&image, Some(NOBODY), None).unwrap();
    folder_mode(0o755);
    let done = set();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read(&image).unwrap()[60..64], [0, 0, 0, 3]);
}

/// In a program without symbols a crash is named by offsets, which differ between builds: it
/// was once printed, and then reported as not reproduced without a reason.
#[test]
fn a_crash_at_another_place_is_reported_as_such() {
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
        let stdout = text(&done.stdout);
        let last = stdout.lines().last().unwrap_or_default().to_owned();
        (done.status.code(), last)
    };
    let dies = "sh -c 'kill -SEGV $$'";
    let (status, line) = reproduce(dies, Some("SIGSEGV in nosuch+0x1 < nosuch"));
    assert_eq!(status, Some(3), "{line}");
    // The place is known where there is a debugger.
    let wanted = "not reproduced: a crash by the same signal, ";
    assert!(line.starts_with(wanted), "{line}");
    let (status, line) = reproduce(dies, Some("SIGABRT in nosuch+0x1 < nosuch"));
    assert_eq!(status, Some(3), "{line}");
    assert!(line.starts_with("not reproduced: crash"), "{line}");
    // The folder of a test, without a finding.
    let (status, line) = reproduce("true", None);
    assert_eq!((status, &*line), (Some(3), "no findings"));
    let (status, line) = reproduce(dies, None);
    assert_eq!(status, Some(0));
    assert!(line.starts_with("finding: crash: SIGSEGV"), "{line}");
}

#[test]
fn a_misspelt_subcommand_is_not_a_work_folder() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(fuzzer().current_dir(dir.path()).arg("reprot"));
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("did you mean 'report'?") && stderr.contains("./reprot"),
        "{stderr}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
