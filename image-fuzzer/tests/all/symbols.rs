//! Stacks with the names that debug symbols give.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{fuzzer, write_recipe};
use image_fuzzer::exec::symbols::Symbols;
use image_fuzzer::exec::trace::Trace;
use image_fuzzer::exec::{Debugger, ExecOptions, Request};
use image_fuzzer::signature::Stack;

/// A program that crashes, without its symbols, and a folder with its debug file.
struct Fixture {
    dir: tempfile::TempDir,
    program: PathBuf,
    debug: PathBuf,
    build_id: String,
}

/// Runs a tool that belongs to every C compiler.
fn tool(name: &str, words: &[&str]) -> String {
    let done = Command::new(name).args(words).stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(done.status.success(), "{name}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let (source, program) = (at("program.c"), at("program"));
        fs::write(
            &source,
            "#include <stdlib.h>\n\
             static inline __attribute__((always_inline)) int peek(volatile int *p) { int a = p[0]; return a * p[1]; }\n\
             static __attribute__((noinline)) int deep(long n)\n\
             { return n > 1 ? peek((int *)(n * 8)) : 0; }\n\
             int main(int argc, char **argv) { (void)argv;\n\
             return deep(argc + 7) + 1; }\n",
        )
        .unwrap();
        let flags = [
            "-g",
            "-O1",
            "-fno-optimize-sibling-calls",
            "-Wl,--build-id",
            "-o",
        ];
        tool("cc", &[&flags[..], &[&program, &source]].concat());
        let notes = tool("readelf", &["-n", &program]);
        let (_, id) = notes.split_once("Build ID: ").unwrap();
        let build_id = id.lines().next().unwrap().trim().to_owned();
        let debug = root.join("debug");
        let (first, rest) = build_id.split_at(2);
        let folder = debug.join(".build-id").join(first);
        fs::create_dir_all(&folder).unwrap();
        let debug_file = folder.join(format!("{rest}.debug"));
        let debug_file = debug_file.to_str().unwrap();
        tool("objcopy", &["--only-keep-debug", &program, debug_file]);
        tool("strip", &[&program]);
        Self {
            dir,
            program: program.into(),
            debug,
            build_id,
        }
    }

    /// The debug file, by its build id.
    fn debug_file(&self) -> PathBuf {
        let (first, rest) = self.build_id.split_at(2);
        self.debug.join(format!(".build-id/{first}/{rest}.debug"))
    }

    /// The stack of the crash as gdb tells it; `None` where there is no gdb.
    fn stack(&self) -> Option<Stack> {
        let scratch = self.dir.path().join("scratch");
        let options = ExecOptions::new(&scratch);
        let mut debugger = Debugger::new(&self.program, &options).ok()?;
        let request = Request::new(vec!["program".into()], &scratch);
        Some(debugger.stack(&request, Duration::MAX).expect("it crashes"))
    }
}

fn trace(stack: &Stack, folders: &[PathBuf]) -> Trace {
    Trace::new(stack, &mut Symbols::new(folders))
}

/// The functions of the program, without lines and addresses.
fn functions(trace: &Trace) -> Vec<&str> {
    let frames = trace.frames.iter();
    let own = frames.filter(|frame| frame.module.as_deref() == Some("program"));
    own.filter_map(|frame| frame.function.as_deref()).collect()
}

