//! Runs drawn tests under all oracles, each command once and briefly, and prints how often
//! each group of findings came: on programs that are sound, what is printed is false.
//!
//! `cargo run --example false_findings -- TESTS SEED [CLASS...]`; with `CLASS` only findings of
//! these classes, each with its example. `EDITS=0` makes the images valid.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use image_fuzzer::campaign::{Plan, fresh};
use image_fuzzer::commands::Programs;
use image_fuzzer::exec::Limits;
use image_fuzzer::input::case::Maker;
use image_fuzzer::input::mutate::Intensity;
use image_fuzzer::oracle::runner::{Settings, TestRunner};
use image_fuzzer::oracle::timeout::TimeoutPolicy;
use image_fuzzer::triage::Key;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let tests: u64 = args.next().context("how many tests?")?.parse()?;
    let seed = args.next().context("which seed?")?;
    let classes: Vec<String> = args.collect();
    let valid = std::env::var("EDITS").is_ok_and(|edits| edits == "0");
    let plan = Plan {
        commands: None,
        selection: None,
        intensity: if valid {
            Intensity::Mutations(0, 0)
        } else {
            Intensity::default()
        },
        families: Vec::new(),
    };
    let mut runner = TestRunner::new(Settings {
        programs: Programs::from_env()?,
        compare_with: None,
        must_refuse: false,
        limits: Limits {
            wall: Duration::from_secs(1),
            cpu: Duration::from_secs(2),
            ..Limits::default()
        },
        fork_server: true,
        sandbox: true,
        leaks: false,
        readable: Vec::new(),
        fallback: std::env::temp_dir(),
    })?;
    let mut maker = Maker::default();
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let (mut runs, began) = (0, Instant::now());
    for number in 0..tests {
        let recipe = fresh(&format!("{seed}/{number}"), &plan, &mut maker)?;
        let files = maker.files(&recipe)?;
        let outcome = runner.run_with(&recipe, &files, TimeoutPolicy::Short)?;
        runs += outcome.runs;
        for violation in &outcome.violations {
            let key = Key::of(violation);
            if !classes.is_empty() && !classes.contains(&key.class.to_string()) {
                continue;
            }
            let count = found.entry(key.to_string()).or_default();
            *count += 1;
            if *count == 1 && !classes.is_empty() {
                let command = recipe.commands[violation.command].shell();
                println!(
                    "{key}\n  {command}\n  {}\n  {}",
                    violation.summary,
                    recipe.to_json()?
                );
            }
        }
        if (number + 1) % 1000 == 0 {
            let seconds = began.elapsed().as_secs();
            println!("{} tests, {runs} runs, {seconds} s, {found:?}", number + 1);
        }
    }
    println!("{tests} tests, {runs} runs: {found:#?}");
    Ok(())
}
