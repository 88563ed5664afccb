//! Programs that a C compiler makes, and damaged ones.

#![cfg(target_arch = "x86_64")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use blocks::{Error, Program, Reason, Symbols};
use proptest::prelude::*;
use support::{Build, check, without_section_headers};

/// A switch with cases that fall through, loops, a tail call, an inlined function and a path
/// that is seldom taken.
const SOURCE: &str = r#"
#include <stdlib.h>
#include <stdio.h>

__attribute__((noinline)) int leaf(int n) { return n * 3 + 1; }

__attribute__((noinline)) int choose(int n, const char *text)
{
    int sum = 0;
    switch (n) {
    case 0: sum += puts("zero");
    case 1: sum += leaf(n); break;
    case 2: sum += puts("two"); break;
    case 3: sum -= leaf(7);
    case 4: sum *= atoi(text); break;
    case 5: sum += puts("five"); break;
    case 6: abort();
    default: return -1;
    }
    return sum;
}

static inline __attribute__((always_inline)) int peek(const volatile int *p)
{
    return p[0] + p[1];
}

__attribute__((noinline)) int loop(const int *numbers, int count)
{
    int sum = 0;
    for (int i = 0; i + 1 < count; i++) {
        for (int j = count; j > i; j /= 2) {
            if (numbers[i] % 3 == j) {
                continue;
            }
            sum += peek(numbers + i);
        }
    }
    return sum;
}

__attribute__((cold, noinline)) void seldom(int n) { fprintf(stderr, "%d\n", n); }

__attribute__((noinline)) int tail(int n)
{
    if (__builtin_expect(n == 12345, 0)) {
        seldom(n);
        n = leaf(n);
        seldom(n);
    }
    return leaf(n + 1);
}

int main(int argc, char **argv)
{
    int numbers[] = { argc, 2, 3, 4 };
    return choose(argc, argv[0]) + loop(numbers, 4) + tail(argc);
}
"#;

const FLAGS: [&[&str]; 5] = [
    &["-O2", "-g", "-fPIE", "-pie"],
    &["-O2", "-g", "-fno-pie", "-no-pie"],
    &["-O0", "-fPIE", "-pie"],
    &["-O3", "-fcf-protection=full"],
    &["-Os", "-s", "-fcf-protection=none"],
];

/// Compiles the source; `None` and a line where there is no C compiler.
fn build(flags: &[&str]) -> Option<Build> {
    Build::new(SOURCE, flags)
}

/// The names of all functions, with their indices.
fn names(program: &Program, symbols: &Symbols) -> BTreeMap<String, Vec<u32>> {
    let mut names = BTreeMap::<String, Vec<u32>>::new();
    for index in 0..u32::try_from(program.functions.len()).unwrap() {
        names
            .entry(symbols.name(index).into_owned())
            .or_default()
            .push(index);
    }
    names
}

#[test]
fn blocks_are_instructions_of_functions() {
    for flags in FLAGS {
        let Some(build) = build(flags) else { return };
        let program = Program::read(&build.bytes).unwrap();
        check(&program, &build.bytes);
        let fixed = flags.contains(&"-no-pie");
        assert_eq!(program.position_independent, !fixed, "{flags:?}");
        assert_eq!(program.base == 0, !fixed, "{flags:?}");
        // The linker's stubs, and nothing that the compiler made.
        let reasons: BTreeSet<_> = program.left_out.iter().map(|it| it.reason).collect();
        assert!(
            reasons.is_subset(&BTreeSet::from([Reason::NotCode])),
            "{flags:?}: {reasons:?}"
        );
    }
}

