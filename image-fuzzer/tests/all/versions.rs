//! Builds of the programs: which of them show a finding, and since when.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{fuzzer, write_recipe};
use image_fuzzer::commands::build::Build;

fn output(command: &mut Command) -> Output {
    command.output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a stand-in for `qemu-img` does with `info`.
const SHOWS: &str =
    "echo \"qemu-img: ../block/qcow2.c:10: f: Assertion \\`x' failed.\" >&2\nkill -ABRT $$";
const SHOWS_ANOTHER: &str =
    "echo \"qemu-img: ../block/vmdk.c:7: g: Assertion \\`y' failed.\" >&2\nkill -ABRT $$";
const PASSES: &str = "exit 0";

/// A folder with a stand-in for `qemu-img` of this version, below `place` in it.
fn build(dir: &Path, version: &str, place: &str, info: &str) -> PathBuf {
    let folder = dir.join(version);
    let programs = folder.join(place);
    fs::create_dir_all(&programs).unwrap();
    let script = programs.join("qemu-img");
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\n--version) echo 'qemu-img version {version}' ;;\n\
         info) {info} ;;\nesac\n"
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A build whose program cannot be run.
fn broken(dir: &Path) -> PathBuf {
    let folder = build(dir, "broken", "", PASSES);
    let script = "#!/bin/sh\necho 'qemu-img: no such library' >&2\nexit 127\n";
    fs::write(folder.join("qemu-img"), script).unwrap();
    folder
}

/// The folder of a finding that `qemu-img info` shows: a failed assertion.
fn finding(dir: &Path) -> PathBuf {
    let folder = dir.join("work/findings/crash");
    write_recipe(&folder, &["qemu-img", "info", "$test_img"]);
    let record = r#"{"class": "crash", "signature": "assertion: qcow2.c: f: x", "summary":
        "SIGABRT: assertion in f: x", "command": "qemu-img info \"$test_img\"",
        "confirmed": true, "minimised": true, "edits": 0, "bytes": 0}"#;
    fs::write(folder.join("finding.json"), record).unwrap();
    let readme = "# crash\n\nSeen with qemu-img version 5.0.\n\n## What is wrong\n";
    fs::write(folder.join("README.md"), readme).unwrap();
    folder
}

#[test]
fn a_table_says_which_builds_show_a_finding() {
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let dir = dir.path();
    let builds = [
        build(dir, "6.0", "", SHOWS),
        build(dir, "7.0", "bin", SHOWS_ANOTHER),
        build(dir, "8.0", "usr/bin", PASSES),
        broken(dir),
        dir.join("nowhere"),
    ];
    let done = output(
        fuzzer("reproduce")
            .arg(&finding)
            .arg("--with")
            .args(&builds),
    );
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let has = |line: &str| {
        let squeezed = said.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.join(" ")
        });
        assert!(squeezed.into_iter().any(|it| it == line), "{line}\n{said}");
    };
    has(&format!("1 qemu-img version 6.0, {}", builds[0].display()));
    has("shown another finding not shown cannot run cannot run crash: SIGABRT: assertion in f: x");
    let name = "crash: SIGABRT: assertion in f: x";
    has(&format!(
        "2, {name}: another finding: crash: assertion: vmdk.c: g: y"
    ));
    has(&format!(
        "4, {name}: cannot run: qemu-img --version: qemu-img: no such library"
    ));
    has(&format!(
        "5, {name}: cannot run: there is no folder '{}'",
        builds[4].display()
    ));

    // The results are kept, those of earlier versions too, and replaced by later ones.
    let line = "Seen with qemu-img version 5.0, qemu-img version 6.0; not with qemu-img version \
                8.0; another finding with qemu-img version 7.0.";
    let readme = || fs::read_to_string(finding.join("README.md")).unwrap();
    assert_eq!(readme(), format!("# crash\n\n{line}\n\n## What is wrong\n"));
    build(dir, "8.0", "usr/bin", SHOWS);
    let json = output(
        fuzzer("reproduce")
            .arg(dir.join("work"))
            .arg("--json")
            .args(["--with"])
            .arg(&builds[2]),
    );
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["findings"][0]["versions"][0]["result"], "shown");
    assert!(
        readme().contains("version 6.0, qemu-img version 8.0; another"),
        "{}",
        readme()
    );
    let report = output(fuzzer("report").arg(dir.join("work")));
    let said = text(&report.stdout);
    assert!(said.contains("Seen with qemu-img version 5.0, "), "{said}");
    let report = output(fuzzer("report").args(["--json"]).arg(dir.join("work")));
    let json: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let versions = json["groups"][0]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 6, "{versions:?}");
}

