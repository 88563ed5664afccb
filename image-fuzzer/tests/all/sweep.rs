//! The sweep as people run it: listed, alone, resumed where it was, left out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image_fuzzer::campaign::{Plan, fresh};
use image_fuzzer::input::guard::GuardPlan;
use image_mutations::case::Maker;
use image_mutations::mutate::Intensity;

fn fuzzer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
    command.stdin(Stdio::null());
    command
}

/// A program that reads an image and is there on every machine.
fn reader() -> String {
    format!("{} read", env!("CARGO_BIN_EXE_planted"))
}

fn run(command: &mut Command) -> Output {
    let done = command.output().expect("the fuzzer starts");
    let ends = done
        .status
        .code()
        .is_some_and(|code| [0, 3].contains(&code));
    assert!(ends, "{done:?}");
    done
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How many tests of the sweep are finished in a work folder.
fn swept(work: &Path) -> u64 {
    let text = fs::read_to_string(work.join("sweep")).unwrap_or_default();
    let count = |line: &str| match line.strip_prefix("below ") {
        Some(count) => count.parse().unwrap(),
        None => 1,
    };
    text.lines().map(count).sum()
}

/// Runs the campaign in `work` until it has had `tests` tests.
fn until(work: &Path, tests: &str, options: &[&str]) -> String {
    let mut command = fuzzer();
    // A program that never hangs, so that nothing has to be confirmed in the end.
    command.args(["fuzz", "-j", "2", "-c", "cat"]);
    command.args(["--tests", tests]);
    text(&run(command.args(options).arg(work)).stdout)
}

#[test]
fn the_sweep_is_listed_without_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let list = |options: &[&str]| {
        let mut command = fuzzer();
        command.args(["--sweep-only", "--list"]).args(options);
        text(&run(command.arg(&work).env("PATH", dir.path())).stdout)
    };
    let all = list(&["-c", &reader()]);
    assert!(all.lines().count() > 1000);
    let first: Vec<&str> = all.lines().next().unwrap().split('\t').collect();
    assert_eq!(
        first[..4],
        ["0", "plain", "refcount order", "header.refcount_order=0x7"]
    );
    assert!(first[4].contains("planted"), "{first:?}");
    let bitmaps = list(&["-c", &reader(), "--family", "bitmap"]);
    assert!(bitmaps.lines().count() < all.lines().count() / 5);
    assert!(bitmaps.contains("bitmap[0].table_size=0x1\t"));
    assert_eq!(list(&["-c", &reader(), "--intensity", "0"]), "");
    assert!(!work.exists());
}

#[test]
fn a_campaign_resumes_its_sweep_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let said = until(&work, "15", &[]);
    assert!(said.contains("sweep 15 of "), "{said}");
    let said = until(&work, "40", &[]);
    assert!(said.contains("sweep 40 of "), "{said}");
    assert_eq!(swept(&work), 40);
    let report = run(fuzzer().arg("report").arg(&work));
    let report = text(&report.stdout);
    let words: Vec<&str> = report.split_whitespace().collect();
    assert!(words.join(" ").contains("sweep 40 of "), "{report}");
    // Left out for a while, it goes on where it was.
    let said = until(&work, "60", &["--no-sweep"]);
    assert!(!said.contains("sweep"), "{said}");
    let said = until(&work, "70", &[]);
    assert!(said.contains("sweep 50 of "), "{said}");
    // Another selection is another sweep.
    let said = until(&work, "80", &["--family", "snapshot"]);
    assert!(said.contains("sweep 10 of "), "{said}");
}

#[test]
fn other_formats_have_a_sweep_that_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut command = fuzzer();
    command.args(["--sweep-only", "--list", "--format", "qed"]);
    let all = text(&run(command.arg(&work)).stdout);
    let lines: Vec<&str> = all.lines().collect();
    assert!((200..=4000).contains(&lines.len()), "{}", lines.len());
    let first: Vec<&str> = lines[0].split('\t').collect();
    assert_eq!(first[..3], ["0", "qed-0", "boundary"]);
    assert!(
        first[4].starts_with("qemu-img convert -f qed "),
        "{first:?}"
    );
    // Each class of fields comes first once, with one value.
    let changed = |line: &&str| line.split('\t').nth(3).map(|it| it.to_owned());
    let starts: Vec<String> = lines.iter().take(12).filter_map(changed).collect();
    let fields: std::collections::BTreeSet<&str> = starts
        .iter()
        .filter_map(|it| it.split('=').next())
        .collect();
    assert_eq!(fields.len(), 12, "{starts:?}");

    // After the first pass there are tests drawn at random between those of the sweep.
    let tried = |said: &str| {
        let rest = said
            .split("sweep ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        rest.and_then(|count| count.parse::<u64>().ok())
    };
    let first = tried(&until(&work, "15", &["--format", "qed"]));
    assert!(first >= Some(15), "{first:?}");
    let second = tried(&until(&work, "30", &["--format", "qed"]));
    assert!(second > first, "{second:?}");
    assert_eq!(Some(swept(&work)), second);
}

