//! Which tests reach what: recorded, selected by, listed and reported.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{CHECK, bare, said, script};

/// A program with functions that some command lines reach.
const TOOL: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((noinline)) int grow(int size)
{
    printf("grown by %d\n", size);
    return size;
}

__attribute__((noinline)) int shrink(int size)
{
    if (size > 5) {
        printf("shrunk much\n");
    }
    printf("shrunk by %d\n", size);
    return -size;
}

__attribute__((noinline)) int never(int size)
{
    printf("never %d\n", size);
    return 2 * size;
}

__attribute__((noinline)) static void own_handler(int signal)
{
    _exit(signal == SIGILL ? 0 : 1);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "grow")) {
        grow(argc);
    } else if (!strcmp(word, "shrink")) {
        shrink(argc);
    } else if (!strcmp(word, "serve")) {
        shrink(9);
        fflush(stdout);
        kill(getpid(), SIGKILL);
    } else if (!strcmp(word, "handle")) {
        signal(SIGILL, own_handler);
        raise(SIGILL);
    } else if (!strcmp(word, "never")) {
        never(argc);
    }
    return 0;
}
"#;

/// A suite in our layout with a program of its own.
struct Suite {
    dir: tempfile::TempDir,
}

impl Suite {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for sub in ["iotests/cases", "goldens", "groups", "src/block"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("a directory");
        }
        std::fs::write(dir.path().join("groups/groups"), "rw  reads and writes\n")
            .expect("written");
        let suite = Self { dir };
        suite.build(TOOL);
        let tool = "$QEMU_IMG_PROG";
        suite.test("001", &format!("{tool} grow\n"), "grown by 2\n");
        suite.test(
            "002",
            &format!("{tool} grow; bash -c '{tool} shrink'\n"),
            "grown by 2\nshrunk by 2\n",
        );
        // The shell tells of the signal too, in words of its own.
        let body = format!("exec 2>/dev/null; {tool} serve; echo $?\n");
        suite.test("003", &body, "shrunk much\nshrunk by 9\n137\n");
        suite
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Builds the program from this source.
    fn build(&self, source: &str) {
        let file = self.at("src/block/tool.c");
        std::fs::write(&file, source).expect("written");
        let cc = Command::new("cc")
            .args(["-g", "-O1", "-Wl,--build-id", "-o"])
            .args([&self.at("tool"), &file])
            .status();
        assert!(cc.expect("cc").success());
    }

    fn test(&self, name: &str, body: &str, golden: &str) {
        let text = format!("# Tests {name}.\n#\n# group: rw\n#\n{body}");
        script(&self.at("iotests/cases").join(name), &text);
        std::fs::write(self.at("goldens").join(format!("{name}.out")), golden).expect("written");
    }

    fn check(&self, args: &[&str]) -> Command {
        let mut command = bare(Path::new(CHECK));
        command.args(args).current_dir(self.dir.path());
        for program in [
            "QEMU_PROG",
            "QEMU_IMG_PROG",
            "QEMU_IO_PROG",
            "QEMU_NBD_PROG",
            "QSD_PROG",
        ] {
            command.env(program, self.at("tool"));
        }
        command
    }

    /// Runs tests and records what they reach.
    #[track_caller]
    fn record(&self, args: &[&str]) {
        let args: Vec<&str> = ["-raw"].iter().chain(args).copied().collect();
        let ran = said(&mut self.check(&args));
        assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
        assert_eq!(ran.err, "");
    }

    /// What `-n` lists, without the times, which must be there.
    #[track_caller]
    fn selected(&self, args: &[&str]) -> Vec<String> {
        let args: Vec<&str> = ["-n"].iter().chain(args).copied().collect();
        let out = said(&mut self.check(&args)).fine();
        let lines = out.lines().map(|line| {
            let (test, time) = line.split_once("  ").expect("two columns");
            let seconds = time
                .strip_suffix(" s")
                .and_then(|time| time.parse::<f64>().ok());
            assert!(seconds.is_some_and(|it| it < 600.0), "{line}");
            test.to_owned()
        });
        lines.collect()
    }
}

/// The line of the source that this text is in, from 1 on.
fn line_of(text: &str) -> usize {
    let line = TOOL.lines().position(|line| line.contains(text));
    line.expect("a line of the source") + 1
}

