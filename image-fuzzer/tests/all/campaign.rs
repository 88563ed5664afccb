//! The program as people run it: seeds, interrupting and resuming, cleaning up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use image_formats::ReadAt as _;
use image_fuzzer::campaign::{Plan, fresh};
use image_fuzzer::commands::{Command as Words, Programs};
use image_fuzzer::exec::{End, Limits};
use image_fuzzer::input::guard::GuardPlan;
use image_fuzzer::oracle::runner::{Outcome, Settings, TestRunner};
use image_mutations::case::Maker;
use image_mutations::rng::{FNV_START, Rng, fnv};

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

/// The same without the bugs that take long: a campaign that finds a hang waits for more than a
/// minute, to tell it from what is slow.
fn quick_reader() -> String {
    let program = env!("CARGO_BIN_EXE_planted");
    format!("{program} fault snapshot-count info")
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the fuzzer starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The hash of the files that twenty seeds give.
fn hash_of_seeds() -> u64 {
    let plan = Plan {
        guard: GuardPlan::Off,
        ..Plan::default()
    };
    let mut maker = Maker::default();
    (0..20).fold(FNV_START, |hash, number| {
        let recipe = fresh(&format!("golden {number}"), &plan, &mut maker).expect("a recipe");
        let files = maker.files(&recipe.base, &recipe.edits).expect("its files");
        let hash = fnv(hash, recipe.to_json().expect("its JSON").as_bytes());
        files.iter().fold(hash, |hash, file| {
            let hash = fnv(fnv(hash, file.name.as_bytes()), &file.len().to_be_bytes());
            fnv(hash, &file.to_vec())
        })
    })
}

/// The same seed gives the same recipe and the same bytes, on every machine. A change here is
/// a change of what seeds mean: increase the fuzzer's version with it.
#[test]
fn a_seed_gives_the_same_bytes_everywhere() {
    assert_eq!(hash_of_seeds(), HASH, "{:#x}", hash_of_seeds());
}

const HASH: u64 = 0xb7f6_a7d9_ce8b_c183;

#[test]
fn a_recipe_gives_the_same_image_again() {
    let plan = Plan {
        guard: GuardPlan::Off,
        ..Plan::default()
    };
    for number in 0..50 {
        let recipe = fresh(&format!("again {number}"), &plan, &mut Maker::default()).unwrap();
        let text = recipe.to_json().unwrap();
        let read = serde_json::from_str(&text).unwrap();
        assert_eq!(recipe, read);
        let files = Maker::default().files(&recipe.base, &recipe.edits).unwrap();
        assert_eq!(
            files,
            Maker::default().files(&read.base, &read.edits).unwrap()
        );
    }
}

#[test]
fn one_seed_is_one_test_and_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    for name in ["a", "b"] {
        let work = dir.path().join(name);
        let done = run(fuzzer().args(["-s", "seed 1", "-c", &reader()]).arg(&work));
        assert!(
            done.status
                .code()
                .is_some_and(|code| code == 0 || code == 3),
            "{done:?}"
        );
        let test = work.join("test-0");
        images.push(fs::read(test.join("test.qcow2")).unwrap());
        assert!(
            fs::read_to_string(work.join("run.log"))
                .unwrap()
                .contains("seed 1")
        );
        assert!(test.join("test.log").exists() && test.join("recipe.json").exists());
    }
    assert_eq!(images[0], images[1]);
}

/// Names of scratch folders in memory that belong to process `owner`.
fn scratch_of(owner: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read_to_string(path.join("owner")).is_ok_and(|text| text == owner.to_string())
        })
        .collect()
}

/// Numbers of finished tests.
fn finished(work: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(work.join("done")).unwrap_or_default();
    let mut numbers = BTreeSet::new();
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        match line.trim().strip_prefix("below ") {
            Some(count) => numbers.extend(0..count.parse::<u64>().unwrap()),
            None => drop(numbers.insert(line.trim().parse().unwrap())),
        }
    }
    numbers
}

