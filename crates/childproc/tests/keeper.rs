//! Misbehaving programs under a keeper.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use childproc::{Child, Done, Event, How, Keeper, Limit, Resource, Spec, Status, Streams};
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Shell commands that start `command`, which becomes `sleep`, in the
/// background, and wait until it is: before, it has another name.
fn in_background(command: &str) -> String {
    format!(
        "{command} 1000 <&- >&- 2>&- & \
         until read name < /proc/$!/comm && [ $name = sleep ]; do :; done"
    )
}

struct Fixture {
    keeper: Keeper,
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            keeper: Keeper::start().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    fn spec(&self, program: &str, args: &[&str]) -> Spec {
        let env = vec![("PATH".into(), std::env::var_os("PATH").unwrap())];
        let mut spec = Spec::new(program.into(), env, self.dir.path().into());
        spec.args = args.iter().map(Into::into).collect();
        spec
    }

    fn spawn(&self, spec: &Spec) -> Child {
        let output = File::create(self.output()).unwrap();
        let streams = Streams {
            stdin: None,
            stdout: output.as_fd(),
            stderr: output.as_fd(),
        };
        self.keeper.spawn(spec, streams).unwrap()
    }

    fn shell(&self, script: &str) -> Child {
        self.spawn(&self.spec("sh", &["-c", script]))
    }

    /// Waits until the program has written `text`.
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !fs::read_to_string(self.output()).unwrap().contains(text) {
            assert!(Instant::now() < deadline, "{text} never came");
            std::thread::yield_now();
        }
    }
}

/// Follows a child to its end.
fn finish(mut child: Child) -> (Option<Status>, Done, Vec<Event>) {
    let mut events = Vec::new();
    let mut status = None;
    loop {
        let event = child.wait_event(Some(Instant::now() + LIMIT)).unwrap();
        let event = event.expect("it takes too long");
        events.push(event.clone());
        match event {
            Event::Exited { status: s, .. } => status = Some(s),
            Event::Done(done) => return (status, done, events),
            Event::NotStarted(why) => panic!("{why}"),
            _ => {}
        }
    }
}

fn names(done: &Done) -> Vec<&str> {
    done.left_behind.iter().map(|l| l.name.as_str()).collect()
}

fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

#[test]
fn status_output_and_events_come_in_order() {
    let fixture = Fixture::new();
    let (status, done, events) = finish(fixture.shell("echo out; echo err >&2; exit 3"));
    assert_eq!(status, Some(Status::Exited(3)));
    assert_eq!(fs::read(fixture.output()).unwrap(), b"out\nerr\n");
    assert_eq!((names(&done), done.mounts.len()), (vec![], 0));
    assert!(matches!(
        events[..],
        [Event::Started { .. }, Event::Exited { .. }, Event::Done(_)]
    ));
}

#[test]
fn a_signal_is_reported_by_its_number_even_a_real_time_one() {
    let fixture = Fixture::new();
    for signal in [libc::SIGSEGV, libc::SIGRTMIN() + 3] {
        let (status, ..) = finish(fixture.shell(&format!("ulimit -c 0; kill -{signal} $$")));
        let core = false;
        assert_eq!(status, Some(Status::Signaled { signal, core }));
    }
}