#[test]
fn fields_of_other_formats_are_selected_by_their_paths() {
    let dir = tempfile::tempdir().unwrap();
    let list = |config: &str| {
        let mut command = fuzzer();
        command.args([
            "--sweep-only",
            "--list",
            "--format",
            "vpc",
            "--config",
            config,
        ]);
        command
            .arg(dir.path().join("work"))
            .output()
            .expect("the fuzzer starts")
    };
    let footer = list(r#"[["footer","type"],["bat"]]"#);
    assert!(footer.status.success(), "{footer:?}");
    let listed = text(&footer.stdout);
    assert!(
        listed.contains("\tfooter.type=") && listed.contains("\tbat["),
        "{listed}"
    );
    assert!(!listed.contains("\tdynamic."), "{listed}");
    let unknown = list(r#"[["l1_table"]]"#);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let said = text(&unknown.stderr);
    assert!(
        said.contains("unknown structure 'l1_table'; known: "),
        "{said}"
    );
    assert!(
        said.contains("dynamic") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn the_sweep_alone_ends_with_its_last_test() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut command = fuzzer();
    command.args(["--sweep-only", "-c", &reader()]);
    command.args(["--config", r#"[["header","crypt_method"]]"#, "-j", "2"]);
    let said = text(&run(command.arg(&work)).stdout);
    let told = said.split("sweep ").nth(1).unwrap();
    let total = told.lines().next().unwrap();
    let (finished, total) = total.split_once(" of ").unwrap();
    assert_eq!(finished, total);
    assert!(said.starts_with(&format!("{total} images")), "{said}");
}

#[test]
fn each_test_has_a_mutation_unless_none_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let edits = |work: &Path, options: &[&str]| -> Vec<usize> {
        until(work, "60", &[options, &["-k"]].concat());
        let recipe = |number: u32| {
            let path = work.join(format!("test-{number}/recipe.json"));
            let text = fs::read_to_string(path).unwrap();
            let recipe: serde_json::Value = serde_json::from_str(&text).unwrap();
            recipe["edits"].as_array().unwrap().len()
        };
        (0..60).map(recipe).collect()
    };
    let some = edits(&dir.path().join("some"), &["--no-sweep"]);
    assert!(some.iter().all(|count| *count > 0), "{some:?}");
    let none = edits(&dir.path().join("none"), &["--intensity", "0"]);
    assert!(none.iter().all(|count| *count == 0), "{none:?}");
    // A base image without snapshots would have nothing to mutate.
    let selected = [
        "--no-sweep",
        "--config",
        r#"[["bitmaps_extension","nb_bitmaps"]]"#,
    ];
    let selected = edits(&dir.path().join("selected"), &selected);
    assert!(selected.iter().all(|count| *count > 0), "{selected:?}");
}

#[test]
fn base_images_have_what_is_asked_for() {
    let bases = |families: &[&str], selection: Option<&str>| {
        let plan = Plan {
            formats: image_mutations::base::Formats::default(),
            guard: GuardPlan::Off,
            commands: None,
            selection: selection.map(|text| text.parse().unwrap()),
            intensity: Intensity::default(),
            families: families.iter().map(|name| (*name).into()).collect(),
        };
        let mut maker = Maker::default();
        let recipe = move |number| fresh(&format!("asked/{number}"), &plan, &mut maker).unwrap();
        (0..20)
            .map(recipe)
            .map(|recipe| recipe.base.qcow2().unwrap().image.clone())
            .collect::<Vec<_>>()
    };
    let snapshots = bases(&["snapshot"], None);
    assert!(snapshots.iter().all(|image| !image.snapshots.is_empty()));
    let bitmaps = bases(&["bitmap"], None);
    assert!(bitmaps.iter().all(|image| !image.bitmaps.is_empty()));
    let luks = bases(&[], Some(r#"[["luks"]]"#));
    assert!(luks.iter().all(|image| image.encryption.is_some()));
    let tables = bases(&[], Some(r#"[["bitmap_tables","offset"]]"#));
    assert!(tables.iter().all(|image| !image.bitmaps.is_empty()));
}