#[test]
fn a_debug_file_is_found_by_its_build_id() {
    let fixture = Fixture::new();
    let Some(stack) = fixture.stack() else {
        return println!("not run: gdb is not installed");
    };
    let plain = trace(&stack, &[]);
    assert!(functions(&plain).is_empty(), "{plain}");
    assert!(plain.to_string().starts_with("#0 program+0x"), "{plain}");
    let id = &fixture.build_id;
    let program = plain.modules.iter().find(|it| it.name == "program");
    assert_eq!(program.unwrap().build_id.as_ref(), Some(id));
    let notes = plain.notes();
    assert!(
        notes.contains(&format!("debuginfod-find debuginfo {id}\n")),
        "{notes}"
    );

    let named = trace(&stack, std::slice::from_ref(&fixture.debug));
    let text = named.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(" peek ("), "{text}");
    assert!(lines[0].contains("program.c:2) at program+0x"), "{text}");
    assert!(
        lines[1].contains(" deep (") && lines[1].contains("program.c:4)"),
        "{text}"
    );
    assert!(
        lines[2].contains(" main (") && lines[2].contains("program.c:6)"),
        "{text}"
    );
    assert_eq!(
        lines.len(),
        3,
        "how a program starts is the same everywhere: {text}"
    );
    assert_eq!(named.install, None);
    assert!(!named.notes().contains("debuginfod"), "{}", named.notes());

    // One that was recorded without names gets them later, also where another build is by then.
    let folders = std::slice::from_ref(&fixture.debug);
    assert_eq!(plain.resolve(&mut Symbols::new(folders)), named);
    fs::write(&fixture.program, "another build").unwrap();
    assert_eq!(plain.resolve(&mut Symbols::new(folders)), named);
    assert_eq!(plain.resolve(&mut Symbols::new(&[])).frames, plain.frames);
}

#[test]
fn a_debug_file_is_found_by_its_link() {
    let fixture = Fixture::new();
    let program = fixture.program.to_str().unwrap();
    // Below the folder, where the program is below the root; gdb looks beside the program.
    let below = fixture.program.parent().unwrap().strip_prefix("/").unwrap();
    let folder = fixture.debug.join(below);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("program.debug");
    fs::rename(fixture.debug_file(), &file).unwrap();
    let link = format!("--add-gnu-debuglink={}", file.display());
    tool("objcopy", &[&link, program]);
    let Some(stack) = fixture.stack() else {
        return println!("not run: gdb is not installed");
    };
    let folders = std::slice::from_ref(&fixture.debug);
    assert_eq!(functions(&trace(&stack, folders)), ["peek", "deep", "main"]);
    // One with another checksum is not that of the program.
    let mut bytes = fs::read(&file).unwrap();
    bytes.push(0);
    fs::write(&file, bytes).unwrap();
    assert!(functions(&trace(&stack, folders)).is_empty());
}

/// Installing what the README says once gave each crash another group.
#[test]
fn debug_files_do_not_change_the_group() {
    let fixture = Fixture::new();
    let root = fixture.dir.path().canonicalize().unwrap();
    let Ok(gdb) = which::which("gdb") else {
        return println!("not run: gdb is not installed");
    };
    // A gdb for which the debug file is installed.
    let bin = root.join("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nexec '{}' -iex 'set debug-file-directory {}' \"$@\"\n",
        gdb.display(),
        fixture.debug.display()
    );
    fs::write(bin.join("gdb"), script).unwrap();
    fs::set_permissions(bin.join("gdb"), fs::Permissions::from_mode(0o755)).unwrap();
    let finding = root.join("finding");
    write_recipe(&finding, &[fixture.program.to_str().unwrap(), "$test_img"]);
    let reproduce = |path: &Path| {
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
        let mut fuzzer = fuzzer("reproduce");
        fuzzer.arg(&finding).env("PATH", path);
        fuzzer.arg("--debug-dir").arg(&fixture.debug);
        fuzzer.arg("--allow-read").arg(&fixture.debug);
        let done = fuzzer.output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let (before, after) = (reproduce(Path::new("/nonexistent")), reproduce(&bin));
    assert_eq!(before, after);
    assert!(
        before.contains("finding: crash: SIGSEGV in program+0x"),
        "{before}"
    );
    // The names are there all the same.
    assert!(before.contains("\n#1 deep ("), "{before}");
    let id = format!("program {}", fixture.build_id);
    assert!(before.contains(&id), "{before}");
}