#[test]
fn doubtful_functions_are_left_out() {
    let function = |name: &str, code: &str| {
        format!(
            "__asm__(\".text\\n.type {name},@function\\n{name}: .cfi_startproc\\n{code}\\n\
             .cfi_endproc\\n.size {name}, . - {name}\");\n"
        )
    };
    let source = [
        function("returned_to", ".cfi_signal_frame; mov $15, %eax; syscall"),
        function("past_prefix", "je 1f; .byte 0xf0; 1: incl (%rdi); ret"),
        function("constant", "ret; .byte 6"),
        function("inner", "mov $0x90909090, %eax; ret"),
        function("outer", "jmp inner + 1"),
        function("early", "jmp late + 2"),
        function("late", "xor %eax, %eax; xor %edx, %edx; ret"),
        "int main(void) { return 0; }\n".to_owned(),
    ];
    let Some(build) = Build::new(&source.concat(), &["-O1"]) else {
        return;
    };
    let program = Program::read(&build.bytes).unwrap();
    check(&program, &build.bytes);
    let reasons = program.left_out.iter().map(|it| it.reason);
    let mut reasons: Vec<_> = reasons.filter(|it| *it != Reason::NotCode).collect();
    reasons.sort_unstable();
    let expected = [
        Reason::Trampoline,
        Reason::Undecodable,
        Reason::BranchIntoInstruction,
        Reason::BranchIntoInstruction,
        Reason::BranchIntoInstruction,
    ];
    assert_eq!(reasons, expected, "{:x?}", program.left_out);

    let symbols = Symbols::find(&build.program, &program, &[]);
    let names = names(&program, &symbols);
    for name in ["returned_to", "past_prefix", "constant", "inner", "outer"] {
        assert!(!names.contains_key(name), "{name}");
    }
    // What another function jumps to starts a block, at an instruction.
    let late = program.blocks_of(names["late"][0]);
    let start = late[0].address;
    let offsets: Vec<_> = late.iter().map(|it| it.address - start).collect();
    assert_eq!(offsets, [0, 2]);
}

#[test]
fn cases_and_loops_have_blocks() {
    let Some(build) = build(FLAGS[0]) else { return };
    let program = Program::read(&build.bytes).unwrap();
    let symbols = Symbols::find(&build.program, &program, &[]);
    let names = names(&program, &symbols);
    let blocks = |name: &str| -> usize {
        let parts = names[name].iter();
        parts.map(|index| program.blocks_of(*index).len()).sum()
    };
    assert_eq!(blocks("leaf"), 1);
    // Each case that is jumped to, and what is around them.
    assert!(blocks("choose") >= 8, "{}", blocks("choose"));
    assert!(blocks("loop") >= 5, "{}", blocks("loop"));
    assert!(blocks("tail") >= 2, "{}", blocks("tail"));
}

#[test]
fn stripped_section_headers_hide_no_function() {
    for flags in FLAGS {
        let Some(build) = build(flags) else { return };
        let program = Program::read(&build.bytes).unwrap();
        let stripped = without_section_headers(&build.bytes);
        let bare = Program::read(&stripped).unwrap();
        check(&bare, &stripped);
        for function in &program.functions {
            assert!(
                bare.functions.contains(function),
                "{flags:?}: {function:x?}"
            );
        }
        assert_eq!(bare.build_id, program.build_id);
        assert_eq!(bare.segments, program.segments);
    }
}

#[test]
fn symbols_name_functions_and_their_parts() {
    for flags in &FLAGS[..2] {
        let Some(build) = build(flags) else { return };
        let program = Program::read(&build.bytes).unwrap();
        let symbols = Symbols::find(&build.program, &program, &[]);
        assert!(symbols.has_names() && symbols.has_lines());
        let names = names(&program, &symbols);
        for (name, text) in [
            ("leaf", "int leaf(int n)"),
            ("choose", "int choose("),
            ("loop", "int loop("),
            ("seldom", "void seldom("),
            ("main", "int main("),
        ] {
            let first = 1 + SOURCE.lines().position(|it| it.contains(text)).unwrap();
            // Parts that were split off start somewhere within.
            let mut parts = names[name].iter().map(|it| symbols.function(*it).unwrap());
            let whole = parts
                .find(|it| it.raw_name.as_deref() == Some(name))
                .unwrap();
            assert_eq!(whole.file.as_deref(), build.source.to_str(), "{name}");
            let line = whole.line.unwrap() as usize;
            assert!(
                (first..first + 3).contains(&line),
                "{name}: {line}, not {first}"
            );
        }
        // Paths that are seldom taken have ranges of their own, under the same name.
        for name in ["choose", "tail"] {
            let parts = names[name].iter().map(|it| symbols.function(*it).unwrap());
            let raw: BTreeSet<_> = parts.filter_map(|it| it.raw_name.as_deref()).collect();
            assert!(raw.contains(name), "{raw:?}");
            assert!(raw.iter().all(|it| it.starts_with(name)), "{raw:?}");
        }
        assert!(
            names.keys().all(|it| !it.ends_with(".cold")),
            "{:?}",
            names.keys()
        );

        let in_files = symbols.in_files("sou*.c").unwrap();
        let named: BTreeSet<_> = in_files.iter().map(|it| symbols.name(*it)).collect();
        assert!(
            named.contains("tail") && !named.contains("_start"),
            "{named:?}"
        );
        assert_eq!(
            symbols.in_files(build.source.to_str().unwrap()).unwrap(),
            in_files
        );
        assert!(symbols.in_files("other.c").unwrap().is_empty());
        let error = symbols.in_files("a[").unwrap_err().to_string();
        assert!(error.contains("'a['"), "{error}");
    }
}

