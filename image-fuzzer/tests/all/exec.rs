//! Executors on real programs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image_fuzzer::campaign::{Plan, fresh};
use image_fuzzer::commands::Programs;
use image_fuzzer::exec::Debugger;
use image_fuzzer::exec::blocks::ProgramBlocks;
use image_fuzzer::exec::scratch::Scratch;
use image_fuzzer::exec::{
    End, ExecOptions, Executor, Limit, Limits, Observation, Request, SECRET, TimeoutHandler,
    for_program,
};
use image_fuzzer::input::guard::{Guard, GuardMode, GuardPlan};
use image_mutations::base::TEST_IMG;
use image_mutations::case::Maker;
use image_mutations::mutate::Intensity;
use regex::bytes::Regex;

/// A folder with a scratch folder in it, and executors over that.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn scratch(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("scratch")
    }

    fn options(&self) -> ExecOptions {
        ExecOptions::new(self.scratch())
    }

    fn executor(&self, program: &str) -> Box<dyn Executor> {
        for_program(Path::new(program), &self.options()).unwrap()
    }

    fn plain(&self, program: &str) -> Box<dyn Executor> {
        let options = ExecOptions {
            fork_server: false,
            ..self.options()
        };
        for_program(Path::new(program), &options).unwrap()
    }

    fn request(&self, words: &[&str]) -> Request {
        Request::new(words.iter().map(OsString::from).collect(), self.scratch())
    }

    fn sh(&self, script: &str) -> Request {
        Request {
            limits: Limits {
                wall: Duration::from_secs(60),
                ..Limits::default()
            },
            ..self.request(&["sh", "-c", script])
        }
    }

    fn script(&self, text: &str) -> String {
        let path = self.folder.path().join("program");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Commands that succeed, fail, write, read their input, and are refused.
const QEMU_IMG: &[&str] = &[
    "qemu-img",
    "qemu-img --help",
    "qemu-img nonsense",
    "qemu-img create -f qcow2 a.qcow2 4M",
    "qemu-img create -f qcow2 -o extended_l2=on,cluster_size=64k,compression_type=zstd x.qcow2 4M",
    "qemu-img create -f qcow2 -F qcow2 -b a.qcow2 b.qcow2",
    "qemu-img info a.qcow2",
    "qemu-img info --output=json b.qcow2",
    "qemu-img info missing.qcow2",
    "qemu-img info nbd://127.0.0.1:1/",
    "qemu-img check b.qcow2",
    "qemu-img check -r all --output=json a.qcow2",
    "qemu-img map --output=json b.qcow2",
    "qemu-img measure -O qcow2 a.qcow2",
    "qemu-img convert -O vmdk a.qcow2 c.vmdk",
    "qemu-img convert -c -O qcow2 a.qcow2 d.qcow2",
    "qemu-img compare a.qcow2 d.qcow2",
    "qemu-img dd if=a.qcow2 of=e.raw bs=1M count=2",
    "qemu-img snapshot -c one a.qcow2",
    "qemu-img snapshot -l missing",
    "qemu-img bitmap --add a.qcow2 bits",
    "qemu-img amend -o compat=0.10 a.qcow2",
    "qemu-img resize x.qcow2 8M",
    "qemu-img resize --shrink x.qcow2 1M",
    "qemu-img rebase -u -b '' b.qcow2",
    "qemu-img commit b.qcow2",
    "qemu-img info json:{\"driver\":\"null-co\"}",
];

/// Everything that has to be the same however the program was started.
fn same(seen: &Observation) -> (&End, String, String, &[PathBuf], &[String], bool) {
    let hide_date = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.lines()
            .filter(|line| !line.contains("202"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    (
        &seen.end,
        hide_date(&seen.stdout),
        hide_date(&seen.stderr),
        &seen.touched,
        &seen.left_behind,
        seen.sanitizer.is_some(),
    )
}

fn run_all(executor: &mut dyn Executor, fixture: &Fixture, commands: &[&str]) -> Vec<Observation> {
    let words = |command: &str| {
        let words = command
            .split(' ')
            .map(|word| word.trim_matches('\'').into());
        Request::new(words.collect(), fixture.scratch())
    };
    commands.iter().map(|c| executor.run(&words(c))).collect()
}

#[test]
fn a_fork_server_gives_what_plain_starts_give() {
    let (forked, plain) = (Fixture::new(), Fixture::new());
    let mut fork_server = forked.executor("qemu-img");
    assert_eq!(
        fork_server.name(),
        "fork server",
        "{:?}",
        fork_server.notes()
    );
    let notes = fork_server.notes();
    assert!(!notes.iter().any(|note| note.contains("no fork server")));
    let mut spawner = plain.plain("qemu-img");
    assert_eq!(spawner.name(), "spawn");
    let fork_seen = run_all(&mut *fork_server, &forked, QEMU_IMG);
    let plain_seen = run_all(&mut *spawner, &plain, QEMU_IMG);
    for (command, (fork, plain)) in QEMU_IMG.iter().zip(fork_seen.iter().zip(&plain_seen)) {
        assert!(matches!(fork.end, End::Exit(_)), "{command}: {fork:?}");
        assert_eq!(same(fork), same(plain), "{command}");
    }
    let succeeded = fork_seen.iter().filter(|o| o.end == End::Exit(0)).count();
    assert!(succeeded >= 18, "{fork_seen:#?}");
}

/// A fork server that forks late from the first request on.
fn late(options: ExecOptions) -> ExecOptions {
    ExecOptions {
        late_fork: Some(0),
        ..options
    }
}

/// The same, where the blocks of programs are noted.
fn noting(options: ExecOptions) -> ExecOptions {
    ExecOptions {
        blocks: Some(ProgramBlocks::new(Vec::new()).into()),
        ..options
    }
}

/// How many servers that fork late there are whose runs are in `folder`.
fn late_servers(folder: &Path) -> usize {
    let ours = childproc::descendants(std::process::id().cast_signed()).unwrap();
    let is_late = |pid: i32| {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let env = fs::read(proc.join("environ")).unwrap_or_default();
        fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == folder)
            && env
                .split(|&byte| byte == 0)
                .any(|line| line == b"IMAGE_FUZZER_RUN_SERVER=late")
    };
    ours.into_iter()
        .filter(|process| is_late(process.pid))
        .count()
}

/// What a sequence of commands did: what was seen of each, and the files after it.
type Done = BTreeMap<String, Vec<u8>>;

/// The commands that the fuzzer draws do the same in a new process, in a fork server, in one
/// that forks late, and in both where blocks are noted.
///
/// `COMPARED_COMMANDS` in the environment is how many are compared at least.
#[test]
fn commands_drawn_do_the_same_however_they_are_started() {
    let Ok(programs) = Programs::from_env() else {
        panic!("no programs");
    };
    if programs.find("qemu-img").is_err() {
        println!("not run: qemu-img is not installed");
        return;
    }
    let wanted = std::env::var("COMPARED_COMMANDS").map_or(300, |count| count.parse().unwrap());
    let plan = Plan {
        formats: image_mutations::base::Formats::default(),
        commands: None,
        selection: None,
        intensity: Intensity::default(),
        families: Vec::new(),
        guard: GuardPlan::Off,
    };
    let fallback = tempfile::tempdir().unwrap();
    let scratch = Scratch::new(fallback.path()).unwrap();
    let options = ExecOptions::new(scratch.work());
    let ways = [
        ExecOptions {
            fork_server: false,
            ..options.clone()
        },
        ExecOptions {
            late_fork: None,
            ..options.clone()
        },
        late(options.clone()),
        noting(ExecOptions {
            late_fork: None,
            ..options.clone()
        }),
        noting(late(options.clone())),
    ];
    let mut executors = ways.map(|options| {
        ["qemu-img", "qemu-io"].map(|name| for_program(Path::new(name), &options).unwrap())
    });
    let names = executors
        .each_ref()
        .map(|[image, _]| image.name().to_owned());
    let server = "fork server";
    assert_eq!(names, ["spawn", server, server, server, server]);
    let mut maker = Maker::default();
    let (mut compared, mut results, mut unsteady, mut number) = (0, 0, 0, 0);
    let mut blocks = [0; 5];
    while compared < wanted {
        number += 1;
        let recipe = fresh(&format!("late {number}"), &plan, &mut maker).unwrap();
        let files = maker.files(&recipe.base, &recipe.edits).unwrap();
        let mut run = |way: usize| {
            scratch.fill(&files).unwrap();
            let mut done = Done::new();
            for (number, command) in recipe.commands.iter().enumerate() {
                let argv = programs.argv(command, TEST_IMG);
                let is_io = argv[0] == "qemu-io";
                let mut request = Request::new(argv, scratch.work());
                request.limits.wall = Duration::from_secs(5);
                let seen = executors[way][usize::from(is_io)].run(&request);
                blocks[way] += seen.blocks.len();
                let (out, err) = (without_times(&seen.stdout), without_times(&seen.stderr));
                let rest = (
                    &seen.end,
                    &seen.touched,
                    &seen.left_behind,
                    seen.disk_growth,
                );
                let rest = format!("{rest:?}").into_bytes();
                for (what, text) in [("stdout", out), ("stderr", err), ("end", rest)] {
                    done.insert(format!("{what} of {number}: {command:?}"), text);
                }
            }
            for entry in fs::read_dir(scratch.work()).unwrap() {
                let path = entry.unwrap().path();
                let file = fs::File::open(&path).unwrap();
                let mut start = Vec::new();
                file.take(16 << 20).read_to_end(&mut start).unwrap();
                done.insert(path.display().to_string(), start);
            }
            done
        };
        let mut spawned = vec![run(0)];
        for (way, name) in [
            (1, "early"),
            (2, "late"),
            (3, "early, blocks noted"),
            (4, "late, blocks noted"),
        ] {
            let mut forked = vec![run(way)];
            results += forked[0].len();
            unsteady += usize::from(!spawned.contains(&forked[0]));
            // Some results depend on random numbers, the time, or what came first: they are
            // the same where one way has several, or both have one in common.
            for _ in 0..20 {
                if different(&spawned, &forked).is_empty() {
                    break;
                }
                spawned.push(run(0));
                forked.push(run(way));
            }
            let different = different(&spawned, &forked);
            assert_eq!(
                different,
                Vec::<String>::new(),
                "test {number}, forked {name}"
            );
        }
        compared += recipe.commands.len();
    }
    println!(
        "{compared} commands of {number} tests compared by {results} results; {unsteady} runs of \
         tests had to be repeated"
    );
    assert!(unsteady <= number, "{unsteady} of {number}");
    let [_, _, _, early, late] = blocks;
    assert_eq!(blocks[..3], [0, 0, 0]);
    assert!(early > 5000 && late > 5000, "{blocks:?}");
    assert!(late_servers(&scratch.work().canonicalize().unwrap()) > 0);
}

/// The results that are always the same in one way, and never that in the other.
fn different(spawned: &[Done], forked: &[Done]) -> Vec<String> {
    let all = spawned.iter().chain(forked).flat_map(BTreeMap::keys);
    let names: BTreeSet<_> = all.collect();
    let is_different = |name: &&&String| {
        let first = spawned[0].get(**name);
        let differs = |done: &Done| done.get(**name) != first;
        !spawned.iter().any(differs) && forked.iter().all(differs)
    };
    let names = names.iter().filter(is_different);
    names.map(|name| (*name).clone()).collect()
}

/// An output without times, with its lines in order: requests that run at once end in any.
fn without_times(text: &[u8]) -> Vec<u8> {
    let times = Regex::new(
        r"([0-9.e+]+ [KMGTPE]?i?B(ytes)?/sec|[0-9.e+]+ ops/sec|ops; [0-9.:]+( sec)?|[0-9.]+ seconds)",
    )
    .unwrap();
    let text = times.replace_all(text, &b"TIME"[..]);
    let mut lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort();
    lines.concat()
}

/// A C program that prints whether it was forked after its constructors.
fn late_program(fixture: &Fixture, name: &str, before_options: &str) -> String {
    let path = fixture.folder.path().join(name);
    let source = path.with_extension("c");
    let text = r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <getopt.h>
        #include <pthread.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/epoll.h>
        #include <sys/eventfd.h>
        #include <sys/mman.h>
        #include <sys/time.h>
        #include <unistd.h>
        static pid_t loaded;
        static int kept = -1;
        static void *wait_for_ever(void *none) { pause(); return none; }
        static pthread_t thread;
        static void start_thread(void) { pthread_create(&thread, 0, wait_for_ever, 0); }
        __attribute__((constructor)) static void load(void) { loaded = getpid(); }
        int main(int argc, char **argv) {
            struct option names[] = { { "version", 0, 0, 'V' }, { 0 } };
            char **args = argv;
            int option;
            BEFORE;
            while ((option = getopt_long(argc, args, "v", names, 0)) != -1)
                if (option == 'V') { puts("1.0"); return 0; }
            printf("%s", loaded == getpid() ? "early" : "late");
            for (int i = optind; i < argc; i++) printf(" %s", argv[i]);
            char line[100];
            while (fgets(line, sizeof line, stdin)) printf(" <%s>", line);
            printf(" %s %d\n", getenv("COLOUR") ? getenv("COLOUR") : "-", open("/dev/null", O_RDONLY));
            if (kept >= 0) {
                eventfd_t count = 0;
                eventfd_read(kept, &count);
                printf("count %d\n", (int)count);
                eventfd_write(kept, 5);
            }
            return argc;
        }"#;
    fs::write(&source, text.replace("BEFORE", before_options)).unwrap();
    let built = std::process::Command::new("cc")
        .args(["-O0", "-pthread", "-o"])
        .args([&path, &source])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    path.to_str().unwrap().to_owned()
}

/// What the program prints.
fn printed(executor: &mut dyn Executor, request: &Request) -> String {
    let seen = executor.run(request);
    let said = String::from_utf8_lossy(&seen.stderr);
    assert_eq!(seen.end, End::Exit(request.argv.len() as i32), "{said}");
    String::from_utf8(seen.stdout).unwrap()
}

#[test]
fn a_program_is_forked_at_its_first_option() {
    let fixture = Fixture::new();
    let program = late_program(
        &fixture,
        "program",
        "kept = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC); epoll_create1(0); \
         pthread_atfork(0, 0, start_thread); start_thread()",
    );
    let mut executor = for_program(Path::new(&program), &late(fixture.options())).unwrap();
    assert_eq!(executor.name(), "fork server", "{:?}", executor.notes());
    for word in ["one", "two", "", "a longer word with blanks"] {
        let mut request = fixture.request(&["program", word, "-v"]);
        let out = printed(&mut *executor, &request);
        assert_eq!(out, format!("late {word} - 5\ncount 3\n"));
        request.stdin = Some(b"input".to_vec());
        let out = printed(&mut *executor, &request);
        assert_eq!(out, format!("late {word} <input> - 5\ncount 3\n"));
        request.stdin = None;
        request.env = vec![("COLOUR".into(), word.into())];
        let out = printed(&mut *executor, &request);
        assert_eq!(out, format!("late {word} {word} 5\ncount 3\n"));
    }
    // Words that are too long are left to the other server, and so is the guard.
    for (length, way) in [(1023, "late"), (1024, "early")] {
        let word = "x".repeat(length);
        let out = printed(&mut *executor, &fixture.request(&["program", &word]));
        assert_eq!(out, format!("{way} {word} - 5\ncount 3\n"));
    }
    let guard = Some(Guard {
        mode: GuardMode::All,
        fill: 0x5a,
        compare: false,
    });
    let request = Request {
        guard,
        ..fixture.request(&["program", "word"])
    };
    assert!(printed(&mut *executor, &request).starts_with("early word"));
    // There are at most so many servers, and a run in one that was ended has another.
    for _ in 0..2 {
        for count in 1..20 {
            let mut words = vec!["program"];
            words.resize(count, "word");
            let out = printed(&mut *executor, &fixture.request(&words));
            assert!(out.starts_with("late"), "{count} {out}");
        }
        assert_eq!(late_servers(&fixture.scratch()), 12);
    }
}

#[test]
fn a_server_that_forks_late_is_started_for_what_is_run_often() {
    let fixture = Fixture::new();
    let program = late_program(&fixture, "program", "");
    let options = ExecOptions {
        late_fork: Some(3),
        ..fixture.options()
    };
    let mut executor = for_program(Path::new(&program), &options).unwrap();
    for words in [&["program"][..], &["program", "a", "b"]] {
        for way in ["early", "early", "early", "late", "late"] {
            let out = printed(&mut *executor, &fixture.request(words));
            assert!(out.starts_with(way), "{words:?} {out}");
        }
    }
}

/// What a program does before it reads its options, and the runs cannot share.
#[test]
fn a_program_that_cannot_be_forked_late_is_forked_early() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.scratch()).unwrap();
    fs::write(fixture.scratch().join("settings"), "x").unwrap();
    let cases = [
        ("reads", "if (argc > 1 && argv[1][0] == 'x') return 9"),
        (
            "other",
            "args = memcpy(malloc(9 * argc), argv, 8 * (argc + 1))",
        ),
        ("opens", "open(\"/dev/null\", O_RDONLY)"),
        ("piped", "pipe((int[2]){0})"),
        ("prints", "printf(\"\")  ; fputs(\"\\n\", stdout); if (0) "),
        ("writes", "write(2, \"x\", 1)"),
        ("enters", "chdir(\"/\")"),
        ("starts", "start_thread()"),
        (
            "shares",
            "mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)",
        ),
        ("times", "alarm(1000)"),
        ("loads", "fgetc(fopen(\"settings\", \"r\")); close(3)"),
        ("forks", "if (!fork()) { pause(); }"),
        ("never", "printf(\"early - %d\\n\", argc); return argc"),
    ];
    for (name, before) in cases {
        let program = late_program(&fixture, name, before);
        let mut executor = for_program(Path::new(&program), &late(fixture.options())).unwrap();
        assert_eq!(executor.name(), "fork server", "{:?}", executor.notes());
        for words in [&[name, "a"][..], &[name, "a", "b"]] {
            let out = printed(&mut *executor, &fixture.request(words));
            assert!(out.trim_start().starts_with("early"), "{name}: {out}");
        }
        assert_eq!(late_servers(&fixture.scratch()), 0, "{name}");
    }
}