#[test]
fn a_killed_campaign_is_resumed_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut before = BTreeSet::new();
    let mut killed = Vec::new();
    let mut rng = Rng::from_text("moments");
    for _ in 0..10 {
        let mut child = fuzzer()
            .args([
                "-j",
                "2",
                "--no-sweep",
                "--campaign-seed",
                "kill",
                "-c",
                &quick_reader(),
            ])
            .arg(&work)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // At a random moment: at any point of a test after some more are finished.
        let more = rng.below(12) as usize;
        let spins = rng.below(200_000);
        while finished(&work).len() < before.len() + more {
            assert!(child.try_wait().unwrap().is_none(), "the fuzzer exited");
            std::thread::yield_now();
        }
        for _ in 0..spins {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed.push(child.id());
        let after = finished(&work);
        assert!(after.is_superset(&before));
        before = after;
    }
    let most = before.len() as u64 + 20;
    let done = run(fuzzer()
        .args([
            "-j",
            "2",
            "--no-sweep",
            "--tests",
            &most.to_string(),
            "-c",
            &quick_reader(),
        ])
        .arg(&work));
    assert!(
        done.status
            .code()
            .is_some_and(|code| code == 0 || code == 3),
        "{done:?}"
    );
    // Every test was finished, none is missing.
    assert_eq!(
        finished(&work),
        (0..most.max(before.len() as u64)).collect()
    );
    for owner in killed {
        assert_eq!(scratch_of(owner), Vec::<PathBuf>::new());
    }
    // Each queued image has its recipe and the other way about.
    let names = |folder: &str| -> BTreeSet<String> {
        fs::read_dir(work.join(folder))
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .replace(".json", "")
            })
            .collect()
    };
    assert!(names("queue").is_superset(&names("recipes")));
    assert!(!names("recipes").is_empty());
}

#[test]
fn an_interrupted_campaign_is_resumed_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (work, up, go) = (
        dir.path().join("work"),
        dir.path().join("up"),
        dir.path().join("go"),
    );
    // Hangs until the file `go` is there; says that it does.
    let script = format!(
        "test -e '{0}' || {{ echo >>'{1}'; exec sleep 100000; }}",
        go.display(),
        up.display()
    );
    let command = serde_json::json!([["sh", "-c", script, "$test_img"]]).to_string();
    let start = || {
        let mut fuzzer = fuzzer();
        fuzzer.args([
            "-j",
            "2",
            "--campaign-seed",
            "stop",
            "--tests",
            "6",
            "-v",
            "--no-sweep",
        ]);
        fuzzer.args(["--no-sandbox", "--timeout", "50000", "-c", &command]);
        fuzzer.arg(&work).stdout(Stdio::null());
        fuzzer
    };
    let mut child = start().stdout(Stdio::piped()).spawn().unwrap();
    // The first time it is tried on a valid image.
    while fs::metadata(&up).map_or(0, |up| up.len()) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it exited");
        std::thread::yield_now();
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    // It does not wait for the programs that run.
    let done = child.wait_with_output().unwrap();
    // No image was tested.
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stdout);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("interrupted; "), "{said}");
    assert_eq!(finished(&work), BTreeSet::new());
    let suspended = || -> Vec<PathBuf> {
        let entries = fs::read_dir(work.join("suspended")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let interrupted: Vec<(PathBuf, String)> = suspended()
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(!interrupted.is_empty());
    fs::write(&go, "").unwrap();
    assert_eq!(start().status().unwrap().code(), Some(0));
    assert_eq!(finished(&work), (0..6).collect());
    assert_eq!(suspended(), Vec::<PathBuf>::new());
    // Each was run once, and the interrupted ones with the seed they had.
    let log = fs::read_to_string(work.join("run.log")).unwrap();
    for number in 0..6 {
        let lines = log
            .lines()
            .filter(|line| format!("{line} ").starts_with(&format!("test {number} ")))
            .count();
        assert_eq!(lines, 1, "{log}");
    }
    for (path, recipe) in interrupted {
        let recipe: serde_json::Value = serde_json::from_str(&recipe).unwrap();
        let number = path.file_stem().unwrap().to_str().unwrap();
        let seed = recipe["seed"].as_str().unwrap();
        let line = format!("test {number} seed {seed}");
        assert!(log.lines().any(|known| known == line), "{log}");
    }
}

/// The log once named a seed for every failed test, and most of these seeds gave other tests.
#[test]
fn the_log_says_how_to_reproduce_a_test() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let config = r#"[["header", "nb_snapshots"]]"#;
    let reader = reader();
    let options = ["--config", config, "-c", &reader];
    let words = ["-k", "-j", "1", "--tests", "60", "--no-sweep"];
    let seed = ["--campaign-seed", "again"];
    let done = run(fuzzer().args(words).args(seed).args(options).arg(&work));
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let log = fs::read_to_string(work.join("run.log")).unwrap();
    let (mut by_seed, mut by_folder) = (0, 0);
    for lines in log.lines().collect::<Vec<_>>().windows(2) {
        let Some(how) = lines[1].strip_prefix("  reproduce: ") else {
            continue;
        };
        let folder = Path::new(lines[0].split(" dir ").nth(1).unwrap());
        let recipe = fs::read_to_string(folder.join("recipe.json")).unwrap();
        if how == format!("image-fuzzer reproduce {}", folder.display()) {
            by_folder += 1;
            assert!(!lines[0].contains(" seed "), "{log}");
            continue;
        }
        let seed = how.strip_prefix("image-fuzzer -s ").unwrap();
        let seed = seed.strip_suffix(" with the same options").unwrap();
        let alone = dir.path().join(format!("alone-{by_seed}"));
        run(fuzzer().args(["-s", seed]).args(options).arg(&alone));
        let again = fs::read_to_string(alone.join("test-0/recipe.json")).unwrap();
        assert_eq!(again, recipe);
        by_seed += 1;
    }
    assert!(by_seed > 0 && by_folder > 0, "{log}");
}