#[test]
fn an_address_has_the_functions_that_were_inlined() {
    let Some(build) = build(FLAGS[0]) else { return };
    let program = Program::read(&build.bytes).unwrap();
    let symbols = Symbols::find(&build.program, &program, &[]);
    let index = names(&program, &symbols)["loop"][0];
    let function = program.functions[index as usize];
    let stacks = (function.start..function.end).map(|address| symbols.lookup(address));
    let stack = stacks
        .into_iter()
        .find(|it| it[0].function == "peek")
        .unwrap();
    let functions: Vec<_> = stack.iter().map(|it| &*it.function).collect();
    assert_eq!(functions, ["peek", "loop"]);
    let (file, line) = stack[0].location.clone().unwrap();
    assert_eq!(Path::new(&file), build.source);
    let text = SOURCE.lines().nth(line as usize - 1).unwrap();
    assert!(text.contains("return p[0]"), "{text}");
    assert_eq!(symbols.lookup(1), []);
}

#[test]
fn stripped_programs_have_names_in_a_debug_file_or_none() {
    let Some(build) = build(FLAGS[0]) else { return };
    let program = Program::read(&build.bytes).unwrap();
    let debug_dir = build.split_off_symbols();
    assert_eq!(
        Program::read(&fs::read(&build.program).unwrap()),
        Ok(program.clone())
    );

    let bare = Symbols::find(&build.program, &program, &[]);
    let start = program.functions[0].start;
    assert!(!bare.has_lines());
    assert_eq!(bare.name(0), format!("program+{start:#x}"));
    assert_eq!(
        bare.lookup(start)[0].function,
        format!("program+{start:#x}")
    );

    let named = Symbols::find(&build.program, &program, &[&debug_dir]);
    assert!(names(&program, &named).contains_key("choose"));
    assert!(!named.in_files("source.c").unwrap().is_empty());

    // The program is another build by now: its debug file still tells of this one.
    fs::copy("/proc/self/exe", &build.program).unwrap();
    let older = Symbols::find(&build.program, &program, &[&debug_dir]);
    assert_eq!(names(&program, &older), names(&program, &named));
    assert!(!Symbols::find(&build.program, &program, &[]).has_names());
}

#[test]
fn contents_survive_a_rebuild() {
    for flags in &FLAGS[..2] {
        let Some(before) = build(flags) else { return };
        let more = "__attribute__((used)) int more(int *n) { return n[1] + n[7] * n[9]; }\n";
        let changed = SOURCE.replace("n * 3 + 1", "n * 5 + 1");
        let after = Build::new(&format!("{more}{changed}"), flags).unwrap();
        let hashes = |build: &Build| -> BTreeMap<String, u64> {
            let program = Program::read(&build.bytes).unwrap();
            let symbols = Symbols::find(&build.program, &program, &[]);
            let functions = program.functions.iter().zip(0..);
            let raw = functions.filter_map(|(function, index)| {
                let name = symbols.function(index)?.raw_name.clone()?;
                Some((name, function.content_hash))
            });
            raw.collect()
        };
        let (before, after) = (hashes(&before), hashes(&after));
        for name in ["choose", "loop", "seldom", "main"] {
            assert_eq!(before[name], after[name], "{flags:?}: {name}");
        }
        assert_ne!(before["leaf"], after["leaf"], "{flags:?}");
    }
}