#[test]
fn tests_are_selected_by_what_they_reach() {
    let suite = Suite::new();
    let err = said(&mut suite.check(&["-n", "--reaching", "grow"])).failed(1);
    assert!(
        err.contains("no recording in ") && err.contains("--coverage"),
        "{err}"
    );

    suite.record(&["--coverage=blocks"]);
    // 001 reaches less besides, and 003 is ended by SIGKILL.
    assert_eq!(suite.selected(&["--reaching", "grow"]), ["001", "002"]);
    let mut shrinks = suite.selected(&["--reaching", "shr*"]);
    shrinks.sort();
    assert_eq!(shrinks, ["002", "003"]);
    assert_eq!(suite.selected(&["--reaching", "shrink", "1-2"]), ["002"]);
    let much = format!("block/tool.c:{}", line_of("shrunk much"));
    assert_eq!(suite.selected(&["--reaching", &much]), ["003"]);
    assert_eq!(
        suite.selected(&["-raw", "--reaching", "block/*.c"]).len(),
        3
    );

    assert_eq!(
        suite.selected(&["--reaching", "grow", "-E", "!test(001)"]),
        ["002"]
    );

    let listed = said(&mut suite.check(&["--list", "--reaching", "grow"])).fine();
    assert!(
        listed
            .lines()
            .next()
            .is_some_and(|it| it.ends_with(" s  rw  Tests 001.")),
        "{listed}"
    );
    let ran = said(&mut suite.check(&["-j", "1", "--color", "off", "--reaching", "grow"])).fine();
    let place = |test: &str| ran.find(&format!("\n{test} ")).expect("a result");
    assert!(
        place("001") < place("002") && ran.contains("Passed all 2"),
        "{ran}"
    );

    for (args, wanted) in [
        (["--reaching", "shrank"], "did you mean 'shrink'?"),
        (
            ["--reaching", "never"],
            "No tests selected: no recorded test reaches it",
        ),
        (
            ["--reaching", "a/b.c"],
            "no recorded program has code of 'a/b.c'",
        ),
    ] {
        let err = said(&mut suite.check(&args)).failed(1);
        assert!(err.contains(wanted), "{err}");
    }
    let err = said(&mut suite.check(&["-n", "-qcow2", "--reaching", "grow"])).failed(1);
    assert!(
        err.contains("3 of 3 tests selected are not recorded"),
        "{err}"
    );
}

/// A test for other formats was told as not recorded, with the advice to record it, whatever
/// was recorded.
#[test]
fn tests_that_are_not_run_are_not_told_as_not_recorded() {
    let suite = Suite::new();
    suite.test("004", "touch \"$TEST_DIR/004.notrun\"\n", "");
    suite.test("005", "exit 0\n", "");
    let args = ["-n", "-raw", "--reaching", "grow"];
    suite.record(&["--coverage", "1-4"]);
    let told = said(&mut suite.check(&args)).err;
    assert!(
        told.contains("1 of 5 tests selected are not recorded"),
        "{told}"
    );
    suite.record(&["--coverage", "5"]);
    assert_eq!(said(&mut suite.check(&args)).err, "");
}

#[test]
fn what_a_test_reaches_is_listed_and_reported() {
    let suite = Suite::new();
    suite.record(&["--coverage"]);
    let listed = said(&mut suite.check(&["--reached-by", "2"])).fine();
    let functions: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("tool.c:"))
        .collect();
    let named = |name: &str| {
        functions
            .iter()
            .position(|line| line.contains(&format!("  {name}  ")))
    };
    assert!(functions[0].starts_with("2 tests  "), "{listed}");
    assert!(
        named("shrink") < named("main") && named("grow") < named("main"),
        "{listed}"
    );
    assert_eq!(named("never"), None);
    let err = said(&mut suite.check(&["--reached-by", "9"])).failed(1);
    assert!(err.contains("is not found"), "{err}");

    let history = suite.at("scratch-history");
    let history = history.to_str().expect("UTF-8");
    let args = ["--coverage-report", "report", "--recording", history];
    said(&mut suite.check(&args)).fine();
    let page = std::fs::read_to_string(suite.at("report/index.html")).expect("a page");
    assert!(page.contains("<code>never</code>") && page.ends_with("</html>\n"));
    assert_eq!(
        page.matches("<b class=\"fail\">no test</b>").count() % 2,
        0,
        "{page}"
    );
    let err = said(&mut suite.check(&["--coverage-report", "r", "--recording", "src"])).failed(1);
    assert!(err.contains("src has no recording"), "{err}");
    let err = said(&mut suite.check(&["-n", "--recording", "src"])).failed(2);
    assert!(err.contains("only with --coverage-report"), "{err}");
}