/// A program does the same with a mutated image however it is started.
#[test]
fn the_fork_server_and_plain_starts_give_the_same_outcomes() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        println!("not run: qemu-img is not installed");
        return;
    }
    let lines = [
        "qemu-img info --output=json $test_img",
        "qemu-img check $test_img",
        "qemu-img check -r all $test_img",
        "qemu-img map -f qcow2 $test_img",
        "qemu-img convert -f qcow2 -O raw $test_img out.img",
        "qemu-img snapshot -c new $test_img",
    ];
    let commands = lines.map(|line| Words(shlex::split(line).unwrap()));
    let plan = Plan {
        commands: Some(commands.to_vec()),
        guard: GuardPlan::Off,
        ..Plan::default()
    };
    let runner = |fork_server| {
        TestRunner::new(Settings {
            limits: Limits {
                wall: Duration::from_secs(60),
                cpu: Duration::from_secs(60),
                ..Limits::default()
            },
            fork_server,
            ..Settings::new(Programs::from_env().unwrap(), &std::env::temp_dir())
        })
        .unwrap()
    };
    let (mut forked, mut plain) = (runner(true), runner(false));
    let mut maker = Maker::default();
    for number in 0..25 {
        let recipe = fresh(&format!("both {number}"), &plan, &mut maker).unwrap();
        let files = maker.files(&recipe.base, &recipe.edits).unwrap();
        let one = forked.run(&recipe, &files).unwrap();
        let other = plain.run(&recipe, &files).unwrap();
        let ends = |outcome: &Outcome| -> Vec<End> {
            outcome.ran.iter().map(|ran| ran.seen.end.clone()).collect()
        };
        assert_eq!(ends(&one), ends(&other), "{number}");
        assert_eq!(one.features, other.features, "{number}");
        assert_eq!(one.violations, other.violations, "{number}");
        assert_eq!(one.opened, other.opened, "{number}");
    }
}

