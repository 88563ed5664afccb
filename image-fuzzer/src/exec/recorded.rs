//! The blocks that a program reaches while it runs on: one that is executed, and not forked by a
//! run server.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use coverage::record::{self, Code, Follower, Notes, Program, ProgramId};
use data_encoding::HEXLOWER;

use super::blocks::{BlockFile, BlockId};
use super::program::{PRELOAD, library, not_preloadable};
use image_mutations::rng::{FNV_START, fnv};

/// A program whose blocks are noted.
#[derive(Debug)]
pub struct RecordedProgram {
    program: Program,
    file: BlockFile,
    addresses: Vec<u32>,
    library: PathBuf,
}

/// What the processes of one worker reach of it: each block once, however often the program is
/// started.
pub struct RecordedBlocks<'a> {
    program: &'a RecordedProgram,
    notes: Notes,
    follower: Follower,
}

impl RecordedProgram {
    /// Finds the blocks of the program at `path`.
    ///
    /// # Errors
    ///
    /// Why they cannot be noted, in words.
    pub fn new(path: &Path) -> Result<Self, String> {
        if let Some(why) = not_preloadable(path) {
            return Err(why.into());
        }
        let library = library(PRELOAD).map_err(|why| why.to_string())?;
        let path = path.canonicalize().map_err(|why| why.to_string())?;
        let bytes = fs::read(&path).map_err(|why| why.to_string())?;
        let found = blocks::Program::read(&bytes).map_err(|why| why.to_string())?;
        let blocks: Result<Vec<(u32, u8)>, _> = found
            .blocks
            .iter()
            .map(|block| Ok((u32::try_from(block.address)?, block.byte)))
            .collect();
        let blocks = blocks.map_err(|_: std::num::TryFromIntError| "it is too large".to_owned())?;
        let code = match *found.segments {
            [it] => Code::of_segment(&bytes, it.file_offset, it.address, it.size),
            _ => None,
        };
        let id = ProgramId::of(&path).map_err(|why| why.to_string())?;
        let program = Program::new(id, &blocks, code).map_err(|why| why.to_string())?;
        let build_id = found.build_id.unwrap_or_default();
        let identity = match build_id.is_empty() {
            true => path.as_os_str().as_encoded_bytes(),
            false => &build_id,
        };
        Ok(Self {
            program,
            file: BlockFile {
                id: fnv(FNV_START, identity),
                build_id: HEXLOWER.encode(&build_id),
                blocks: blocks.len(),
                path,
            },
            addresses: blocks.into_iter().map(|(address, _)| address).collect(),
            library,
        })
    }

    /// The program's file.
    pub fn file(&self) -> &BlockFile {
        &self.file
    }

    /// The library that has to be loaded into it.
    pub(super) fn library(&self) -> &Path {
        &self.library
    }

    /// Follows the processes of a worker.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn follow(&self) -> std::io::Result<RecordedBlocks<'_>> {
        let notes = Notes::new(&self.program)?;
        Ok(RecordedBlocks {
            program: self,
            follower: notes.follow()?,
            notes,
        })
    }
}

impl RecordedBlocks<'_> {
    /// The blocks that were reached since the last call, each once in all.
    pub fn take(&mut self) -> Vec<BlockId> {
        let file = self.program.file.id;
        let address = |number: u32| self.program.addresses.get(number as usize).copied();
        let reached = self.follower.take().into_iter().filter_map(address);
        reached.map(|address| BlockId { file, address }).collect()
    }

    /// Why blocks are not noted, in words.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.follower.obstacle().map(coverage::Obstacle::text)
    }

    /// The program that they are of.
    pub fn program(&self) -> &RecordedProgram {
        self.program
    }

    /// The variable that a process finds the notes by, and the descriptors it inherits.
    pub(super) fn variable(&self) -> (&'static str, String) {
        let name = record::ENV.to_str().unwrap_or_default();
        let value = record::inherited_value(&self.program.program, &self.notes);
        (name, value)
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        record::descriptors(&self.program.program, &self.notes)
    }
}