#[test]
fn input_environment_and_directory_reach_both() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.scratch().join("sub")).unwrap();
    for mut executor in [fixture.executor("/bin/sh"), fixture.plain("/bin/sh")] {
        let seen = executor.run(&Request {
            env: vec![("COLOUR".into(), "blue".into())],
            cwd: fixture.scratch().join("sub"),
            stdin: Some(b"some words\n".to_vec()),
            ..fixture
                .sh("read line; echo $0 $COLOUR $line ${PWD##*/}; env | sort >&2; ls /proc/self/fd")
        });
        let out = String::from_utf8(seen.stdout).unwrap();
        assert_eq!(out, "sh blue some words sub\n0\n1\n2\n3\n");
        let env = String::from_utf8(seen.stderr).unwrap();
        assert!(!env.contains("LD_") && !env.contains("RUN_SERVER"), "{env}");
        assert!(env.contains("LC_ALL=C\n"), "{env}");
        let empty = executor.run(&fixture.sh("cat; readlink /proc/self/fd/0"));
        assert_eq!(empty.stdout, b"/dev/null\n");
    }
}

#[test]
fn variables_of_the_loader_reach_a_program_under_a_fork_server() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let seen = executor.run(&Request {
        env: vec![("LD_DEBUG".into(), "statistics".into())],
        ..fixture.sh("exit 3")
    });
    assert_eq!(seen.end, End::Exit(3));
    assert!(String::from_utf8_lossy(&seen.stderr).contains("relocation"));
}