#[test]
fn a_campaign_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let child = fuzzer()
        .args([
            "-j",
            "2",
            "--no-sweep",
            "--tests",
            "120",
            "-c",
            &quick_reader(),
        ])
        .arg(&work)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let owner = child.id();
    let done = child.wait_with_output().unwrap();
    assert!(
        done.status
            .code()
            .is_some_and(|code| code == 0 || code == 3),
        "{done:?}"
    );
    assert_eq!(scratch_of(owner), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("image-fuzzer."), "{mounts}");
    // No process of it is left: none has the scratch folder in its command line,
    // its working folder or its environment.
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let parent = format!("image-fuzzer.{owner}.");
        assert!(
            !cwd.to_string_lossy().contains(&parent),
            "{:?}",
            process.path()
        );
    }
}

#[test]
fn an_error_is_reported_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let damaged = dir.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("recipe.json"), "{").unwrap();
    let cases: [(&[&str], &str); 6] = [
        (
            &["-c", "nosuchprogram", absent.to_str().unwrap()],
            "nosuchprogram",
        ),
        (
            &["reproduce", absent.to_str().unwrap()],
            "name the folder of a finding",
        ),
        (&["minimise", damaged.to_str().unwrap()], "is not a recipe"),
        (
            &["report", absent.to_str().unwrap()],
            "name the work folder of a campaign",
        ),
        (&["show", absent.to_str().unwrap()], "absent"),
        (&["--config", "[[\"x\"]]"], "unknown structure 'x'"),
    ];
    for (words, wanted) in cases {
        let done = run(fuzzer().current_dir(dir.path()).args(words));
        let said = text(&done.stderr);
        assert!(!done.status.success(), "{words:?}");
        assert!(said.contains(wanted), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
}

/// A misspelt command once ran on thousands of images, without a warning that none of them
/// was read.
#[test]
fn a_command_that_fails_on_valid_images_too_is_run_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let misspelt = format!("{} raed", env!("CARGO_BIN_EXE_planted"));
    let start = |more: &[&str]| {
        let mut fuzzer = fuzzer();
        fuzzer.current_dir(dir.path()).args(["--tests", "2"]);
        run(fuzzer
            .args(["-c", &misspelt, "-c", &reader(), "work"])
            .args(more))
    };
    let refused = start(&[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("fails on a valid image as well"), "{said}");
    assert!(said.ends_with("with --force\n"), "{said}");
    assert!(!dir.path().join("work/queue").exists());
    let done = start(&["--force"]);
    let said = text(&done.stderr);
    // Others may be about what this machine lacks.
    let about_images = |line: &&str| line.contains("valid image");
    let warnings: Vec<&str> = said.lines().filter(about_images).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    let wanted = "raed \"$test_img\"' fails on a valid image as well (exit 2)";
    assert!(warnings[0].contains(wanted), "{said}");
    assert!(text(&done.stdout).starts_with("2 images"), "{said}");
}

/// `afl-whatsup` and `afl-plot` read these files; a resumed campaign goes on with them.
#[test]
fn statistics_are_written_as_afl_plus_plus_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut commands = 0;
    for tests in ["3", "6"] {
        let options = [
            "--force",
            "--tests",
            tests,
            "--intensity",
            "0",
            "-c",
            "true",
        ];
        run(fuzzer().args(options).arg(&work));
        let stats = fs::read_to_string(work.join("fuzzer_stats")).unwrap();
        let value = |name: &str| {
            let line = stats.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once(": ").unwrap().1.to_owned()
        };
        let done: u64 = value("execs_done").parse().unwrap();
        assert!(done > commands, "{stats}");
        commands = done;
        assert!(value("command_line").contains("--tests"), "{stats}");
        assert_ne!(value("start_time"), "0");
    }
    let plot = fs::read_to_string(work.join("plot_data")).unwrap();
    assert!(plot.starts_with("# relative_time, "), "{plot}");
    assert_eq!(plot.lines().count(), 3, "{plot}");
}

