//! The blocks of programs that tests reach: on programs of all kinds, and what is told of them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use image_fuzzer::campaign::BlockLog;
use image_fuzzer::exec::blocks::ProgramBlocks;
use image_fuzzer::exec::{End, ExecOptions, Executor, Limits, Observation, Request, for_program};

/// A program that does what its first argument says.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int never_called(int number) {
    if (number > 3)
        puts("more");
    return number + 1;
}

/* Its blocks are reached in a thread, or in a child, alone. */
__attribute__((noinline)) static int elsewhere(const char *word) {
    int sum = 0;
    for (; *word; word++)
        sum += *word == 'x' ? 3 : *word;
    return sum;
}

static void *blocks_all_signals(void *word) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, 0);
    static int sum;
    sum = elsewhere(word);
    return &sum;
}

static void handle(int signal) {
    static const char text[] = "handled\n";
    signal = (int)write(1, text, sizeof text - 1);
    (void)signal;
}

/* Says whether a file is an image. */
__attribute__((noinline)) static int image(const char *name) {
    unsigned char head[8] = { 0 };
    FILE *file = fopen(name, "r");
    if (!file || fread(head, 1, sizeof head, file) != sizeof head) {
        puts("cannot be read");
        return 1;
    }
    fclose(file);
    if (memcmp(head, "QFI\xfb", 4)) {
        puts("not an image");
        return 1;
    }
    if (head[7] != 2 && head[7] != 3) {
        puts("unknown version");
        return 1;
    }
    printf("version %d\n", head[7]);
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "--version")) {
        puts("1.0");
    } else if (!strcmp(what, "image") && argc > 2) {
        return image(argv[2]);
    } else if (!strcmp(what, "thread")) {
        pthread_t thread;
        void *sum = 0;
        pthread_create(&thread, 0, blocks_all_signals, "xyz");
        pthread_join(thread, &sum);
        printf("sum %d\n", *(int *)sum);
    } else if (!strcmp(what, "fork")) {
        int status = 0;
        pid_t child = fork();
        if (!child)
            _exit(elsewhere("xyz") & 0x7f);
        waitpid(child, &status, 0);
        printf("status %d\n", WEXITSTATUS(status));
    } else if (!strcmp(what, "exec")) {
        execl("/bin/echo", "echo", "executed", (char *)0);
        return 9;
    } else if (!strcmp(what, "sigill")) {
        signal(SIGILL, handle);
        raise(SIGILL);
        if (argc > 2)
            return image(argv[2]);
    } else {
        printf("%d arguments\n", argc);
    }
    return argc > 5 ? never_called(argc) : 0;
}
"#;

/// Compiles the program with these options, as `name` in `folder`.
fn compile(folder: &Path, name: &str, options: &[&str]) -> PathBuf {
    let (source, program) = (folder.join("source.c"), folder.join(name));
    fs::write(&source, SOURCE).unwrap();
    let built = Command::new("cc")
        .args(["-O1", "-pthread"])
        .args(options)
        .arg("-o")
        .args([&program, &source])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    program
}

/// A folder, and executors of programs whose blocks are noted.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn options(&self) -> ExecOptions {
        ExecOptions {
            blocks: Some(ProgramBlocks::new(Vec::new()).into()),
            ..ExecOptions::new(self.path().join("scratch"))
        }
    }

    fn executor(&self, program: &Path) -> Box<dyn Executor> {
        for_program(program, &self.options()).unwrap()
    }

    fn run(&self, executor: &mut dyn Executor, words: &[&str]) -> Observation {
        let words = ["program"].iter().chain(words).map(OsString::from);
        let mut request = Request::new(words.collect(), self.path().join("scratch"));
        request.limits = Limits {
            wall: Duration::from_secs(60),
            ..Limits::default()
        };
        executor.run(&request)
    }
}

fn stdout(seen: &Observation) -> String {
    String::from_utf8_lossy(&seen.stdout).into_owned()
}