#[test]
fn qemu_io_reads_its_commands_from_input() {
    let fixture = Fixture::new();
    let seen = run_all(
        &mut *fixture.executor("qemu-img"),
        &fixture,
        &["qemu-img create -f qcow2 a.qcow2 1M"],
    );
    assert_eq!(seen[0].end, End::Exit(0));
    for mut executor in [fixture.executor("qemu-io"), fixture.plain("qemu-io")] {
        let seen = executor.run(&Request {
            stdin: Some(b"write -P 7 0 64k\nread -P 7 0 64k\nquit\n".to_vec()),
            ..fixture.request(&["qemu-io", "a.qcow2"])
        });
        assert_eq!(seen.end, End::Exit(0));
        let out = String::from_utf8(seen.stdout).unwrap();
        assert!(out.contains("wrote 65536/65536") && out.contains("read 65536/65536"));
        assert!(!out.contains("Pattern verification failed"), "{out}");
    }
}

#[test]
fn a_signal_is_the_programs_own() {
    let fixture = Fixture::new();
    let seen = fixture
        .executor("/bin/sh")
        .run(&fixture.sh("kill -SEGV $$"));
    assert_eq!(seen.end, End::Signal(libc::SIGSEGV));
}

#[test]
fn a_hang_is_ended_with_all_below_it() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let seen = executor.run(&Request {
        limits: Limits {
            wall: Duration::from_millis(300),
            ..Limits::default()
        },
        ..fixture.sh("trap '' TERM; (sleep 1000 & sleep 1000); sleep 1000")
    });
    assert_eq!(seen.end, End::TimedOut);
    assert_eq!(seen.left_behind, [] as [String; 0]);
    assert_eq!(executor.run(&fixture.sh("exit 4")).end, End::Exit(4));
}