/// The findings of another command were once mixed with those of this one without a warning.
#[test]
fn resuming_with_other_commands_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let reader = reader();
    let mut tests = 0;
    let mut warning = |options: &[&str]| {
        tests += 1;
        let mut fuzzer = fuzzer();
        fuzzer.args(["-j", "1", "--intensity", "0", "--tests", &tests.to_string()]);
        let done = run(fuzzer.args(options).arg(dir.path()));
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let said = text(&done.stderr);
        let mut lines = said
            .lines()
            .filter(|line| line.contains("the previous run"));
        let line = lines.next().map(str::to_owned);
        assert_eq!(lines.next(), None, "{said}");
        line
    };
    assert_eq!(warning(&["-c", "true"]), None);
    assert_eq!(warning(&["-c", "true"]), None);
    let other = warning(&["-c", &reader, "--family", "havoc"]).expect("a warning");
    assert!(
        other.contains("a different -c and a different --family:"),
        "{other}"
    );
    assert_eq!(warning(&["-c", &reader, "--family", "havoc"]), None);
    // A folder of an older fuzzer does not hold its configuration.
    let state = dir.path().join("state.json");
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    known.as_object_mut().unwrap().remove("config").unwrap();
    fs::write(&state, known.to_string()).unwrap();
    assert_eq!(warning(&["-c", "true"]), None);
}