#[test]
fn each_block_is_noted_once() {
    let fixture = Fixture::new();
    let program = compile(&fixture.path(), "program", &[]);
    let options = fixture.options();
    let mut executor = for_program(&program, &options).unwrap();
    assert_eq!(executor.name(), "fork server", "{:?}", executor.notes());
    let first = fixture.run(&mut *executor, &["a"]);
    let again = fixture.run(&mut *executor, &["b"]);
    let other = fixture.run(&mut *executor, &["image", "missing"]);
    assert_eq!(stdout(&first), "2 arguments\n");
    assert_eq!(stdout(&other), "cannot be read\n");
    assert_eq!(other.end, End::Exit(1));
    assert!(!first.blocks.is_empty() && again.blocks.is_empty());
    assert!(!other.blocks.is_empty());
    let both = [&first.blocks[..], &other.blocks[..]].concat();
    let [file] = &options.blocks.unwrap().files()[..] else {
        panic!("several files");
    };
    assert!(
        both.len() < file.blocks,
        "{} of {}",
        both.len(),
        file.blocks
    );
    assert!(both.iter().all(|block| block.file == file.id));
    assert_eq!(file.path, program);
    assert!(executor.notes().is_empty(), "{:?}", executor.notes());
}

/// Each server once had code of its own, and trapped at every block again.
#[test]
fn executors_of_a_program_share_what_was_reached() {
    let fixture = Fixture::new();
    let program = compile(&fixture.path(), "program", &[]);
    let options = fixture.options();
    let of = |scratch: &str| ExecOptions {
        blocks: options.blocks.clone(),
        ..ExecOptions::new(fixture.path().join(scratch))
    };
    let mut one = for_program(&program, &of("one")).unwrap();
    let mut other = for_program(&program, &of("other")).unwrap();
    let run = |executor: &mut dyn Executor, scratch: &str, trace| {
        let words = ["program", "image", "missing"].map(OsString::from);
        let mut request = Request::new(words.to_vec(), fixture.path().join(scratch));
        request.trace = trace;
        let mut seen = executor.run(&request);
        assert_eq!(stdout(&seen), "cannot be read\n");
        seen.blocks.sort_unstable();
        seen.blocks
    };
    let first = run(&mut *one, "one", false);
    assert!(!first.is_empty());
    // What it takes to start a server was reached by the other's.
    assert_eq!(run(&mut *other, "other", false), []);
    // All of them can be noted again, wherever, and later runs do not.
    let all = run(&mut *other, "other", true);
    assert!(all.iter().all(|block| first.contains(block)));
    for _ in 0..2 {
        assert_eq!(run(&mut *other, "other", false), []);
        assert_eq!(run(&mut *one, "one", true), all);
    }
    // What most runs reach is left out once there are many that note all.
    for _ in 0..60 {
        run(&mut *one, "one", true);
    }
    assert_eq!(run(&mut *one, "one", true), []);
    let mut common = options.blocks.unwrap().take_common();
    common.sort_unstable();
    assert_eq!(common, all);
}

/// A library was once looked for by the name of its file, which the loader does not know.
#[test]
fn blocks_of_a_library_are_noted_where_it_is_asked_for() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.path().join(name);
    let sources = [
        (
            "lib.c",
            "int twice(int number) { return number > 9 ? 9 : 2 * number; }",
        ),
        (
            "main.c",
            "#include <stdio.h>\nint twice(int);\n\
             int main(int argc, char **argv) { (void)argv; printf(\"%d\\n\", twice(argc)); return 0; }",
        ),
    ];
    for (name, text) in sources {
        fs::write(at(name), text).unwrap();
    }
    std::os::unix::fs::symlink("libtwice.so.1.2", at("libtwice.so.1")).unwrap();
    let lines = [
        "-shared -fPIC -Wl,-soname,libtwice.so.1 -o libtwice.so.1.2 lib.c",
        "-o main main.c -Wl,-rpath,$ORIGIN libtwice.so.1",
    ];
    for line in lines {
        let mut cc = Command::new("cc");
        let built = cc
            .args(line.split(' '))
            .current_dir(fixture.path())
            .status();
        assert!(built.is_ok_and(|status| status.success()));
    }
    let blocks = Arc::new(ProgramBlocks::new(vec![at("libtwice.so.1.2")]));
    let options = ExecOptions {
        blocks: Some(Arc::clone(&blocks)),
        ..fixture.options()
    };
    let mut executor = for_program(&at("main"), &options).unwrap();
    // Its first run is that for the version.
    let seen = fixture.run(
        &mut *executor,
        &["1", "2", "3", "4", "5", "6", "7", "8", "9"],
    );
    assert_eq!((&seen.end, &*stdout(&seen)), (&End::Exit(0), "9\n"));
    let files = blocks.files();
    let library = files.iter().find(|file| file.path == at("libtwice.so.1.2"));
    let library = library.unwrap().id;
    assert!(
        seen.blocks.iter().any(|block| block.file == library),
        "{seen:?}"
    );
    assert!(executor.notes().is_empty(), "{:?}", executor.notes());
}

