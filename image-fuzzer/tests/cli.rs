//! What the program says, and where to: standard output that is full or gone, pages in pipes,
//! words that mean nothing.

use std::fs::{self, File};
use std::path::Path;
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