/// Commands that never look at the image once counted as having opened it.
#[test]
fn commands_that_open_no_image_do_not_count_as_opened() {
    let dir = tempfile::tempdir().unwrap();
    let misspelt = format!("{} raed", env!("CARGO_BIN_EXE_planted"));
    let reader = reader();
    let cases = [
        (&[misspelt.as_str(), r#"[["true"]]"#][..], "0 % opened"),
        (&[misspelt.as_str(), reader.as_str()], "100 % opened"),
    ];
    for (commands, wanted) in cases {
        let mut fuzzer = fuzzer();
        let work = dir.path().join(commands.len().to_string());
        fuzzer.args(["-j", "1", "--tests", "4", "--intensity", "0", "--force"]);
        for command in commands {
            fuzzer.args(["-c", command]);
        }
        let said = text(&run(fuzzer.arg(work.with_extension(&wanted[..1]))).stdout);
        assert!(said.contains(&format!(" {wanted}")), "{commands:?}: {said}");
    }
}

/// A campaign in which nothing was read once printed 'no findings' and exited with 0.
#[test]
fn a_campaign_that_opened_nothing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let misspelt = format!("{} raed", env!("CARGO_BIN_EXE_planted"));
    let endless = r#"[["sh", "-c", "exec sleep 100000", "$test_img"]]"#;
    let cases = [
        (&["--tests", "0", "-c", "true"][..], "no image was tested: "),
        (
            &["--force", "--tests", "4", "-c", &misspelt],
            "the target opened none of 4 images: ",
        ),
        (
            &["--tests", "1", "--timeout", "1", "-c", endless],
            "the target hung on the only image: ",
        ),
    ];
    for (number, (words, wanted)) in cases.into_iter().enumerate() {
        let work = dir.path().join(number.to_string());
        let done = run(fuzzer().args(["-j", "1"]).args(words).arg(&work));
        let said = text(&done.stderr);
        assert!(said.contains(wanted), "{words:?}: {said}");
        let report = run(fuzzer().arg("report").arg(&work));
        for said in [text(&done.stdout), text(&report.stdout)] {
            assert!(!said.contains("no findings"), "{words:?}: {said}");
        }
        // On a busy machine what hangs is not always called a hang.
        let statuses: &[i32] = if number == 2 { &[1, 3] } else { &[1] };
        let status = done.status.code().unwrap_or_default();
        assert!(statuses.contains(&status), "{done:?}");
    }
}

/// A resumed campaign once ran the hangs of the last run for 40 s before it made an image.
#[test]
fn parked_hangs_do_not_delay_images() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let command = ["-j", "1", "--timeout", "1000", "-c", &reader()];
    let done = run(fuzzer().args(command).args(["-s", "any"]).arg(&work));
    assert!(done.status.code().is_some_and(|code| code != 1), "{done:?}");
    let recipe = fs::read_to_string(work.join("test-0/recipe.json")).unwrap();
    let mut recipe: serde_json::Value = serde_json::from_str(&recipe).unwrap();
    recipe["commands"] = serde_json::json!([["sh", "-c", "exec sleep 100000", "$test_img"]]);
    let parked = work.join("parked/100000.json");
    fs::create_dir_all(parked.parent().unwrap()).unwrap();
    fs::write(&parked, recipe.to_string()).unwrap();
    let mut child = fuzzer()
        .args(command)
        .arg(&work)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while finished(&work).len() < 20 {
        assert!(child.try_wait().unwrap().is_none(), "the fuzzer exited");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(parked.exists());
}

/// It was once unknown what two thirds of a campaign's time went into.
#[test]
fn the_time_by_purpose_adds_up_over_all_runs() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let mut earlier = 0.0;
    for tests in [20, 30] {
        run(fuzzer()
            .args([
                "-j",
                "2",
                "--tests",
                &tests.to_string(),
                "-c",
                &quick_reader(),
            ])
            .arg(&work));
        let log = fs::read_to_string(work.join("stats.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        let total = &line["total"];
        assert_eq!(total["images"], tests);
        let seconds = total["seconds"].as_f64().unwrap();
        let shares = total["worker_seconds"].as_object().unwrap();
        assert!(shares.contains_key("images") && shares.contains_key("commands"));
        let all: f64 = shares.values().filter_map(|share| share.as_f64()).sum();
        // Workers start a little later than the campaign, and end a little sooner.
        assert!(earlier < all && all <= seconds * 2.0, "{total}");
        earlier = all;
        assert!(total["longest_gap_seconds"].as_f64().unwrap() <= seconds);
    }
    let report = text(&run(fuzzer().arg("report").arg(&work)).stdout);
    assert!(report.contains("TIME OF WORKERS"), "{report}");
    assert!(report.contains("30 images and "), "{report}");
    let json = run(fuzzer().args(["report", "--json"]).arg(&work)).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["total"]["images"], 30);
}

/// The README of a finding once left out which program it was found in.
#[test]
fn only_qemu_tools_are_run_for_their_version() {
    let work = tempfile::tempdir().unwrap();
    let mut runner =
        TestRunner::new(Settings::new(Programs::from_env().unwrap(), work.path())).unwrap();
    let version = runner.version("qemu-img").expect("a version");
    assert!(version.starts_with("qemu-img version "), "{version}");
    assert_eq!(runner.version("bash"), None);
}

#[test]
fn a_report_lists_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let config = r#"[["header", "nb_snapshots"]]"#;
    let done = run(fuzzer()
        .args([
            "-j",
            "1",
            "--tests",
            "40",
            "--config",
            config,
            "-c",
            &reader(),
        ])
        .arg(&work));
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let table = text(&run(fuzzer().arg("report").arg(&work)).stdout);
    assert!(table.contains("nb_snapshots <= MAX"), "{table}");
    let json = run(fuzzer().args(["report", "--json"]).arg(&work)).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["groups"][0]["class"], "crash");
    let page = dir.path().join("page.html");
    run(fuzzer().args(["report", "--html"]).arg(&page).arg(&work));
    assert!(
        fs::read_to_string(&page)
            .unwrap()
            .contains("read_snapshots")
    );
    let folder = json["groups"][0]["folder"].as_str().unwrap();
    let again = run(fuzzer().arg("reproduce").arg(folder));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    let again = run(fuzzer().arg("reproduce").arg(&work));
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert!(
        text(&again.stdout).contains("reproduced 1 of 1 finding"),
        "{again:?}"
    );
    let again = Command::new(Path::new(folder).join("reproduce.sh"))
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    // The numbered test fails as long as the bug is there, and by its golden.
    let test = Command::new(Path::new(folder).join("iotest"))
        .env("TEST_DIR", dir.path())
        .output()
        .unwrap();
    let golden = fs::read_to_string(Path::new(folder).join("iotest.out")).unwrap();
    let said = text(&test.stdout);
    assert_eq!(said.replace("ended by signal 6", "exited"), golden);
    assert_ne!(said, golden);
    let minimised = run(fuzzer().arg("minimise").arg(folder));
    assert_eq!(minimised.status.code(), Some(0), "{minimised:?}");
}

