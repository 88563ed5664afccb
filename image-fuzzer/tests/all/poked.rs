//! The numbered test of a finding makes its image with QEMU's tools where that shows it too.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use image_fuzzer::campaign::{Campaign, Plan, SweepMode};
use image_fuzzer::commands::Programs;
use image_fuzzer::finding::records;
use image_fuzzer::input::guard::GuardPlan;
use image_fuzzer::oracle::runner::Settings;
use image_mutations::mutate::Intensity;

/// A reader that crashes where the L1 table is long.
const READER: &str = env!("CARGO_BIN_EXE_planted");

/// The folder of the only finding of a campaign on the L1 tables of images.
fn finding(dir: &Path) -> std::path::PathBuf {
    let programs = Programs::new(vec!["qemu-img".into()], vec!["qemu-io".into()]);
    let words = [READER, "read", "$test_img"];
    let campaign = Campaign {
        seed: Some("poked".into()),
        plan: Plan {
            commands: Some(vec![image_fuzzer::commands::Command::new(words)]),
            selection: Some(r#"[["header","l1_size"]]"#.parse().expect("a sound config")),
            intensity: Intensity::Mutations(1, 1),
            guard: GuardPlan::Off,
            ..Plan::default()
        },
        sweep: SweepMode::Off,
        tests: Some(60),
        workers: 2,
        ..Campaign::new(dir, Settings::new(programs, dir))
    };
    let stop = Arc::new(AtomicBool::new(false));
    let summary = campaign.run(&stop).expect("the campaign runs");
    assert_eq!(summary.error, None);
    let found = records(dir).expect("the findings can be read");
    let crash = found.iter().find(|(_, record)| {
        let text = record.key.to_string();
        text.starts_with("crash: SIGSEGV") && record.minimised
    });
    let (folder, _) = crash.expect("the crash was found and minimised");
    folder.clone()
}

/// What the numbered test in the file prints.
fn output(test: &Path) -> String {
    let done = Command::new("bash").arg(test).output();
    let done = done.expect("there is a shell");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    String::from_utf8(done.stdout).expect("text")
}

#[test]
fn a_test_makes_its_image_with_a_poke() {
    for tool in ["qemu-img", "qemu-io"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("not run: there is no {tool}");
            return;
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let folder = finding(dir.path());
    let test = folder.join("iotest");
    let text = std::fs::read_to_string(&test).expect("a test");
    let golden = std::fs::read_to_string(folder.join("iotest.out")).expect("a golden");
    assert!(!text.contains("base64"), "{text}");
    // One field is wrong, and the top of the test says which.
    assert!(text.contains("#   header.l1_size: "), "{text}");
    let create = "    $QEMU_IMG create -f qcow2 \"$test_img\" ";
    assert!(text.contains(create), "{text}");
    assert_eq!(
        text.matches("    poke \"$test_img\" 0x24 '").count(),
        1,
        "{text}"
    );
    let broken = output(&test);
    assert_eq!(broken, golden.replace("exited", "ended by signal 11"));
    // A reader without the fault passes.
    let healthy = dir.path().join("healthy");
    let command = format!("run {READER} read");
    assert!(text.contains(&command), "{text}");
    std::fs::write(&healthy, text.replace(&command, "run true")).expect("a file");
    assert_eq!(output(&healthy), golden);
}