#[test]
fn what_cannot_start_is_reported() {
    let fixture = Fixture::new();
    let script = fixture.dir.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let mut spec = fixture.spec(script.to_str().unwrap(), &[]);
    let why = |spec: &Spec| match fixture.spawn(spec).wait_event(None).unwrap().unwrap() {
        Event::NotStarted(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&spec).contains("Permission denied"), "{}", why(&spec));
    spec.program = "/bin/true".into();
    spec.cwd = "/nowhere".into();
    assert!(
        why(&spec).contains("/nowhere: No such file"),
        "{}",
        why(&spec)
    );
    spec.program = "no-such-program".into();
    let null = File::open("/dev/null").unwrap();
    let streams = Streams {
        stdin: None,
        stdout: null.as_fd(),
        stderr: null.as_fd(),
    };
    let error = fixture.keeper.spawn(&spec, streams).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_program_that_is_being_written_is_waited_for() {
    let fixture = Fixture::new();
    let script = fixture.dir.path().join("script");
    let text = "#!/bin/sh\nexit 6\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&script).unwrap();
    let child = fixture.spawn(&fixture.spec(script.to_str().unwrap(), &[]));
    drop(writer);
    let (status, ..) = finish(child);
    assert_eq!(status, Some(Status::Exited(6)));
}

#[test]
fn a_daemon_that_detached_is_ended_and_listed() {
    let fixture = Fixture::new();
    let daemon = in_background("sleep");
    let (status, done, _) = finish(fixture.shell(&format!(
        "(setsid sh -c '{daemon}; echo $! > pid; wait' <&- >&- 2>&- &) ; \
         while ! [ -s pid ]; do :; done",
    )));
    assert_eq!(status, Some(Status::Exited(0)));
    assert!(names(&done).contains(&"sleep"), "{done:?}");
    let pid = fs::read_to_string(fixture.dir.path().join("pid")).unwrap();
    assert!(!lives(pid.trim().parse().unwrap()));
}

#[test]
fn a_process_that_is_about_to_end_is_not_left_behind() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("sh", &["-c", "sh -c 'sleep 0.05; echo late' &"]);
    spec.settle = LIMIT;
    let (_, done, _) = finish(fixture.spawn(&spec));
    assert_eq!(names(&done), [""; 0]);
    assert_eq!(fs::read(fixture.output()).unwrap(), b"late\n");
}

#[test]
fn ended_on_request_even_where_sigterm_is_ignored() {
    let fixture = Fixture::new();
    let child = fixture
        .shell("trap '' TERM; sh -c 'trap \"\" TERM; echo up; while :; do sleep 1000; done'");
    fixture.wait_for("up");
    child.end(How::Term(Duration::from_millis(20))).unwrap();
    let (status, ..) = finish(child);
    let (signal, core) = (libc::SIGKILL, false);
    assert_eq!(status, Some(Status::Signaled { signal, core }));
}

#[test]
fn sigterm_gives_time_to_clean_up() {
    let fixture = Fixture::new();
    let child =
        fixture.shell("trap 'echo tidy; exit 5' TERM; echo up; while :; do sleep 0.01; done");
    fixture.wait_for("up");
    child.end(How::Term(LIMIT)).unwrap();
    let (status, ..) = finish(child);
    assert_eq!(status, Some(Status::Exited(5)));
    assert!(
        fs::read_to_string(fixture.output())
            .unwrap()
            .contains("tidy")
    );
}

#[test]
fn a_second_request_ends_the_grace_period() {
    let fixture = Fixture::new();
    let child = fixture.shell("trap '' TERM; echo up; while :; do sleep 0.01; done");
    fixture.wait_for("up");
    child.end(How::Term(Duration::from_secs(100_000))).unwrap();
    child.end(How::Kill).unwrap();
    let (status, ..) = finish(child);
    assert!(matches!(status, Some(Status::Signaled { signal: 9, .. })));
}

#[test]
fn a_program_that_kills_its_supervisor_is_ended_by_the_keeper() {
    let fixture = Fixture::new();
    let fifo = fixture.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let other = fixture.shell("read x < fifo; echo $x");
    let daemon = in_background("setsid sleep");
    let script = format!("({daemon}); kill -9 $PPID; sleep 1000");
    let mut spec = fixture.spec("sh", &["-c", &script]);
    spec.cwd = fixture.dir.path().into();
    let output = File::create(fixture.dir.path().join("second")).unwrap();
    let streams = Streams {
        stdin: None,
        stdout: output.as_fd(),
        stderr: output.as_fd(),
    };
    let (status, done, events) = finish(fixture.keeper.spawn(&spec, streams).unwrap());
    assert_eq!(status, None);
    assert!(events.contains(&Event::Lost { signal: 9 }), "{events:?}");
    assert!(names(&done).contains(&"sleep"), "{done:?}");
    for left in &done.left_behind {
        assert!(!lives(left.pid));
    }
    // The other program has not noticed a thing.
    fs::write(fifo, "still here\n").unwrap();
    let (status, ..) = finish(other);
    assert_eq!(status, Some(Status::Exited(0)));
    assert_eq!(fs::read(fixture.output()).unwrap(), b"still here\n");
}

