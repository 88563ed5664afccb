//! A program as its blocks.

use std::ops::Range;

use crate::elf::Elf;
use crate::error::Error;
use crate::functions::{Described, described, overlaps};
use crate::leaders::{Code, Sweep};
use crate::reason::Reason;

/// The basic blocks of a program or shared library. All addresses are those that the file was
/// linked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What the linker named this build by, where it did.
    pub build_id: Option<Vec<u8>>,
    /// Whether it can be loaded at any address. It runs at the addresses of the file plus
    /// where it was loaded, minus [`base`](Self::base).
    pub position_independent: bool,
    /// The lowest address that is loaded, rounded down to a page of 4096 bytes.
    pub base: u64,
    /// The executable segments, by address.
    pub segments: Vec<Segment>,
    /// The functions whose blocks are known, by address. They do not overlap. A function that
    /// the compiler split has a range for each part.
    pub functions: Vec<Function>,
    /// The blocks, by address, each once.
    pub blocks: Vec<Block>,
    /// What unwind information describes and has no blocks here, by address.
    pub left_out: Vec<LeftOut>,
}

/// An executable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file, in bytes.
    pub file_offset: u64,
    /// Its first address.
    pub address: u64,
    /// Its size in the file, in bytes.
    pub size: u64,
}

/// A function, or a part of one: a range that is all in one executable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The address of its first byte.
    pub start: u64,
    /// The address behind its last byte.
    pub end: u64,
    /// A hash of its instructions, without what depends on the addresses of the function
    /// and of what it refers to: a function of the same name and content hash in another build of the
    /// program has the same blocks, at the same distances from its start.
    ///
    /// That it calls another function in place of one, or refers to other data, does not
    /// change the hash. It is the same on all machines.
    pub content_hash: u64,
}

/// A basic block: instructions of which all run when the first does, unless one of them
/// traps, calls what does not come back, or is the target of an indirect jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address of its first instruction.
    pub address: u64,
    /// The index of its function in [`Program::functions`].
    pub function: u32,
    /// The first byte of its first instruction.
    pub byte: u8,
}

/// A range that unwind information describes and whose blocks are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The address of its first byte.
    pub start: u64,
    /// The address behind its last byte.
    pub end: u64,
    /// Why it is left out.
    pub reason: Reason,
}

/// A branch from one function into another, to an address that is not its start.
struct Crossing {
    from: usize,
    to: usize,
    target: u64,
}

impl Program {
    /// Reads a program or shared library from the bytes of its file.
    ///
    /// Memory and time are proportional to the size of the file, whatever it says.
    ///
    /// # Errors
    ///
    /// The file is not a program of which blocks can be found: the error says what is
    /// missing.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let elf = Elf::parse(bytes)?;
        let (address, eh_frame) = elf.eh_frame;
        let (mut codes, mut left_out) = codes(&elf, described(address, eh_frame)?);
        let mut size = 0;
        for code in &mut codes {
            code.place = size;
            size += code.bytes.len();
        }
        let mut sweep = Sweep::new(size);
        let results = sweep_all(&elf, &codes, &mut sweep);
        let mut program = Self {
            build_id: elf.build_id.map(<[u8]>::to_vec),
            position_independent: elf.position_independent,
            base: elf.image.start,
            segments: elf.executable().map(Segment::of).collect(),
            functions: Vec::new(),
            blocks: Vec::new(),
            left_out: Vec::new(),
        };
        for (code, result) in codes.iter().zip(results) {
            let Range { start, end } = code.range;
            match result {
                Ok(content_hash) => program.add(code, content_hash, &sweep),
                Err(reason) => left_out.push(LeftOut { start, end, reason }),
            }
        }
        if program.functions.is_empty() {
            return Err(Error::NoFunctions);
        }
        left_out.sort_by_key(|it| (it.start, it.end, it.reason));
        program.left_out = left_out;
        Ok(program)
    }

    /// The index of the function at an address.
    #[must_use]
    pub fn function_at(&self, address: u64) -> Option<u32> {
        let behind = self.functions.partition_point(|it| it.start <= address);
        let index = behind.checked_sub(1)?;
        let function = self.functions.get(index)?;
        (address < function.end).then_some(u32::try_from(index).ok()?)
    }

    /// The blocks of a function; none where there is no function of this index.
    #[must_use]
    pub fn blocks_of(&self, function: u32) -> &[Block] {
        let start = self.blocks.partition_point(|it| it.function < function);
        let rest = &self.blocks[start..];
        &rest[..rest.partition_point(|it| it.function == function)]
    }

    /// Adds a function and its blocks.
    fn add(&mut self, code: &Code<'_>, content_hash: u64, sweep: &Sweep) {
        let Ok(function) = u32::try_from(self.functions.len()) else {
            return;
        };
        let Range { start, end } = code.range;
        self.functions.push(Function {
            start,
            end,
            content_hash,
        });
        let bytes = code.bytes;
        let places = sweep.leaders.within(code.place..code.place + bytes.len());
        self.blocks.extend(places.map(|place| Block {
            address: start + (place - code.place) as u64,
            function,
            byte: bytes[place - code.place],
        }));
    }
}