/// SIGTRAP would end such threads, as QEMU has them.
#[test]
fn blocks_are_noted_in_threads_that_block_all_signals_and_in_children() {
    let fixture = Fixture::new();
    let program = compile(&fixture.path(), "program", &[]);
    for (what, text) in [("thread", "sum 246\n"), ("fork", "status 118\n")] {
        let mut executor = fixture.executor(&program);
        fixture.run(&mut *executor, &["a"]);
        let seen = fixture.run(&mut *executor, &[what]);
        assert_eq!((&seen.end, &*stdout(&seen)), (&End::Exit(0), text));
        // Those of `elsewhere` are among them: the other word has far fewer.
        let other = fixture.run(
            &mut *executor,
            &[if what == "fork" { "thread" } else { "fork" }],
        );
        assert!(
            seen.blocks.len() > other.blocks.len() + 2,
            "{seen:?}, {other:?}"
        );
        assert!(executor.notes().is_empty(), "{:?}", executor.notes());
    }
}

#[test]
fn a_program_may_execute_another() {
    let fixture = Fixture::new();
    let program = compile(&fixture.path(), "program", &[]);
    let mut executor = fixture.executor(&program);
    for _ in 0..2 {
        let seen = fixture.run(&mut *executor, &["exec"]);
        assert_eq!((&seen.end, &*stdout(&seen)), (&End::Exit(0), "executed\n"));
    }
    let seen = fixture.run(&mut *executor, &["fork"]);
    assert!(!seen.blocks.is_empty());
}

#[test]
fn a_program_that_handles_the_signal_is_left_alone() {
    let fixture = Fixture::new();
    let program = compile(&fixture.path(), "program", &[]);
    let mut executor = fixture.executor(&program);
    for _ in 0..3 {
        let seen = fixture.run(&mut *executor, &["sigill"]);
        assert_eq!((&seen.end, &*stdout(&seen)), (&End::Exit(0), "handled\n"));
    }
    let seen = fixture.run(&mut *executor, &["thread"]);
    assert_eq!((&*stdout(&seen), seen.blocks.len()), ("sum 246\n", 0));
    let wanted = format!(
        "blocks of {} are not noted: it handles SIGILL itself",
        program.display()
    );
    assert_eq!(executor.take_notes(), [wanted]);
}

#[test]
fn programs_that_nothing_can_be_loaded_into_are_left_alone() {
    let fixture = Fixture::new();
    let script = fixture.path().join("script");
    fs::write(&script, "#!/bin/sh\necho $# arguments\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut programs = vec![
        (script, "1 arguments\n"),
        (
            compile(&fixture.path(), "static", &["-static"]),
            "2 arguments\n",
        ),
    ];
    if nix::unistd::geteuid().is_root() {
        let program = compile(&fixture.path(), "other-user", &[]);
        let nobody = Some(nix::unistd::Uid::from_raw(65534));
        nix::unistd::chown(&program, nobody, None).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        programs.push((program, "2 arguments\n"));
        // The sandbox takes the right away that keeps libraries from being loaded.
        let sandboxed = for_program(&programs[2].0, &fixture.options());
        let seen = fixture.run(&mut *sandboxed.unwrap(), &["a"]);
        assert_eq!(
            (&seen.end, &*stdout(&seen)),
            (&End::Exit(0), "2 arguments\n")
        );
    }
    for (program, text) in programs {
        let options = ExecOptions {
            sandbox: false,
            ..fixture.options()
        };
        let mut executor = for_program(&program, &options).unwrap();
        let seen = fixture.run(&mut *executor, &["a"]);
        assert_eq!((&seen.end, &*stdout(&seen)), (&End::Exit(0), text));
        assert_eq!(seen.blocks, []);
        let notes = executor.take_notes();
        assert_eq!(notes.len(), 1, "{}: {notes:?}", program.display());
        assert!(notes[0].contains(" are not noted: "), "{notes:?}");
    }
}