#[test]
fn changes_select_the_tests_that_reach_them() {
    let suite = Suite::new();
    suite.record(&["--coverage"]);
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args);
        let output = git.current_dir(suite.at("src")).output().expect("git");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    std::fs::write(suite.at("src/notes.txt"), "a\n").expect("written");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "a"]);
    let changed = TOOL
        .replace("shrunk by", "made smaller by")
        .replace("2 * size", "3 * size");
    std::fs::write(suite.at("src/block/tool.c"), changed).expect("written");
    std::fs::write(suite.at("src/notes.txt"), "b\n").expect("written");
    git(&["commit", "-q", "-a", "-m", "b"]);
    let patch = git(&["format-patch", "--stdout", "-1"]);
    std::fs::write(suite.at("a.patch"), patch).expect("written");
    let range = ["-n", "--affected-by", "HEAD~..HEAD", "--qemu-source", "src"];
    for args in [&range[..], &["-n", "--affected-by", "a.patch"]] {
        let ran = said(&mut suite.check(args));
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let mut tests: Vec<&str> = ran.out.lines().map(|line| &line[..3]).collect();
        tests.sort_unstable();
        assert_eq!(tests, ["002", "003"]);
        for line in [
            "2 changed functions; 2 tests reach what they change\n",
            "check: no test reaches never (",
            "check: no recorded code: notes.txt\n",
        ] {
            assert!(ran.err.contains(line), "{}", ran.err);
        }
    }
    let err = said(&mut suite.check(&["--affected-by", "x..y", "--qemu-source", "src"])).failed(1);
    assert!(err.contains("git diff x..y in "), "{err}");
    let err = said(&mut suite.check(&["--affected-by", "x..y"])).failed(1);
    assert!(err.contains("--qemu-source DIR"), "{err}");
    // Nothing to run is no failure.
    std::fs::write(suite.at("src/notes.txt"), "c\n").expect("written");
    let ran = said(&mut suite.check(&["--affected-by", "HEAD", "--qemu-source", "src"]));
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert!(ran.err.contains("nothing to run"), "{}", ran.err);
}

#[test]
fn what_is_inlined_or_changed_outside_of_functions_selects_the_tests_that_reach_its_users() {
    let suite = Suite::new();
    // `taken` becomes part of a block of `grow`; no block begins in it.
    let source = TOOL
        .replace(
            "#include <unistd.h>\n",
            "#include <unistd.h>\n#include \"tool.h\"\n",
        )
        .replace("    return size;\n", "    return taken(size);\n")
        .replace("size > 5", "size > ENOUGH");
    let header = "#define FIVE 5\n#define ENOUGH (FIVE)\n\
        static inline __attribute__((always_inline)) int taken(int size)\n{\n    return size * 3;\n}\n";
    std::fs::write(suite.at("src/block/tool.h"), header).expect("written");
    suite.build(&source);
    suite.record(&["--coverage=blocks"]);
    let listed = said(&mut suite.check(&["--reached-by", "1"])).fine();
    let taken = listed.lines().find(|line| line.contains("  taken  "));
    let taken = taken.unwrap_or_else(|| panic!("{listed}"));
    assert!(
        taken.starts_with("2 tests  ") && taken.ends_with("tool.h"),
        "{taken}"
    );
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]);
        let status = git.args(args).current_dir(suite.at("src")).status();
        assert!(status.expect("git").success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "a"]);
    for (from, to, tests, line) in [
        (
            "size * 3",
            "size * 4",
            &["001", "002"][..],
            "1 changed function; 2 tests reach",
        ),
        (
            "FIVE 5",
            "FIVE 6",
            &["002", "003"][..],
            "tool.h: FIVE (used in 1 recorded function)",
        ),
    ] {
        std::fs::write(suite.at("src/block/tool.h"), header.replace(from, to)).expect("written");
        let ran = said(&mut suite.check(&["-n", "--affected-by", "HEAD", "--qemu-source", "src"]));
        let mut found: Vec<&str> = ran.out.lines().map(|line| &line[..3]).collect();
        found.sort_unstable();
        assert_eq!(found, tests, "{}", ran.err);
        assert!(ran.err.contains(line), "{}", ran.err);
    }
}