impl Segment {
    fn of(load: &crate::elf::Load<'_>) -> Self {
        Self {
            file_offset: load.file_offset,
            address: load.address,
            size: load.bytes.len() as u64,
        }
    }
}

/// The ranges that can be decoded, by address, and those that cannot.
fn codes<'a>(elf: &Elf<'a>, mut described: Vec<Described>) -> (Vec<Code<'a>>, Vec<LeftOut>) {
    described.sort_by_key(|it| (it.range.start, it.range.end, !it.is_trampoline));
    described.dedup_by(|later, kept| later.range == kept.range);
    let mut left_out = Vec::new();
    let mut usable = Vec::new();
    for it in &described {
        match elf.code(&it.range) {
            _ if it.range.is_empty() => left_out.push(it.left_out(Reason::Empty)),
            None => left_out.push(it.left_out(Reason::NotCode)),
            Some(bytes) => usable.push((it, bytes)),
        }
    }
    let ranges: Vec<_> = usable.iter().map(|(it, _)| it.range.clone()).collect();
    let mut codes = Vec::new();
    for ((it, bytes), overlap) in usable.into_iter().zip(overlaps(&ranges)) {
        if overlap {
            left_out.push(it.left_out(Reason::Overlap));
        } else if it.is_trampoline {
            left_out.push(it.left_out(Reason::Trampoline));
        } else {
            codes.push(Code {
                range: it.range.clone(),
                bytes,
                place: 0,
            });
        }
    }
    (codes, left_out)
}

impl Described {
    fn left_out(&self, reason: Reason) -> LeftOut {
        let Range { start, end } = self.range;
        LeftOut { start, end, reason }
    }
}

/// Decodes all functions: the content hash of each, or why it is left out.
fn sweep_all(elf: &Elf<'_>, codes: &[Code<'_>], sweep: &mut Sweep) -> Vec<Result<u64, Reason>> {
    let absolute = if elf.position_independent {
        0..0
    } else {
        elf.image.clone()
    };
    let mut crossings = Vec::new();
    let mut results: Vec<_> = codes
        .iter()
        .enumerate()
        .map(|(from, code)| {
            sweep.function(code, &absolute, |target| {
                let to = codes.partition_point(|it| it.range.start <= target);
                let Some(to) = to.checked_sub(1) else { return };
                let within = codes[to].range.contains(&target);
                if within && codes[to].range.start != target {
                    crossings.push(Crossing { from, to, target });
                }
            })
        })
        .collect();
    // Both are in doubt, before any leader is taken from either.
    let mut doubtful = Vec::new();
    for it in &crossings {
        let place = codes[it.to].place_of(it.target);
        let decoded = results[it.from].is_ok() && results[it.to].is_ok();
        if decoded && !sweep.starts.contains(place) {
            doubtful.extend([it.from, it.to]);
        }
    }
    for index in doubtful {
        results[index] = Err(Reason::BranchIntoInstruction);
    }
    for it in &crossings {
        if results[it.from].is_ok() && results[it.to].is_ok() {
            sweep.leaders.insert(codes[it.to].place_of(it.target));
        }
    }
    results
}