#[test]
fn an_inspection_can_end_a_run_early() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let early = Some(Duration::from_millis(20));
    let mut looks = Vec::new();
    let mut look = |pid| {
        looks.push(pid);
        true
    };
    let waits = TimeoutHandler {
        inspect_early: early,
        excuse_starvation: false,
        inspect: Some(&mut look),
    };
    let seen = executor.run_with(&fixture.sh("exec sleep 1000"), waits);
    assert_eq!(seen.end, End::TimedOut);
    assert_eq!(looks.len(), 1);
    let mut looks = 0;
    let mut look = |_| {
        looks += 1;
        false
    };
    let goes_on = TimeoutHandler {
        inspect_early: early,
        excuse_starvation: true,
        inspect: Some(&mut look),
    };
    let seen = executor.run_with(&fixture.sh("sleep 1; exit 3"), goes_on);
    assert_eq!((seen.end, looks), (End::Exit(3), 1));
}

#[test]
fn a_run_ends_when_the_stop_flag_is_set() {
    let fixture = Fixture::new();
    let stop = Arc::new(AtomicBool::new(false));
    let options = ExecOptions {
        stop: Some(Arc::clone(&stop)),
        ..fixture.options()
    };
    let mut executor = for_program(Path::new("/bin/sh"), &options).unwrap();
    let up = fixture.scratch().join("up");
    let stopper = std::thread::spawn(move || {
        while !up.exists() {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = executor.run(&fixture.sh(": >up; sleep 1000 & exec sleep 1000"));
    stopper.join().unwrap();
    assert_eq!(seen.end, End::Stopped);
    assert_eq!(seen.left_behind, Vec::<String>::new());
}

#[test]
fn daemons_are_found_and_ended() {
    let fixture = Fixture::new();
    for sandbox in [true, false] {
        let options = ExecOptions {
            sandbox,
            ..fixture.options()
        };
        let mut executor = for_program(Path::new("/bin/sh"), &options).unwrap();
        let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $! > pid; exit 0";
        let seen = executor.run(&fixture.sh(script));
        assert_eq!(seen.end, End::Exit(0));
        assert_eq!(seen.left_behind.len(), 1, "{seen:?}");
        assert_eq!(executor.run(&fixture.sh("exit 0")).left_behind.len(), 0);
    }
    let mut image = fixture.executor("qemu-img");
    run_all(
        &mut *image,
        &fixture,
        &["qemu-img create -f qcow2 a.qcow2 1M"],
    );
    let serve = [
        "qemu-nbd", "--fork", "-k", "nbd.sock", "-f", "qcow2", "a.qcow2",
    ];
    let mut request = fixture.request(&serve);
    request.argv[3] = fixture.scratch().join("nbd.sock").into();
    let seen = fixture.executor("qemu-nbd").run(&request);
    assert_eq!(seen.left_behind, ["qemu-nbd"], "{seen:?}");
}

#[test]
fn each_limit_ends_a_run() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let wide = || Limits {
        wall: Duration::from_secs(120),
        cpu: Duration::from_secs(120),
        ..Limits::default()
    };
    let cases = [
        (
            Limit::Cpu,
            "while :; do :; done",
            Limits {
                cpu: Duration::from_secs(1),
                ..wide()
            },
        ),
        (
            Limit::Memory,
            "dd if=/dev/zero of=/dev/null bs=256M",
            Limits {
                memory: 64 << 20,
                ..wide()
            },
        ),
        (
            Limit::Output,
            "yes",
            Limits {
                output: 1000,
                ..wide()
            },
        ),
        (
            Limit::DiskGrowth,
            "yes > big",
            Limits {
                disk_growth: 8 << 20,
                ..wide()
            },
        ),
        (
            Limit::Processes,
            "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait",
            Limits {
                processes: 4,
                ..wide()
            },
        ),
    ];
    for (limit, script, limits) in cases {
        let seen = executor.run(&Request {
            limits: limits.clone(),
            ..fixture.sh(script)
        });
        assert_eq!(seen.end, End::OverLimit(limit), "{script}: {seen:?}");
        assert!(seen.stdout.len() <= limits.output);
    }
    let seen = executor.run(&Request {
        limits: Limits {
            file_size: 1000,
            ..wide()
        },
        ..fixture.sh("head -c 2000 /dev/zero > file; stat -c %s file")
    });
    assert_eq!(seen.stdout, b"1000\n");
}

/// A backing file that is the image itself was once opened until there were 20,000 open files,
/// for half a minute.
#[test]
fn a_chain_without_an_end_is_ended_by_the_limit_on_open_files() {
    let fixture = Fixture::new();
    let qemu = Path::new("qemu-img");
    let executors = [
        for_program(qemu, &fixture.options()),
        for_program(
            qemu,
            &ExecOptions {
                fork_server: false,
                ..fixture.options()
            },
        ),
    ];
    for executor in executors {
        let Ok(mut executor) = executor else {
            println!("not run: qemu-img is not installed");
            return;
        };
        for words in [
            "qemu-img create -f qcow2 a.qcow2 1M",
            "qemu-img rebase -u -F qcow2 -b a.qcow2 a.qcow2",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            assert_eq!(executor.run(&fixture.request(&words)).end, End::Exit(0));
        }
        let seen = executor.run(&fixture.request(&["qemu-img", "check", "a.qcow2"]));
        let said = String::from_utf8_lossy(&seen.stderr).into_owned();
        assert_eq!(seen.end, End::Exit(1), "{said}");
        assert!(said.contains("Too many open files"), "{said}");
    }
}

#[test]
fn growth_and_memory_of_a_run_are_measured() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let seen = executor.run(&fixture.sh("head -c 1048576 /dev/urandom > file"));
    assert!(seen.disk_growth >= 1 << 20, "{seen:?}");
    let seen = executor.run(&fixture.sh("rm file"));
    assert!(seen.disk_growth <= -(1 << 20), "{seen:?}");
    let elsewhere = fixture.folder.path().canonicalize().unwrap().join("other");
    fs::create_dir(&elsewhere).unwrap();
    let options = ExecOptions {
        writable: vec![elsewhere.clone()],
        ..fixture.options()
    };
    let mut executor = for_program(Path::new("/bin/sh"), &options).unwrap();
    let seen = executor.run(&Request {
        cwd: elsewhere,
        ..fixture.sh("head -c 1048576 /dev/urandom > file")
    });
    assert!(seen.disk_growth >= 1 << 20, "{seen:?}");
    let seen = executor.run(&fixture.sh("dd if=/dev/zero of=/dev/null bs=64M count=1"));
    assert!(seen.max_rss >= 64 << 20, "{seen:?}");
}

#[test]
fn touched_canaries_are_reported() {
    let fixture = Fixture::new();
    for mut executor in [fixture.executor("/bin/sh"), fixture.plain("/bin/sh")] {
        let canaries = executor.canaries().clone();
        let secret = canaries.files[0].display().to_string();
        let seen = executor.run(&fixture.sh("echo harmless"));
        assert_eq!(seen.touched, [] as [PathBuf; 0]);
        let seen = executor.run(&fixture.sh(&format!("head -c 35 {secret}")));
        assert_eq!(seen.touched, [canaries.files[0].clone()]);
        assert_eq!(seen.stdout, SECRET);
        let seen = executor.run(&fixture.sh(&format!("echo > {secret}; rm {secret}")));
        assert_eq!(seen.touched, [canaries.files[0].clone()]);
        let seen = executor.run(&fixture.sh("echo harmless"));
        assert_eq!(seen.touched, [] as [PathBuf; 0]);
        assert_eq!(fs::read(&secret).unwrap()[..35], *SECRET);
    }
}

#[test]
fn an_image_that_names_a_canary_is_seen_to_use_it() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("qemu-img");
    let canaries = executor.canaries().clone();
    let qcow2 = canaries.files[1].to_str().unwrap();
    let check = executor.run(&fixture.request(&["qemu-img", "check", qcow2]));
    assert_eq!(check.end, End::Exit(0), "{check:?}");
    let create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F"];
    let mut make = |format: &str, backing: &str, name: &str| {
        let mut words = create.to_vec();
        words.extend([format, "-b", backing, name, "1M"]);
        let seen = executor.run(&fixture.request(&words));
        assert_eq!((seen.end, seen.touched), (End::Exit(0), vec![]));
        executor.run(&fixture.request(&["qemu-img", "map", "--output=json", name]))
    };
    let seen = make("qcow2", qcow2, "file.qcow2");
    assert_eq!(seen.end, End::Exit(0), "{seen:?}");
    assert_eq!(seen.touched, [canaries.files[1].clone()]);
    if let Some(socket) = &canaries.socket {
        let address = format!("nbd+unix:///?socket={}", socket.display());
        let seen = make("raw", &address, "unix.qcow2");
        assert_eq!(seen.end, End::Exit(1));
        assert_eq!(seen.touched, std::slice::from_ref(socket));
    }
    if let Some(port) = canaries.port {
        let seen = make("raw", &format!("nbd://127.0.0.1:{port}/x"), "tcp.qcow2");
        assert_eq!(seen.end, End::Exit(1));
        assert_eq!(
            seen.touched,
            [PathBuf::from(format!("tcp:127.0.0.1:{port}"))]
        );
    }
}

