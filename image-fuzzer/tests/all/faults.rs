//! Validations that a reader of images can lack, one at a time: the sweep reaches each, and an
//! oracle of the expected class notices.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use image_fuzzer::campaign::{Plan, SweepMode, sweep, sweep_recipe};
use image_fuzzer::commands::Programs;
use image_fuzzer::exec::Limits;
use image_fuzzer::input::guard::{Guard, GuardMode, GuardPlan};
use image_fuzzer::input::recipe::Recipe;
use image_fuzzer::oracle::Class;
use image_fuzzer::oracle::runner::{Outcome, Settings, TestRunner};
use image_fuzzer::oracle::timeout::TimeoutPolicy;
use image_mutations::case::Maker;
use image_mutations::mutate::Intensity;

const PLANTED: &str = env!("CARGO_BIN_EXE_planted");

/// What the reader prints of a rule that it enforces.
const REFUSED: &str = "planted: the image breaks the rule ";

/// How many tests of the sweep may come before the one that reaches a fault.
const REACHED_WITHIN: u64 = 600;

fn plan() -> Plan {
    Plan {
        formats: image_mutations::base::Formats::default(),
        commands: None,
        selection: None,
        intensity: Intensity::default(),
        families: Vec::new(),
        guard: GuardPlan::Off,
    }
}

/// The time of commands that are not to exceed it, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// The time of those that do.
const SHORT: Duration = Duration::from_millis(500);

/// A test runner for the reader without the validation of that name.
fn runner(missing: &str, wall: Duration, fallback: &Path) -> TestRunner {
    let program: Vec<OsString> = [PLANTED, "fault", missing].map(OsString::from).into();
    let settings = Settings {
        limits: Limits {
            wall,
            memory: 256 << 20,
            output: 1 << 20,
            disk_growth: 64 << 20,
            ..Limits::default()
        },
        ..Settings::new(Programs::new(program.clone(), program), fallback)
    };
    TestRunner::new(settings).expect("a place for a scratch folder")
}

/// The faults and their classes, as the reader lists them.
fn faults() -> BTreeMap<String, String> {
    let done = std::process::Command::new(PLANTED).arg("list").output();
    let list = String::from_utf8(done.expect("the reader starts").stdout).expect("text");
    let line = |line: &str| {
        let (name, class) = line.split_once('\t').expect("a name and a class");
        (name.to_owned(), class.to_owned())
    };
    list.lines().map(line).collect()
}

/// The rule that a command found broken.
fn refused(outcome: &Outcome, command: usize) -> Option<String> {
    let stderr = String::from_utf8_lossy(&outcome.ran.get(command)?.seen.stderr).into_owned();
    Some(stderr.strip_prefix(REFUSED)?.trim().to_owned())
}

/// For each rule the first test of the sweep that reaches it: its index, and its recipe with
/// the commands that do.
fn reached(faults: &BTreeMap<String, String>, fallback: &Path) -> BTreeMap<String, (u64, Recipe)> {
    let sweep = sweep(&plan(), SweepMode::Only).expect("the sweep can be made");
    let sweep = sweep.expect("there is a sweep");
    let mut complete = runner("none", LONG, fallback);
    let mut maker = Maker::default();
    let mut reached = BTreeMap::new();
    for index in 0..REACHED_WITHIN {
        if reached.len() == faults.len() {
            break;
        }
        let recipe = sweep_recipe(&sweep, index, &plan()).expect("the sweep is longer");
        let files = maker
            .files(&recipe.base, &recipe.edits)
            .expect("the image can be made");
        let outcome = complete.run(&recipe, &files).expect("the commands run");
        // The reader does not know every rule.
        let mut violations = outcome.violations.iter();
        let wrong = violations.find(|it| it.class != Class::AcceptedInvalid);
        assert_eq!(wrong, None, "{index}: {recipe:?}");
        for (position, command) in recipe.commands.iter().enumerate() {
            let Some(rule) = refused(&outcome, position) else {
                continue;
            };
            let bare = || Recipe {
                commands: Vec::new(),
                ..recipe.clone()
            };
            let (first, reaching) = reached.entry(rule).or_insert_with(|| (index, bare()));
            if *first == index {
                reaching.commands.push(command.clone());
            }
        }
    }
    reached
}

/// The guard without which faults of that class do not show.
fn guard(class: &str) -> Option<Guard> {
    let compare = class == "uninitialised";
    (compare || class == "memory-error").then_some(Guard {
        mode: GuardMode::Ends,
        fill: 0xa5,
        compare,
    })
}

#[test]
fn each_missing_validation_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let faults = faults();
    assert!(faults.len() >= 40, "{} faults", faults.len());
    let reached = reached(&faults, dir.path());
    let missing: Vec<_> = faults
        .keys()
        .filter(|it| !reached.contains_key(*it))
        .collect();
    assert!(missing.is_empty(), "not reached: {missing:?}");
    let oracles: BTreeSet<String> = Class::ALL.iter().map(ToString::to_string).collect();
    let mut wrong = Vec::new();
    let mut maker = Maker::default();
    for (fault, expected) in &faults {
        let (index, recipe) = &reached[fault];
        let files = maker
            .files(&recipe.base, &recipe.edits)
            .expect("the image can be made");
        let wall = if expected == "hang" { SHORT } else { LONG };
        let mut runner = runner(fault, wall, dir.path());
        let mut found = |guard| {
            let recipe = Recipe {
                guard,
                ..recipe.clone()
            };
            // What exceeds its time is not waited for a second time.
            let outcome = runner.run_with(&recipe, &files, TimeoutPolicy::Once);
            let outcome = outcome.expect("the commands run");
            let classes = outcome.violations.iter().map(|it| it.class.to_string());
            // What goes on in spite of a missing validation has accepted the image.
            let accepted = Class::AcceptedInvalid.to_string();
            classes
                .filter(|class| *class != accepted || *expected == accepted)
                .collect::<BTreeSet<String>>()
        };
        let guard = guard(expected);
        if guard.is_some() {
            assert_eq!(found(None), BTreeSet::new(), "{fault} without a guard");
        }
        let classes = found(guard);
        println!("{fault}: test {index} of the sweep, {classes:?}");
        let expected_classes = oracles.get(expected).cloned().into_iter().collect();
        if classes != expected_classes {
            let words: Vec<String> = recipe.commands.iter().map(|it| it.shell()).collect();
            wrong.push(format!(
                "{fault}: {classes:?} in place of {expected}: {:?} {words:?}",
                recipe.edits
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let classes: BTreeSet<&String> = faults.values().collect();
    let without: Vec<&String> = oracles.iter().filter(|it| !classes.contains(it)).collect();
    // These are no missing validations, and are tested for in `planted`, `probe` and `readers`.
    let elsewhere = [
        "disagreement",
        "external-access",
        "format-change",
        "slow",
        "wrong-data",
    ];
    assert_eq!(without, elsewhere);
}