#[test]
fn an_exit_status_tells_git_bisect_run() {
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let dir = dir.path();
    let status = |build: &Path, finding: &Path| {
        let mut fuzzer = fuzzer("reproduce");
        fuzzer.arg("--with").arg(build).arg("--exit-status");
        output(fuzzer.arg(finding)).status.code()
    };
    assert_eq!(status(&build(dir, "6.0", "", SHOWS), &finding), Some(1));
    assert_eq!(
        status(&build(dir, "8.0", "build", PASSES), &finding),
        Some(0)
    );
    assert_eq!(
        status(&build(dir, "7.0", "", SHOWS_ANOTHER), &finding),
        Some(0)
    );
    assert_eq!(status(&broken(dir), &finding), Some(125));
    // An error ends the bisection: most statuses would be taken for a build that shows it.
    assert_eq!(status(&dir.join("6.0"), &dir.join("nowhere")), Some(128));
    let done = output(fuzzer("reproduce").args(["--exit-status"]).arg(&finding));
    assert_eq!(done.status.code(), Some(128), "{done:?}");
    // Nothing is kept.
    let record = fs::read_to_string(finding.join("finding.json")).unwrap();
    assert!(!record.contains("versions"), "{record}");
}

/// A history in which one commit brings a bug in and one cannot be built.
#[test]
fn git_bisect_run_finds_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&tree).args(words);
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "a")
                .env(format!("GIT_{who}_EMAIL"), "a@b");
        }
        let done = command.output().unwrap();
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success(), "{words:?}: {said}");
        said
    };
    git(&["init", "-q"]);
    for number in 1..=8 {
        let info = match number {
            ..5 => PASSES,
            _ => SHOWS,
        };
        build(dir.path(), "tree", "", info);
        if number == 4 {
            fs::write(tree.join("qemu-img"), "#!/bin/sh\nexit 127\n").unwrap();
        }
        fs::write(tree.join("number"), number.to_string()).unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", &format!("commit {number}")]);
    }
    git(&["bisect", "start", "HEAD", "HEAD~7"]);
    let line = format!(
        "'{}' reproduce --with . --exit-status '{}'",
        env!("CARGO_BIN_EXE_image-fuzzer"),
        finding.display()
    );
    // With a skipped commit before it git names both.
    let said = Command::new("git")
        .arg("-C")
        .arg(&tree)
        .args(["bisect", "run", "sh", "-c", &line])
        .output()
        .unwrap();
    let said = text(&said.stdout) + &text(&said.stderr);
    let log = git(&["bisect", "log"]);
    assert!(
        log.contains("# bad: ") && log.contains("commit 5"),
        "{said}\n{log}"
    );
    assert!(
        log.contains("# good: ") && log.contains("commit 3"),
        "{said}\n{log}"
    );
    assert!(
        log.contains("# skip: ") && log.contains("commit 4"),
        "{said}\n{log}"
    );
}

#[test]
fn a_bisection_over_builds_names_the_two_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let dir = dir.path();
    let bisect = |builds: &[&PathBuf]| {
        let done = output(fuzzer("bisect").arg(&finding).arg("--").args(builds));
        (done.status.code(), text(&done.stdout) + &text(&done.stderr))
    };
    let old: Vec<_> = (1..=6)
        .map(|n| build(dir, &format!("old-{n}"), "", PASSES))
        .collect();
    let new: Vec<_> = (1..=6)
        .map(|n| build(dir, &format!("new-{n}"), "", SHOWS))
        .collect();
    let broken = broken(dir);
    let all: Vec<_> = old.iter().chain(&new).collect();
    let (status, said) = bisect(&all);
    let (first, last) = (new[0].display(), old[5].display());
    let line = format!(
        "first shown by {first} (qemu-img version new-1); last without: {last} (qemu-img \
         version old-6)\n"
    );
    assert!(said.ends_with(&line), "{said}");
    assert_eq!(status, Some(0));
    // The ends, and what a search of ten takes.
    assert!(said.lines().count() - 1 <= 2 + 4, "{said}");

    let (status, said) = bisect(&[&new[0], &broken, &old[0]]);
    let line = format!(
        "last shown by {first} (qemu-img version new-1); first without: {} (qemu-img version \
         old-1)\n1 build between them cannot be run\n",
        old[0].display()
    );
    assert!(said.ends_with(&line), "{said}");
    assert_eq!(status, Some(0));

    let (status, said) = bisect(&[&new[0], &new[1]]);
    assert!(said.contains("nothing to bisect"), "{said}");
    assert_eq!(status, Some(3));
    let (status, said) = bisect(&[&broken, &new[1]]);
    assert!(said.contains("only one of the builds can be run"), "{said}");
    assert_eq!(status, Some(1));
}