#[test]
fn the_sandbox_holds() {
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    fs::write(&outside, "outside\n").unwrap();
    for mut executor in [fixture.executor("/bin/sh"), fixture.plain("/bin/sh")] {
        if executor.sandbox().contains("not restricted") {
            eprintln!("not run: {}", executor.sandbox());
            return;
        }
        let script = format!(
            "cat /etc/passwd {0} || echo denied; echo > {0} || echo denied; \
             echo > inside && cat inside; ls /sys/class/net; ls / || echo denied",
            outside.display()
        );
        let seen = executor.run(&fixture.sh(&script));
        let out = String::from_utf8(seen.stdout).unwrap();
        assert_eq!(out.matches("denied").count(), 3, "{out}");
        assert_eq!(fs::read(&outside).unwrap(), b"outside\n");
    }
}

/// nbdkit, which creates a folder in `/tmp` whatever `TMPDIR` says, once could not be run.
#[test]
fn the_scratch_folder_is_mounted_at_tmp() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    // A build in /tmp has the libraries of the fork server and of the guard there, which must
    // not be hidden.
    if std::env::current_exe().unwrap().starts_with("/tmp") {
        eprintln!("not run: this is a build in /tmp");
        return;
    }
    let options = ExecOptions::new(folder.path().join("work"));
    for fork_server in [true, false] {
        let options = ExecOptions {
            fork_server,
            ..options.clone()
        };
        let mut executor = for_program(Path::new("/bin/sh"), &options).unwrap();
        if !executor.sandbox().contains("own processes") {
            eprintln!("not run: {}", executor.sandbox());
            return;
        }
        let name = format!("image-fuzzer-test-{}", std::process::id());
        let script = format!("echo mine > /tmp/{name} && cat {name}");
        let words = ["sh", "-c", &script].map(OsString::from);
        let seen = executor.run(&Request::new(words.into(), &options.scratch));
        assert_eq!(
            (&seen.end, &seen.stdout[..]),
            (&End::Exit(0), &b"mine\n"[..])
        );
        assert!(options.scratch.join(&name).exists());
        assert!(!Path::new("/tmp").join(&name).exists());
    }
}

