//! What the tests compile, and what holds for every program.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blocks::Program;
use iced_x86::{Decoder, DecoderOptions, OpKind};

/// A program that was compiled for a test.
pub(crate) struct Build {
    _dir: tempfile::TempDir,
    root: PathBuf,
    pub(crate) source: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Build {
    /// Compiles `source`; `None` and a line where there is no C compiler.
    pub(crate) fn new(source: &str, flags: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (file, program) = (root.join("source.c"), root.join("program"));
        fs::write(&file, source).unwrap();
        let done = Command::new("cc")
            .args(flags)
            .args(["-w", "-Wl,--build-id", "-o"])
            .args([&program, &file])
            .stdin(Stdio::null())
            .output();
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("not run: there is no C compiler");
                return None;
            }
            done => {
                let done = done.unwrap();
                assert!(done.status.success(), "{flags:?}: {done:?}");
            }
        }
        Some(Self {
            bytes: fs::read(&program).unwrap(),
            _dir: dir,
            root,
            source: file,
            program,
        })
    }

    /// The name of its debug file in a folder of debug files.
    pub(crate) fn debug_name(&self) -> PathBuf {
        let build_id = Program::read(&self.bytes).unwrap().build_id.unwrap();
        let digits: String = build_id.iter().map(|it| format!("{it:02x}")).collect();
        let (first, rest) = digits.split_at(2);
        Path::new(".build-id")
            .join(first)
            .join(format!("{rest}.debug"))
    }

    /// Moves the symbols of the program to a debug file, in the folder that is given back.
    pub(crate) fn split_off_symbols(&self) -> PathBuf {
        let folder = self.root.join("debug");
        let debug_file = folder.join(self.debug_name());
        fs::create_dir_all(debug_file.parent().unwrap()).unwrap();
        run(
            "objcopy",
            &["--only-keep-debug".as_ref(), &self.program, &debug_file],
        );
        run("strip", &[&self.program]);
        folder
    }
}

fn run(tool: &str, words: &[&Path]) {
    let done = Command::new(tool).args(words).stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|why| panic!("{tool}: {why}"));
    assert!(done.status.success(), "{tool}: {done:?}");
}

/// The same program as it is without its table of section headers.
pub(crate) fn without_section_headers(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    bytes
}

/// The bytes of the file that are loaded from `start` to `end`.
fn loaded(program: &Program, bytes: &[u8], start: u64, end: u64) -> Vec<u8> {
    let mut segments = program.segments.iter();
    let within = |it: &&blocks::Segment| it.address <= start && end <= it.address + it.size;
    let segment = segments.find(within).expect("a function is in a segment");
    let offset = (segment.file_offset + start - segment.address) as usize;
    bytes[offset..offset + (end - start) as usize].to_vec()
}

/// What holds for every program: functions do not overlap and decode to their end, blocks are
/// instructions of them, each once and in order, and direct branches between functions go to
/// blocks.
pub(crate) fn check(program: &Program, bytes: &[u8]) {
    let functions = &program.functions;
    assert!(
        functions
            .windows(2)
            .all(|pair| pair[0].end <= pair[1].start)
    );
    assert!(
        program
            .blocks
            .windows(2)
            .all(|pair| pair[0].address < pair[1].address)
    );
    let blocks: BTreeSet<u64> = program.blocks.iter().map(|it| it.address).collect();
    let mut number = 0;
    for (index, function) in functions.iter().enumerate() {
        let index = u32::try_from(index).unwrap();
        assert!(function.start < function.end);
        let code = loaded(program, bytes, function.start, function.end);
        let mut starts = BTreeSet::new();
        for it in Decoder::with_ip(64, &code, function.start, DecoderOptions::NONE) {
            assert!(!it.is_invalid(), "{:x}", it.ip());
            starts.insert(it.ip());
            let target = it.near_branch_target();
            let is_branch = it.op0_kind() == OpKind::NearBranch64;
            if is_branch && program.function_at(target).is_some() {
                assert!(blocks.contains(&target), "{:x} to {target:x}", it.ip());
            }
        }
        let own = program.blocks_of(index);
        assert_eq!(own[0].address, function.start);
        for block in own {
            assert_eq!(block.function, index);
            assert_eq!(program.function_at(block.address), Some(index));
            assert!(starts.contains(&block.address), "{:x}", block.address);
            assert_eq!(block.byte, code[(block.address - function.start) as usize]);
        }
        number += own.len();
    }
    assert_eq!(number, program.blocks.len());
}