#[test]
fn what_is_no_program_is_an_error() {
    let Some(build) = build(FLAGS[0]) else { return };
    let bytes = &build.bytes;
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        Program::read(&bytes)
    };
    assert_eq!(Program::read(b""), Err(Error::NotElf));
    assert_eq!(Program::read(b"#!/bin/sh\n"), Err(Error::NotElf));
    assert_eq!(
        Program::read(&bytes[..20]),
        Err(Error::Truncated("file header"))
    );
    assert_eq!(patched(4, &[1]), Err(Error::NotX86_64));
    assert_eq!(patched(18, &[0xb7]), Err(Error::NotX86_64));
    // An object file, and a core file.
    assert_eq!(patched(16, &[1]), Err(Error::NotLoadable));
    assert_eq!(patched(16, &[4]), Err(Error::NotLoadable));
    let cut = &bytes[..bytes.len() / 2];
    assert!(matches!(Program::read(cut), Err(Error::Truncated(_))));
    // Its dynamic section taken for something else: as of a static program.
    let headers = u64::from_le_bytes(bytes[32..40].try_into().unwrap()) as usize;
    let dynamic = (headers..)
        .step_by(56)
        .find(|at| bytes[*at..*at + 4] == [2, 0, 0, 0]);
    assert_eq!(patched(dynamic.unwrap(), &[0]), Err(Error::Static));
    let name = b"\0.eh_frame\0";
    let at = bytes
        .windows(name.len())
        .rposition(|it| it == name)
        .unwrap();
    assert_eq!(patched(at + 1, b"_"), Err(Error::NoUnwindInfo));
}

#[test]
fn a_debug_file_is_no_program() {
    let Some(build) = build(FLAGS[0]) else { return };
    let debug_file = build.split_off_symbols().join(build.debug_name());
    let error = Program::read(&fs::read(debug_file).unwrap()).unwrap_err();
    assert!(
        matches!(error, Error::NoUnwindInfo | Error::Static),
        "{error}"
    );
}

#[test]
fn blocks_of_the_installed_tools_are_instructions() {
    for tool in ["qemu-img", "qemu-io", "qemu-nbd"] {
        let Ok(bytes) = fs::read(Path::new("/usr/bin").join(tool)) else {
            println!("not run: {tool} is not installed");
            continue;
        };
        let program = Program::read(&bytes).unwrap();
        check(&program, &bytes);
        // Compilers make nothing that is not understood.
        let doubtful = program
            .left_out
            .iter()
            .filter(|it| it.reason != Reason::NotCode);
        assert_eq!(doubtful.count(), 0, "{tool}: {:?}", program.left_out);
        assert!(program.blocks.len() > 5 * program.functions.len(), "{tool}");
    }
}

/// Places of a program that say something of the rest: its headers and unwind information.
fn sensitive(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let sections = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let program = Program::read(bytes).unwrap();
    let text = program.segments[0];
    let text = text.file_offset as usize..(text.file_offset + text.size) as usize;
    // What follows the text is constants and unwind information.
    let behind = text.end..bytes.len().min(text.end + 0x2000);
    vec![0..0x400, sections..bytes.len(), text, behind]
}

#[test]
fn damaged_programs_give_instructions_or_an_error() {
    let Some(build) = build(FLAGS[2]) else { return };
    let places = sensitive(&build.bytes);
    let place = prop::sample::select(places).prop_flat_map(|range| range);
    let byte = prop_oneof![any::<u8>(), Just(0), Just(0xff)];
    let edits = prop::collection::vec((place, byte), 0..6);
    let size = build.bytes.len();
    let sizes = prop_oneof![3 => Just(size), 1 => 0..size];
    proptest!(ProptestConfig::with_cases(1500), |(edits in edits, size in sizes, bare: bool)| {
        let mut bytes = build.bytes.clone();
        if bare {
            bytes = without_section_headers(&bytes);
        }
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes.truncate(size);
        if let Ok(program) = Program::read(&bytes) {
            check(&program, &bytes);
            prop_assert!(program.blocks.len() <= bytes.len());
            prop_assert!(program.left_out.len() <= bytes.len());
        }
    });
}
