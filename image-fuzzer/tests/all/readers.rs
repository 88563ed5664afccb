//! Readers whose bugs are seen only in what they accept and in the data that they show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use image_fuzzer::campaign::{Plan, SweepMode, fresh, sweep, sweep_recipe};
use image_fuzzer::commands::Programs;
use image_fuzzer::exec::Limits;
use image_fuzzer::input::guard::GuardPlan;
use image_fuzzer::oracle::Class;
use image_fuzzer::oracle::runner::{Settings, TestRunner};
use image_fuzzer::oracle::timeout::TimeoutPolicy;
use image_mutations::case::Maker;

/// A `qemu-img` that succeeds whatever it is given, and converts every image to zeros.
const CARELESS: &str = r#"#!/bin/sh
[ "$1" = convert ] || exit 0
for file; do image=$last last=$file; done
size=$(od -A n -t x1 -j 24 -N 8 "$image" | tr -d ' \n')
truncate -s "$((0x$size))" "$last"
"#;

/// A reader that checks the magic bytes, and nothing else.
const SHALLOW: &str = r#"#!/bin/sh
[ "$(od -A n -t x1 -N 3 "$1")" = ' 51 46 49' ]
"#;

/// A `qemu-img` that refuses every image.
const STRICT: &str = "#!/bin/sh\necho 'no' >&2\n[ \"$1\" = --version ]\n";

/// A folder with these readers.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = [
            ("careless", CARELESS),
            ("shallow", SHALLOW),
            ("strict", STRICT),
        ];
        for (name, text) in programs {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A campaign of the careless reader, in the folder `work`.
    fn campaign(&self, words: &[&str]) -> Output {
        let mut fuzzer = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
        fuzzer.env("QEMU_IMG", self.path("careless"));
        fuzzer.args(["-j", "1"]).args(words);
        fuzzer.arg(self.path("work")).output().unwrap()
    }

    /// What is reported of the campaign.
    fn report(&self) -> serde_json::Value {
        let mut report = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
        report.args(["report", "--json"]).arg(self.path("work"));
        serde_json::from_slice(&report.output().unwrap().stdout).unwrap()
    }

    /// The only finding of the campaign: its key, and its folder.
    fn finding(&self) -> (String, PathBuf) {
        let json = self.report();
        let groups = json["groups"].as_array().unwrap();
        let [group] = groups.as_slice() else {
            panic!("not one finding: {json:#}");
        };
        let text = |name: &str| group[name].as_str().unwrap().to_owned();
        let key = format!("{}: {}", text("class"), text("signature"));
        (key, PathBuf::from(text("folder")))
    }

    /// The exit status of the script of a finding, with this `qemu-img`.
    fn reproduces(&self, folder: &Path, reader: &str) -> Option<i32> {
        let mut script = Command::new(folder.join("reproduce.sh"));
        script.env("QEMU_IMG", self.path(reader));
        // Where 'image-fuzzer read' is a reader, it is looked for in PATH.
        let itself = Path::new(env!("CARGO_BIN_EXE_image-fuzzer")).parent();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = itself.map(Path::to_owned).into_iter();
        let folders = folders.chain(std::env::split_paths(&path));
        script.env("PATH", std::env::join_paths(folders).unwrap());
        script.output().unwrap().status.code()
    }
}

#[test]
fn what_is_accepted_and_must_be_refused_is_found() {
    let fixture = Fixture::new();
    let done = fixture.campaign(&[
        "--tests",
        "40",
        "--config",
        r#"[["header", "refcount_order"]]"#,
        "-c",
        "qemu-img info -f qcow2 $test_img",
    ]);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let (key, folder) = fixture.finding();
    assert_eq!(
        key,
        "accepted-invalid: header.refcount_order: refcount-order"
    );
    assert_eq!(fixture.reproduces(&folder, "careless"), Some(0));
    assert_eq!(fixture.reproduces(&folder, "strict"), Some(1));
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(
        readme.contains("accepted an image that must be refused"),
        "{readme}"
    );
    assert!(readme.contains("(must: Header)"), "{readme}");
    // The numbered test fails until the image is refused.
    let golden = fs::read_to_string(folder.join("iotest.out")).unwrap();
    for (reader, passes) in [("careless", false), ("strict", true)] {
        let mut test = Command::new(folder.join("iotest"));
        test.env("TEST_DIR", fixture.folder.path());
        test.env("QEMU_IMG", fixture.path(reader));
        let said = String::from_utf8(test.output().unwrap().stdout).unwrap();
        assert_eq!(said == golden, passes, "{reader}: {said}");
        assert_eq!(said.contains("the image was accepted"), !passes, "{said}");
    }
}