/// The real program, which has nothing of this finding.
#[test]
fn the_installed_program_is_a_build_too() {
    if !Path::new("/usr/bin/qemu-img").exists() {
        return println!("not run: there is no /usr/bin/qemu-img");
    }
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let done = output(
        fuzzer("reproduce")
            .arg(&finding)
            .args(["--with", "/usr", "--json"]),
    );
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let version = &json["findings"][0]["versions"][0];
    assert_eq!(
        version["result"],
        "not shown".replace(' ', "-"),
        "{version}"
    );
    let name = version["version"].as_str().unwrap();
    assert!(name.starts_with("qemu-img version "), "{name}");
}

/// A program of a root once would have run with this system's libraries, or not at all.
#[test]
fn a_root_has_its_own_loader_and_libraries() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("root");
    let bin = root.join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    let source = dir.path().join("reader.c");
    fs::write(
        &source,
        "#include <stdio.h>\nint main(void) { int c; FILE *f = fopen(\"/proc/self/maps\", \"r\");\n\
         while ((c = getc(f)) != EOF) putchar(c); return 0; }\n",
    )
    .unwrap();
    let built = Command::new("cc")
        .arg("-o")
        .args([&bin.join("reader"), &source])
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    let maps = |program: &Path| text(&Command::new(program).output().unwrap().stdout);
    // The loader and the libraries that it runs with here, put where the root has them.
    let own = maps(&bin.join("reader"));
    let libraries = own
        .lines()
        .filter_map(|line| Some(&line[line.find(" /")? + 1..]));
    let libraries: BTreeSet<&str> = libraries.filter(|path| path.contains(".so")).collect();
    assert!(libraries.len() >= 2, "{own}");
    fs::create_dir_all(root.join("lib64")).unwrap();
    for library in libraries {
        let name = Path::new(library).file_name().unwrap();
        let machine = root.join("usr/lib/some-linux-gnu");
        fs::create_dir_all(&machine).unwrap();
        fs::copy(library, machine.join(name)).unwrap();
        if name.to_string_lossy().starts_with("ld-") {
            // A link that is absolute means a file in the root.
            let target = Path::new("/usr/lib/some-linux-gnu").join(name);
            let asked = interpreter(&bin.join("reader"));
            let link = root.join(asked.strip_prefix("/").unwrap());
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, link).unwrap();
        }
    }
    let build = Build::open(&root, &BTreeSet::from(["reader"])).unwrap();
    let argv = build
        .programs
        .argv(&image_fuzzer::commands::Command::new(["reader"]), "");
    let seen = maps(Path::new(&argv[0]));
    let libraries = seen.lines().filter(|line| line.contains(".so"));
    let (inside, outside): (Vec<&str>, Vec<&str>) =
        libraries.partition(|line| line.contains(root.to_str().unwrap()));
    assert!(!inside.is_empty() && outside.is_empty(), "{seen}");
}

/// The loader that a program asks for.
fn interpreter(program: &Path) -> PathBuf {
    use object::{Object as _, ObjectSection as _};
    let bytes = fs::read(program).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let data = elf.section_by_name(".interp").unwrap().data().unwrap();
    text(data.split_last().unwrap().1).into()
}

#[test]
fn the_programs_of_a_folder_run_in_place_of_those_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let finding = finding(dir.path());
    let dir = dir.path();
    let reproduce = |build: &Path| {
        let mut fuzzer = fuzzer("reproduce");
        fuzzer.arg("--qemu").arg(build).arg(&finding);
        fuzzer.env("QEMU_IMG", "/nowhere/qemu-img");
        output(&mut fuzzer)
    };
    let shows = build(dir, "6.0", "bin", SHOWS);
    let lacking = reproduce(&shows);
    let said = text(&lacking.stderr);
    let want = format!("--qemu '{}': no qemu-io in it", shows.display());
    assert!(said.contains(&want), "{said}");
    assert_eq!(lacking.status.code(), Some(1), "{said}");

    let passes = build(dir, "8.0", "usr/bin", PASSES);
    for (folder, place) in [(&shows, "bin"), (&passes, "usr/bin")] {
        let programs = folder.join(place);
        fs::copy(programs.join("qemu-img"), programs.join("qemu-io")).unwrap();
    }
    let statuses = [&shows, &passes].map(|folder| reproduce(folder).status.code());
    assert_eq!(statuses, [Some(0), Some(3)]);
}