/// A flaky finding was once not reproduced when it was to be minimised.
#[test]
fn a_flaky_finding_is_run_until_it_is_reproduced_to_minimise_it() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let config = r#"[["header", "nb_snapshots"]]"#;
    let command = format!("{} seldom", env!("CARGO_BIN_EXE_planted"));
    let words = [
        "-j", "1", "--tests", "200", "--config", config, "-c", &command,
    ];
    let done = run(fuzzer().args(words).arg(&work));
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let json = run(fuzzer().args(["report", "--json"]).arg(&work)).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let folder = Path::new(json["groups"][0]["folder"].as_str().unwrap());
    // How many of ten runs reproduced it is random as well.
    let record = folder.join("finding.json");
    let mut known: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    known["hits_in_10"] = 3.into();
    fs::write(&record, known.to_string()).unwrap();
    for verb in ["reproduce", "minimise"] {
        let again = run(fuzzer().arg(verb).arg(folder));
        assert_eq!(again.status.code(), Some(0), "{again:?}");
    }
}

/// The oracles find nothing in valid images, whatever commands run on them.
#[test]
fn valid_images_give_no_findings() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("qemu-img") || !there("qemu-io") {
        println!("not run: qemu-img and qemu-io are not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let words = ["-j", "2", "--tests", "60", "--intensity", "0"];
    // What the guard has to say of valid images is asked below.
    let done = run(fuzzer()
        .args(words)
        .args(["--guard", "off"])
        // Variations of what was new differ from run to run, and real faults show on valid images.
        .args(["--feedback", "off"])
        .args(["--campaign-seed", "valid"])
        .arg(&work));
    let report = run(fuzzer().args(["report", "--json"]).arg(&work)).stdout;
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    // Other widths of refcounts take seconds with large clusters: on a busy machine too many.
    let groups = report["groups"].as_array().unwrap().iter();
    let found: Vec<_> = groups.filter(|group| group["class"] != "slow").collect();
    assert!(found.is_empty(), "{found:#?}");
    // Some commands contradict themselves, and open nothing.
    let said = text(&done.stdout);
    let share = said
        .split(" % opened")
        .next()
        .and_then(|before| before.rsplit(' ').next())
        .and_then(|share| share.parse::<u32>().ok());
    assert!(share.is_some_and(|share| share >= 90), "{done:?}");
}

/// Nor does the guarding allocator, on either side of blocks, nor does another fill byte
/// change what is said and written.
#[test]
fn valid_images_give_no_findings_under_the_guard() {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        println!("not run: qemu-img is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for guard in ["ends", "starts"] {
        let work = dir.path().join(guard);
        let words = ["-j", "2", "--tests", "1000", "--intensity", "0"];
        let mut campaign = fuzzer();
        campaign.args(words).args(["--campaign-seed", "valid"]);
        for command in [
            "qemu-img info -f qcow2 $test_img",
            "qemu-img check -f qcow2 $test_img",
            "qemu-img convert -f qcow2 -O qcow2 $test_img out.img",
        ] {
            campaign.args(["-c", command]);
        }
        let done = run(campaign.args(["--guard", guard]).arg(&work));
        let report = text(&run(fuzzer().arg("report").arg(&work)).stdout);
        assert_eq!(done.status.code(), Some(0), "{guard}: {report}");
        let said = text(&done.stdout);
        assert!(said.starts_with("1000 images, "), "{said}");
        assert!(!said.contains(", 0 % opened"), "{said}");
    }
}