/// Half of a campaign's time once went to runs of programs that cannot have the guarding
/// allocator, with another fill byte that they never saw.
#[test]
fn without_the_guard_no_fill_bytes_are_compared() {
    let fixture = Fixture::new();
    let command = format!("{} $test_img", fixture.path("careless").display());
    let done = fixture.campaign(&["--tests", "20", "-c", &command]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let total = &fixture.report()["total"];
    assert!(total["commands"].as_u64().unwrap() >= 20, "{total}");
    assert_eq!(total["worker_seconds"].get("fills"), None, "{total}");
}

/// Of a program that takes any file it is not known that it is a reader.
#[test]
fn other_programs_must_refuse_where_they_are_readers() {
    let cases = [
        ("careless", &[][..], 0),
        ("careless", &["--must-refuse"], 3),
        ("shallow", &[], 3),
    ];
    for (reader, options, status) in cases {
        let fixture = Fixture::new();
        let command = format!("{} $test_img", fixture.path(reader).display());
        let field = r#"[["header", "incompatible_features"]]"#;
        let words = ["--tests", "40", "--config", field, "-c", &command];
        let done = fixture.campaign(&[&words[..], options].concat());
        assert_eq!(done.status.code(), Some(status), "{done:?}");
        if reader == "shallow" {
            let mut again = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
            let again = again.arg("reproduce").arg(fixture.path("work"));
            let again = again.output().unwrap();
            assert_eq!(again.status.code(), Some(0), "{again:?}");
        }
    }
}

#[test]
fn data_that_the_image_does_not_hold_are_found() {
    let fixture = Fixture::new();
    let command = "qemu-img convert -f qcow2 -O raw $test_img out.img";
    let done = fixture.campaign(&["--tests", "4", "--intensity", "0", "-c", command]);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let mut folders = fs::read_dir(fixture.path("work/findings"))
        .unwrap()
        .flatten();
    let folder = folders.next().expect("a finding").path();
    let record = fs::read_to_string(folder.join("finding.json")).unwrap();
    assert!(record.contains("\"wrong-data\""), "{record}");
    assert_eq!(fixture.reproduces(&folder, "careless"), Some(0));
    assert_eq!(fixture.reproduces(&folder, "strict"), Some(1));
}

#[test]
fn another_reader_is_known_by_its_name() {
    for reader in ["imago", "7z"] {
        if reader == "7z" && Command::new("7z").output().is_err() {
            println!("not run: 7z is not installed");
            continue;
        }
        let fixture = Fixture::new();
        let done = fixture.campaign(&[
            "--tests",
            "40",
            "--intensity",
            "0",
            "--compare-with",
            reader,
            "-c",
            "qemu-img map -f qcow2 $test_img",
        ]);
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        let (key, folder) = fixture.finding();
        assert_eq!(key, format!("disagreement: data {reader}"));
        assert_eq!(fixture.reproduces(&folder, "careless"), Some(0));
        assert_eq!(fixture.reproduces(&folder, "strict"), Some(1));
    }
}

/// One that refused every image was once compared with, to no effect.
#[test]
fn a_reader_that_cannot_read_is_an_error() {
    let fixture = Fixture::new();
    let python = fixture.path("python3");
    fs::copy(fixture.path("strict"), &python).unwrap();
    let mut fuzzer = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    fuzzer.env("QEMU_IMG", fixture.path("careless"));
    let path = std::env::var("PATH").unwrap();
    fuzzer.env(
        "PATH",
        format!("{}:{path}", fixture.folder.path().display()),
    );
    fuzzer.args(["--tests", "1", "--compare-with", "pyqcow"]);
    let done = fuzzer.arg(fixture.path("work")).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.contains("'pyqcow' (from --compare-with) cannot read a valid image (exit 1): no"),
        "{said}"
    );
}

/// What QEMU refuses and shows of mutated images is as it has to be, but for what it accepts
/// knowingly.
#[test]
fn of_qemu_nothing_is_said_without_a_fault() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("qemu-img") || !there("qemu-io") {
        println!("not run: qemu-img and qemu-io are not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let programs = Programs::new(vec!["qemu-img".into()], vec!["qemu-io".into()]);
    let settings = Settings {
        limits: Limits {
            wall: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Settings::new(programs, dir.path())
    };
    let mut runner = TestRunner::new(settings).unwrap();
    let mut maker = Maker::default();
    let plan = Plan {
        guard: GuardPlan::Off,
        ..Plan::default()
    };
    let all = sweep(&plan, SweepMode::Only).unwrap().expect("a sweep");
    for number in 0..200 {
        let recipe = match number % 2 {
            0 => sweep_recipe(&all, number / 2, &plan).expect("so many tests"),
            _ => fresh(&format!("quiet/{number}"), &plan, &mut maker).unwrap(),
        };
        let files = maker.files(&recipe.base, &recipe.edits).unwrap();
        let outcome = runner.run_with(&recipe, &files, TimeoutPolicy::Short);
        for found in outcome.unwrap().violations {
            let judged = [Class::AcceptedInvalid, Class::WrongData].contains(&found.class);
            let recipe = || recipe.to_json().unwrap();
            assert!(!judged, "{}\n{}", found.summary, recipe());
        }
    }
}