#[test]
fn reports_of_a_sanitizer_are_read() {
    let fixture = Fixture::new();
    let program = fixture.script(
        "#!/bin/sh\n# __asan_init\nlog=${ASAN_OPTIONS#log_path=}\n\
         echo '==1==ERROR: AddressSanitizer: heap-use-after-free' > ${log%%:*}.$$\nexit $1\n",
    );
    let mut executor = fixture.executor(&program);
    assert_eq!(executor.name(), "spawn");
    assert!(executor.notes()[0].ends_with("it is a script"));
    for _ in 0..2 {
        let seen = executor.run(&fixture.request(&["program", "0"]));
        let report = b"==1==ERROR: AddressSanitizer: heap-use-after-free\n";
        assert_eq!(seen.sanitizer.as_deref(), Some(&report[..]));
        assert_eq!(seen.end, End::Exit(0));
    }
}

#[test]
fn a_program_that_cannot_run_has_a_reason() {
    let fixture = Fixture::new();
    let mut executor = fixture.executor("/bin/sh");
    let seen = executor.run(&Request {
        cwd: "/nowhere".into(),
        ..fixture.sh("exit 0")
    });
    let End::NotStarted(why) = seen.end else {
        panic!("{seen:?}")
    };
    assert_eq!(
        why,
        "cannot enter /nowhere: No such file or directory (os error 2)"
    );
    let huge = "x".repeat(2 << 20);
    let seen = executor.run(&fixture.sh(&huge));
    assert!(matches!(seen.end, End::NotStarted(_)));
    assert_eq!(executor.run(&fixture.sh("exit 0")).end, End::Exit(0));
    let error = for_program(Path::new("no-such-program"), &fixture.options())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "cannot run no-such-program: not found in PATH"
    );
}