#[test]
fn a_stopped_supervisor_can_be_ended() {
    let fixture = Fixture::new();
    // It may be stopped before it has reported that the program runs.
    let mut child = fixture.shell("echo $PPID; kill -STOP $PPID; echo up; sleep 1000");
    fixture.wait_for("up");
    let output = fs::read_to_string(fixture.output()).unwrap();
    let stat = Path::new("/proc")
        .join(output.lines().next().unwrap())
        .join("stat");
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    child.wait_event(Some(Instant::now())).unwrap();
    child.end(How::Kill).unwrap();
    child.end_supervisor();
    let (_, done, _) = finish(child);
    assert!(!done.left_behind.is_empty());
}

#[test]
fn a_fork_bomb_is_ended() {
    let fixture = Fixture::new();
    let child = fixture.shell(
        "f() { [ $1 -gt 0 ] || exit; (f $(($1 - 1))) & sleep 0.01; }; \
         for i in 1 2 3 4; do (f 5000) & done; echo up; wait",
    );
    fixture.wait_for("up");
    child.end(How::Kill).unwrap();
    let (_, done, _) = finish(child);
    assert_eq!(done.alive, []);
}

#[test]
fn limits_hold_for_what_the_program_starts() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("sh", &["-c", "ulimit -n; sh -c 'ulimit -n; ulimit -n 60'"]);
    spec.limits = vec![Limit {
        resource: Resource::RLIMIT_NOFILE,
        soft: Some(50),
        hard: true,
    }];
    let (..) = finish(fixture.spawn(&spec));
    let output = fs::read_to_string(fixture.output()).unwrap();
    assert!(output.starts_with("50\n50\n"), "{output}");
}

#[test]
fn a_lot_of_output_is_complete() {
    let fixture = Fixture::new();
    let (status, ..) = finish(fixture.shell("head -c 20000000 /dev/zero; (echo end) &"));
    assert_eq!(status, Some(Status::Exited(0)));
    assert_eq!(fs::metadata(fixture.output()).unwrap().len(), 20_000_004);
}

#[test]
fn signals_environment_and_session_are_the_programs_own() {
    let fixture = Fixture::new();
    let script = "echo $FOO; cut -d' ' -f6 /proc/$$/stat; echo $$; kill -TERM $PPID; kill -PIPE $$";
    let mut spec = fixture.spec("sh", &["-c", script]);
    spec.env.push(("FOO".into(), "bar=1".into()));
    let (status, ..) = finish(fixture.spawn(&spec));
    // SIGPIPE ends it, and SIGTERM has not ended its supervisor.
    assert!(matches!(status, Some(Status::Signaled { signal: 13, .. })));
    let output = fs::read_to_string(fixture.output()).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "bar=1");
    assert_eq!(lines[1], lines[2]);
}

#[test]
fn dropping_the_keeper_ends_everything() {
    let fixture = Fixture::new();
    let mut child = fixture.shell("sleep 1000 & echo up; wait");
    fixture.wait_for("up");
    while child.pids().len() < 2 {
        child
            .wait_event(Some(Instant::now() + Duration::from_millis(1)))
            .unwrap();
    }
    let pids = child.pids();
    std::mem::forget(child);
    let Fixture { keeper, dir } = fixture;
    drop(keeper);
    assert!(pids.iter().all(|&pid| !lives(pid)), "{pids:?}");
    drop(dir);
}