/// A subcommand of the fuzzer.
fn fuzzer(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.arg(subcommand).stdin(Stdio::null());
    command
}

/// Runs a command of the fuzzer.
fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output, text)
}

/// Runs so many tests of a campaign with a command.
fn campaign(work: &Path, command: &str, tests: &str, options: &[&str]) -> String {
    let (output, text) = run(fuzzer("fuzz")
        .arg(work)
        .args([
            "-c", command, "--tests", tests, "-j", "1", "--status", "plain",
        ])
        .args(options));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    text
}

#[test]
fn a_campaign_keeps_its_blocks_and_tells_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let program = compile(folder.path(), "program", &["-g"]);
    let command = format!("{} image $test_img", program.display());
    let work = at("work");
    campaign(&work, &command, "40", &[]);
    let first = BlockLog::read(&work);
    let counts = first.counts().unwrap();
    assert!(0 < counts.reached && counts.reached < counts.all);
    assert!(first.reached.is_sorted_by_key(|it| it.seconds));
    campaign(&work, &command, "80", &[]);
    let second = BlockLog::read(&work);
    assert_eq!(second.reached[..first.reached.len()], first.reached);
    assert_eq!(second.files, first.files);
    let mut blocks: Vec<_> = second.reached.iter().map(|it| it.block).collect();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), second.reached.len());

    let told = told_by_report(&work);
    assert!(told.starts_with(&format!("{} of {} reached", blocks.len(), counts.all)));
    let coverage = |options: &[&str]| run(fuzzer("coverage").arg(&work).args(options));
    by_source_file(&coverage);
    page_of(&coverage, &at("page.html"));
    without_names(&coverage, &program);
}

/// Without feedback the tests are those that the seed gives, whatever was reached.
#[test]
fn feedback_is_what_it_is_told_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "program", &[]);
    let command = format!("{} image $test_img", program.display());
    let recipes = |name: &str, feedback: &str| {
        let work = folder.path().join(name);
        let options = ["--feedback", feedback, "--campaign-seed", "a", "--no-sweep"];
        let options = [&options[..], &["--keep-passed", "--guard", "off"]].concat();
        campaign(&work, &command, "60", &options);
        assert!(BlockLog::read(&work).counts().is_some());
        let recipe = |number| fs::read_to_string(work.join(format!("test-{number}/recipe.json")));
        (0..60)
            .map(|number| recipe(number).unwrap())
            .collect::<Vec<_>>()
    };
    let off = recipes("off", "off");
    assert_eq!(recipes("again", "off"), off);
    assert_ne!(recipes("blocks", "blocks"), off);
    recipes("messages", "messages");
    for name in ["off", "blocks"] {
        let (output, text) = run(fuzzer("report").arg(folder.path().join(name)).arg("--json"));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&text);
        let count = |of: &str| value["novelty"][of].as_object().unwrap().len();
        assert!(count("fields") > 0 && count("commands") > 0, "{text}");
        // Without feedback nothing is varied.
        assert!(name == "blocks" || count("operators") == 0, "{text}");
    }
    let (output, text) = run(fuzzer("fuzz").args(["--feedback", "some", "work"]));
    assert_eq!(output.status.code(), Some(2), "{text}");
}

/// What `report` says of blocks.
fn told_by_report(work: &Path) -> String {
    let (_, text) = run(fuzzer("report").arg(work));
    assert!(text.contains("\nNEW BLOCKS AND MESSAGES FROM "), "{text}");
    let line = text.lines().find_map(|it| it.strip_prefix("blocks "));
    let line = line.unwrap_or_else(|| panic!("{text}")).trim().to_owned();
    assert!(line.ends_with(" of testing ago"), "{line}");
    line
}