#[test]
fn a_program_without_a_loader_is_spawned() {
    let fixture = Fixture::new();
    let program = fixture.script("#!/bin/sh\necho \"$@\"; exit 4\n");
    let mut executor = fixture.executor(&program);
    assert_eq!(executor.name(), "spawn");
    let notes = executor.notes();
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("no fork server in") && note.ends_with("it is a script")),
        "{notes:?}"
    );
    let seen = executor.run(&fixture.request(&["program", "a", "b c"]));
    assert_eq!((seen.end, &*seen.stdout), (End::Exit(4), &b"a b c\n"[..]));
}

#[test]
fn a_program_that_behaves_differently_with_a_fork_server_is_spawned() {
    let fixture = Fixture::new();
    let source = fixture.folder.path().join("program.c");
    let program = fixture.folder.path().join("program");
    fs::write(
        &source,
        "#include <stdio.h>\n#include <string.h>\n\
         int main(void) {\n\
         char line[4096]; int found = 0; FILE *maps = fopen(\"/proc/self/maps\", \"r\");\n\
         while (maps && fgets(line, sizeof line, maps)) found |= !!strstr(line, \"preload\");\n\
         puts(found ? \"watched\" : \"alone\"); return 0; }\n",
    )
    .unwrap();
    let built = std::process::Command::new("cc")
        .arg("-o")
        .args([&program, &source])
        .status();
    if !built.is_ok_and(|status| status.success()) {
        println!("not run: there is no C compiler");
        return;
    }
    let mut executor = fixture.executor(program.to_str().unwrap());
    assert_eq!(executor.name(), "spawn");
    let said = executor.notes().join("; ");
    assert!(
        said.contains("behaves differently from a plain start"),
        "{said}"
    );
    let seen = executor.run(&fixture.request(&["program"]));
    assert_eq!((seen.end, &*seen.stdout), (End::Exit(0), &b"alone\n"[..]));
}

