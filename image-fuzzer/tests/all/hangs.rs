//! Hangs are told from slow runs at the same place of a program.

use std::path::Path;
use std::time::Duration;

use image_formats::qcow2::Spec;
use image_fuzzer::commands::{Command, Programs};
use image_fuzzer::exec::Limits;
use image_fuzzer::input::recipe::{FUZZER, Recipe};
use image_fuzzer::oracle::Class;
use image_fuzzer::oracle::runner::{Settings, TestRunner};
use image_fuzzer::oracle::timeout::TimeoutPolicy;
use image_fuzzer::triage::Key;
use image_fuzzer::triage::judge::RunnerJudge;
use image_fuzzer::triage::minimise::{Budget, Task};
use image_mutations::base::{Base, Qcow2Base};
use image_mutations::case::Maker;

/// A test runner with a limit of a second; the program is slow for three.
fn runner(fallback: &Path) -> TestRunner {
    TestRunner::new(Settings {
        limits: Limits {
            wall: Duration::from_secs(1),
            cpu: Duration::from_secs(2),
            ..Limits::default()
        },
        ..Settings::new(Programs::new(Vec::new(), Vec::new()), fallback)
    })
    .expect("a test runner")
}

/// The program at an image that it hangs at (version 2) or is slow with.
fn recipe(version: u32) -> Recipe {
    let image = Spec {
        version,
        virtual_size: 1 << 20,
        ..Spec::default()
    };
    Recipe {
        fuzzer: FUZZER.into(),
        seed: "nap".into(),
        base: Base::Qcow2(Qcow2Base {
            image,
            backing: None,
        }),
        edits: Vec::new(),
        commands: vec![Command::new([
            env!("CARGO_BIN_EXE_planted"),
            "nap",
            "$test_img",
        ])],
        fresh_copies: true,
        guard: None,
    }
}

/// A valid image, with which the program is slow where it hangs with others, once replaced
/// the example of a hang.
#[test]
fn a_slow_run_is_no_smaller_example_of_a_hang() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut runner = runner(dir.path());
    let mut maker = Maker::default();
    let example = recipe(2);
    let files = maker
        .files(&example.base, &example.edits)
        .expect("its files");
    let outcome = runner.run(&example, &files).expect("an outcome");
    let Some(found) = outcome.violations.first() else {
        println!("not run: on a machine so busy, what waits is not called a hang");
        return;
    };
    let key = Key::of(found);
    assert_eq!(key.class, Class::Hang);
    let budget = Budget {
        tests: 30,
        time: Duration::from_secs(20),
    };
    let mut task = Task::new(key, example, budget);
    task.set_outcome(outcome);
    task.confirm(10);
    let smallest = task.advance(&mut RunnerJudge {
        runner: &mut runner,
        maker: &mut maker,
        stop: &|| false,
    });
    assert!(smallest.confirmed && smallest.done);
    assert_eq!(smallest.recipe.base.qcow2().unwrap().image.version, 2);
    let seen = smallest.outcome.expect("it was judged in full").violations;
    assert!(
        seen.iter().any(|seen| seen.class == Class::Hang),
        "{seen:?}"
    );
}

/// A run that is slow where another one hangs is at most a hit, and only when many tests are
/// looked at.
#[test]
fn a_known_hang_is_assumed_only_when_hangs_are_parked() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut runner = runner(dir.path());
    let mut maker = Maker::default();
    let mut seen = |version, policy| {
        let recipe = recipe(version);
        let files = maker.files(&recipe.base, &recipe.edits).expect("its files");
        let outcome = runner.run_with(&recipe, &files, policy);
        let outcome = outcome.expect("an outcome");
        (outcome.violations.first().cloned(), outcome.suspects)
    };
    // What is not known is not waited for, and no finding.
    let (found, suspects) = seen(2, TimeoutPolicy::Park);
    assert_eq!(found, None);
    assert!(
        suspects.len() == 1 && suspects[0].command == 0,
        "{suspects:?}"
    );
    let (Some(first), suspects) = seen(2, TimeoutPolicy::Confirm) else {
        println!("not run: on a machine so busy, what waits is not called a hang");
        return;
    };
    assert!(first.class == Class::Hang && !first.assumed && suspects.is_empty());
    assert_eq!(seen(3, TimeoutPolicy::Confirm).0, None);
    // The first is not assumed, to find out whether some are slow there.
    for number in 0..3 {
        let (slow, suspects) = seen(3, TimeoutPolicy::Park);
        // Without gdb its place is not known.
        assert_eq!(slow.is_none(), suspects.len() == 1, "{slow:?}");
        assert!(slow.is_none_or(|slow| slow.assumed && number > 0));
    }
    // It is waited for, and then called a hang except on a busy machine.
    let again = seen(2, TimeoutPolicy::Confirm).0;
    assert!(again.is_none_or(|again| again.class == Class::Hang && !again.assumed));
}