/// What `coverage` says where there are debug symbols.
fn by_source_file(coverage: &dyn Fn(&[&str]) -> (Output, String)) {
    let (_, table) = coverage(&[]);
    assert!(table.contains("/program: reached "), "{table}");
    assert!(table.contains("  source.c\n"), "{table}");
    let (_, chosen) = coverage(&["sou*.c"]);
    assert!(chosen.contains("  source.c\n"), "{chosen}");
    let (output, text) = coverage(&["other.c"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("no source file of the programs matches 'other.c'"),
        "{text}"
    );
    let (_, list) = coverage(&["--list-unreached", "source.c"]);
    let line = SOURCE
        .lines()
        .position(|it| it.contains("int never_called"));
    let unreached = list
        .lines()
        .find(|it| it.contains(": never_called: not reached ("));
    let unreached = unreached.unwrap_or_else(|| panic!("{list}"));
    // The line of its first instruction may be the one behind.
    let lines = [1, 2].map(|more| format!("source.c:{}: ", line.unwrap() + more));
    assert!(lines.iter().any(|it| unreached.starts_with(it)), "{list}");
    let main = list.lines().find(|it| it.contains(": main: "));
    assert!(
        main.is_some_and(|it| it.contains(" reached; unreached lines ")),
        "{list}"
    );
    let (output, _) = coverage(&["--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let functions = value["programs"][0]["files"].as_array().unwrap().iter();
    let functions = functions.flat_map(|it| it["functions"].as_array().unwrap());
    let never = functions
        .into_iter()
        .find(|it| it["name"] == "never_called");
    assert_eq!(never.unwrap()["blocks"]["reached"], 0);
}

fn page_of(coverage: &dyn Fn(&[&str]) -> (Output, String), page: &Path) {
    let (output, text) = coverage(&["--html", page.to_str().unwrap()]);
    assert!(output.status.success(), "{text}");
    let page = fs::read_to_string(page).unwrap();
    for part in [
        "<figcaption>blocks: ",
        "<code>source.c</code>",
        "<code>never_called</code>",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    assert!(
        !page.contains(" src=") && !page.contains("href=\"http"),
        "{page}"
    );
}

/// What is said of a program without symbols, of another build, and of one that is gone.
fn without_names(coverage: &dyn Fn(&[&str]) -> (Output, String), program: &Path) {
    let stripped = Command::new("strip").arg(program).status();
    assert!(stripped.is_ok_and(|status| status.success()));
    let (_, table) = coverage(&[]);
    assert!(
        table.contains("no names of functions and source files"),
        "{table}"
    );
    assert!(table.contains("  program+0x"), "{table}");
    let (output, text) = coverage(&["source.c"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot select 'source.c'"), "{text}");
    let folder = program.parent().unwrap();
    compile(folder, "program", &["-g", "-O0"]);
    let (output, table) = coverage(&[]);
    assert!(output.status.success());
    assert!(table.contains("it is another build by now"), "{table}");
    fs::remove_file(program).unwrap();
    let (output, table) = coverage(&["--list-unreached"]);
    assert!(output.status.success());
    assert!(table.contains("it cannot be read: No such file"), "{table}");
}

#[test]
fn a_campaign_without_blocks_goes_by_messages() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "program", &[]);
    let work = |name: &str| folder.path().join(name);
    let command = format!("{} image $test_img", program.display());
    campaign(&work("off"), &command, "20", &["--no-coverage"]);
    assert!(!work("off").join("blocks").exists());
    let (output, text) = run(fuzzer("coverage").arg(work("off")));
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("no blocks were noted in"), "{text}");
    let (_, text) = run(fuzzer("report").arg(work("off")));
    assert!(!text.contains("\nblocks "), "{text}");

    let command = format!("{} sigill $test_img", program.display());
    let text = campaign(&work("handler"), &command, "20", &[]);
    let note = "are not noted: it handles SIGILL itself";
    assert_eq!(text.matches(note).count(), 1, "{text}");
    let messages = fs::read_to_string(work("handler").join("stats.jsonl")).unwrap();
    let last: serde_json::Value =
        serde_json::from_str(messages.lines().next_back().unwrap()).unwrap();
    assert!(last["messages"].as_u64() > Some(0), "{last}");
    assert_eq!(last["images"], 20, "{last}");
}