#[test]
fn functions_that_do_not_change_stay_recorded_when_a_program_is_rebuilt() {
    let suite = Suite::new();
    suite.record(&["--coverage"]);
    suite.build(&TOOL.replace(
        "printf(\"grown by %d\\n\", size);",
        "printf(\"grown by %d\\n\", size + 0 * getpid());\n    size += getpid() == 1;",
    ));
    let ran = said(&mut suite.check(&["-n", "--reaching", "shrink"]));
    assert!(
        ran.err.contains("has been rebuilt since it was recorded"),
        "{}",
        ran.err
    );
    suite.record(&["--coverage", "1"]);
    let mut shrinks = suite.selected(&["--reaching", "shrink"]);
    shrinks.sort();
    assert_eq!(shrinks, ["002", "003"]);
    assert_eq!(suite.selected(&["--reaching", "grow"]), ["001"]);
}

#[test]
fn what_cannot_be_recorded_is_said_and_the_tests_pass() {
    let suite = Suite::new();
    suite.test(
        "004",
        "$QEMU_IMG_PROG handle; $QEMU_IMG_PROG grow\n",
        "grown by 2\n",
    );
    let ran = said(&mut suite.check(&["-raw", "--coverage", "4"]));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(
        ran.err,
        "check: not all processes of tool were recorded: it handles SIGILL itself (in 1 test)\n"
    );
    script(&suite.at("wrapper"), "exit 0\n");
    let mut command = suite.check(&["-raw", "--coverage", "1"]);
    let ran = said(command.env("QEMU_IO_PROG", suite.at("wrapper")));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(
        ran.err
            .contains("wrapper is not recorded: it is not an ELF file"),
        "{}",
        ran.err
    );
    let mut command = suite.check(&["-raw", "--coverage", "-valgrind", "1"]);
    let ran = said(&mut command);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(
        ran.err,
        "check: --coverage: nothing is recorded under valgrind\n"
    );
}

#[test]
fn installed_programs_are_recorded_without_changing_what_they_do() {
    let suite = Suite::new();
    let body = "cd $TEST_DIR\n$QEMU_IMG_PROG create -q -f qcow2 a 1M\n\
                $QEMU_IO_PROG -f qcow2 -c 'write -P 7 0 64k' a | head -1\n\
                $QEMU_IMG_PROG snapshot -c x a\n$QEMU_IMG_PROG check a\n\
                $QEMU_IMG_PROG convert -O raw a b\n\
                $QEMU_IO_PROG -r -f raw -c 'read -P 7 0 64k' b | head -1\n\
                $QEMU_NBD_PROG --fork -k $SOCK_DIR/s -f raw b\n\
                $QEMU_IMG_PROG info nbd+unix:///?socket=$SOCK_DIR/s | grep -c bytes\n";
    suite.test("005", body, "");
    let mut outputs = Vec::new();
    for coverage in [&[][..], &["--coverage=blocks"]] {
        let args = [&["-raw", "--left-behind", "warn", "--bless", "5"], coverage].concat();
        let mut command = bare(Path::new(CHECK));
        let ran = said(command.args(args).current_dir(suite.dir.path()));
        assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
        outputs.push(std::fs::read_to_string(suite.at("goldens/005.out")).expect("a golden"));
    }
    assert_eq!(outputs[0], outputs[1]);
    assert!(
        outputs[0].contains("No errors were found"),
        "{}",
        outputs[0]
    );
    let mut command = bare(Path::new(CHECK));
    let listed = said(
        command
            .args(["--reached-by", "5"])
            .current_dir(suite.dir.path()),
    );
    assert!(listed.out.lines().count() > 300, "{}", listed.err);
}