#[test]
fn killing_the_caller_leaves_nothing() {
    const VICTIM: &str = "CHILDPROC_TEST_VICTIM";
    if let Some(dir) = std::env::var_os(VICTIM) {
        let fixture = Fixture::new();
        let script = "trap '' TERM; (setsid sleep 1000 & echo $!; echo $$; echo up) >> pids; wait; sleep 1000";
        let mut spec = fixture.spec("sh", &["-c", script]);
        spec.cwd = PathBuf::from(dir);
        let _child = fixture.spawn(&spec);
        // Until it is killed.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing_the_caller_leaves_nothing"])
        .env(VICTIM, dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pids = pids_in(&dir.path().join("pids"));
    assert!(pids.iter().all(|&pid| lives(pid)));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let deadline = Instant::now() + LIMIT;
    while pids.iter().any(|&pid| lives(pid)) {
        assert!(Instant::now() < deadline, "{pids:?}");
        std::thread::yield_now();
    }
}

/// The numbers in a file, once its last line is `up`.
fn pids_in(file: &Path) -> Vec<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.ends_with("up\n") {
            return text.lines().filter_map(|l| l.parse().ok()).collect();
        }
        assert!(Instant::now() < deadline, "it never came up");
        std::thread::yield_now();
    }
}

#[test]
fn stacks_name_each_process() {
    let fixture = Fixture::new();
    let child = fixture.shell("sleep 1000 & echo up; wait");
    fixture.wait_for("up");
    let path = fixture.dir.path().join("stacks");
    let mut out = File::create(&path).unwrap();
    // The shell has started by now, or its output would not be there.
    let mut pids = Vec::new();
    let mut child = child;
    while pids.len() < 2 {
        child
            .wait_event(Some(Instant::now() + Duration::from_millis(1)))
            .unwrap();
        pids = child.pids();
    }
    childproc::stacks(&fixture.keeper, &pids, &mut out, LIMIT).unwrap();
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.matches("== process ").count(), 2, "{text}");
    assert!(text.contains("sleep 1000"), "{text}");
    assert!(text.contains("#0") || text.contains("thread "), "{text}");
}

#[test]
fn a_supervisor_is_used_again_and_again() {
    let fixture = Fixture::new();
    let mut supervisors = Vec::new();
    for n in 0..5 {
        let child = fixture.shell(&format!(
            "echo {n}; ({}) ; exit {n}",
            in_background("sleep")
        ));
        let (status, done, events) = finish(child);
        assert_eq!(status, Some(Status::Exited(n)));
        assert_eq!(
            fs::read(fixture.output()).unwrap(),
            format!("{n}\n").as_bytes()
        );
        assert_eq!(names(&done), ["sleep"]);
        let Event::Started { supervisor, .. } = events[0] else {
            panic!("{events:?}");
        };
        supervisors.push(supervisor);
    }
    supervisors.dedup();
    assert_eq!(supervisors.len(), 1);
}

#[test]
fn an_end_that_comes_too_late_ends_nothing_else() {
    let fixture = Fixture::new();
    let mut child = fixture.shell("exit 0");
    while !child.wait_event(None).unwrap().unwrap().is_last() {}
    child.end(How::Kill).unwrap();
    drop(child);
    let (status, ..) = finish(fixture.shell("exit 4"));
    assert_eq!(status, Some(Status::Exited(4)));
}

#[test]
fn an_environment_too_long_for_a_packet_still_arrives() {
    let fixture = Fixture::new();
    finish(fixture.shell("exit 0"));
    let mut spec = fixture.spec("sh", &["-c", "echo ${#V0}${#V7}"]);
    for n in 0..8 {
        spec.env
            .push((format!("V{n}").into(), "x".repeat(100_000).into()));
    }
    finish(fixture.spawn(&spec));
    assert_eq!(fs::read(fixture.output()).unwrap(), b"100000100000\n");
}