/// What a C program does under the guarding allocator, in a fork server, several times, and
/// started anew.
#[test]
fn a_program_runs_under_the_guarding_allocator() {
    let fixture = Fixture::new();
    let source = fixture.folder.path().join("program.c");
    let program = fixture.folder.path().join("program");
    fs::write(
        &source,
        "#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
         #include <sys/wait.h>\n#include <unistd.h>\n\
         static volatile char sink;\n\
         static void fill(char **p, int n, int byte) {\n\
         for (int i = 0; i < n; i++) { p[i] = malloc(40 + 100 * i); memset(p[i], byte, 40 + 100 * i); } }\n\
         static void check(char **p, int n, int byte) {\n\
         for (int i = 0; i < n; i++) for (int k = 0; k < 40 + 100 * i; k++)\n\
         if (p[i][k] != byte) abort(); }\n\
         int main(int argc, char **argv) {\n\
         char *p[60]; close(open(\"image\", O_RDONLY | O_CREAT, 0600));\n\
         fill(p, 60, 1);\n\
         for (int i = 0; i < 30; i++) { free(p[i + 30]); }\n\
         if (argc > 1 && argv[1][0] == 'f') {\n\
         pid_t pid = fork(); char *q[60];\n\
         if (!pid) { check(p, 30, 1); fill(p, 30, 2); fill(q, 60, 2); check(q, 60, 2);\n\
         for (int i = 0; i < 60; i++) free(q[i]); if (argc > 2) sink = p[45][7]; _exit(0); }\n\
         fill(q, 60, 3); int status; waitpid(pid, &status, 0);\n\
         check(p, 30, 1); check(q, 60, 3);\n\
         if (WIFSIGNALED(status)) raise(WTERMSIG(status));\n\
         } else if (argc > 1) { sink = p[20][2048]; }\n\
         puts(\"done\"); return 0; }\n",
    )
    .unwrap();
    let built = std::process::Command::new("cc")
        .args(["-O0", "-o"])
        .args([&program, &source])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    let program = program.to_str().unwrap();
    for mut executor in [fixture.executor(program), fixture.plain(program)] {
        let mut run = |words: &[&str], mode| {
            let mut request = fixture.request(words);
            request.guard = mode;
            executor.run(&request)
        };
        for _ in 0..3 {
            for mode in [GuardMode::Ends, GuardMode::Starts, GuardMode::All] {
                let guard = Some(Guard {
                    mode,
                    fill: 0x5a,
                    compare: false,
                });
                for words in [&["program"][..], &["program", "fork"]] {
                    let seen = run(words, guard);
                    assert_eq!(seen.end, End::Exit(0), "{words:?} {seen:?}");
                    assert_eq!((&*seen.stdout, &*seen.stderr), (&b"done\n"[..], &b""[..]));
                }
                // Behind a block that begins after a guard page is accessible memory.
                if mode != GuardMode::Starts {
                    let seen = run(&["program", "over"], guard);
                    assert_eq!(seen.end, End::Signal(11), "{seen:?}");
                    let said = String::from_utf8_lossy(&seen.stderr);
                    let what =
                        "image-fuzzer guard: read 8 bytes past the end of a block of 2040 bytes";
                    assert!(said.starts_with(what), "{said}");
                }
                let seen = run(&["program", "fork", "freed"], guard);
                let said = String::from_utf8_lossy(&seen.stderr);
                let what = "image-fuzzer guard: read 7 bytes into a freed block of 4540 bytes";
                assert!(said.starts_with(what), "{said}");
                assert_eq!(seen.end, End::Signal(11), "{seen:?}");
            }
            assert_eq!(run(&["program", "over"], None).end, End::Exit(0));
        }
    }
}

#[test]
fn a_run_that_kills_its_server_does_not_end_the_executor() {
    let fixture = Fixture::new();
    let options = ExecOptions {
        sandbox: false,
        ..fixture.options()
    };
    let mut executor = for_program(Path::new("/bin/sh"), &options).unwrap();
    let seen = executor.run(&fixture.sh("kill -9 $PPID; exec sleep 1000"));
    assert!(matches!(seen.end, End::NotStarted(_)), "{seen:?}");
    assert_eq!(executor.run(&fixture.sh("exit 5")).end, End::Exit(5));
}

#[test]
fn an_executor_leaves_nothing() {
    let fixture = Fixture::new();
    let scratch = fixture.scratch();
    {
        let mut executor = fixture.executor("/bin/sh");
        for _ in 0..50 {
            assert_eq!(
                executor.run(&fixture.sh("sleep 1000 & exit 0")).end,
                End::Exit(0)
            );
        }
    }
    let left: Vec<_> = fs::read_dir(fixture.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path().canonicalize().unwrap())
        .collect();
    assert_eq!(left, std::slice::from_ref(&scratch));
    let ours = childproc::descendants(std::process::id().cast_signed()).unwrap();
    let scratch = scratch.to_str().unwrap();
    for process in ours {
        let cwd = fs::read_link(format!("/proc/{}/cwd", process.pid)).unwrap_or_default();
        assert_ne!(cwd.to_str(), Some(scratch), "{process:?}");
    }
}

#[test]
fn gdb_shows_the_stack_of_a_crash() {
    let fixture = Fixture::new();
    let mut debugger = match Debugger::new(Path::new("/bin/sh"), &fixture.options()) {
        Ok(debugger) => debugger,
        Err(error) => return eprintln!("not run: {error}"),
    };
    let stack = debugger
        .stack(&fixture.sh("kill -SEGV $$"), Duration::MAX)
        .unwrap();
    assert!(!stack.frames.is_empty(), "{stack}");
    assert_eq!(debugger.stack(&fixture.sh("exit 0"), Duration::MAX), None);
}

#[test]
fn folders_of_others_are_not_changed() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path().join("scratch.canary");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thesis.txt"), "years of work").unwrap();
    let error = for_program(Path::new("/bin/sh"), &fixture.options())
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("scratch.canary: it holds thesis.txt; remove the folder"),
        "{error}"
    );
    assert!(folder.join("thesis.txt").exists());
    assert!(!folder.join("secret.raw").exists());
}
