//! What stays the same of a function when it moves.

use std::hash::Hasher as _;
use std::ops::Range;

use fnv::FnvHasher;
use iced_x86::{ConstantOffsets, Instruction, OpKind};

/// Hashes the instructions of a function one by one, without what depends on the
/// addresses of the function and of what it refers to.
pub(crate) struct ContentHasher {
    hasher: FnvHasher,
    function: Range<u64>,
    /// The addresses of the program, which instructions may have as they are; empty in a
    /// position-independent program.
    absolute: Range<u64>,
}

impl ContentHasher {
    pub(crate) fn new(function: &Range<u64>, absolute: &Range<u64>) -> Self {
        Self {
            hasher: FnvHasher::default(),
            function: function.clone(),
            absolute: absolute.clone(),
        }
    }

    /// Adds one instruction, with its bytes and where the constants are in them.
    pub(crate) fn add(&mut self, instruction: &Instruction, bytes: &[u8], at: &ConstantOffsets) {
        let mut done = 0;
        for (offset, size, masked) in [
            (
                at.displacement_offset(),
                at.displacement_size(),
                instruction.is_ip_rel_memory_operand(),
            ),
            (
                at.immediate_offset(),
                at.immediate_size(),
                self.leaves(instruction),
            ),
        ] {
            let Some(constant) = bytes.get(offset..offset + size).filter(|_| size > 0) else {
                continue;
            };
            if masked || self.is_address(constant) {
                self.hasher.write(&bytes[done..offset]);
                self.hasher.write(&[0; 8][..size]);
                done = offset + size;
            }
        }
        self.hasher.write(&bytes[done..]);
    }

    pub(crate) fn finish(&self) -> u64 {
        self.hasher.finish()
    }

    /// Whether it is a direct branch to outside of the function.
    fn leaves(&self, instruction: &Instruction) -> bool {
        instruction.op0_kind() == OpKind::NearBranch64
            && !self.function.contains(&instruction.near_branch_target())
    }

    /// Whether these bytes may be an address of the program.
    fn is_address(&self, constant: &[u8]) -> bool {
        let mut wide = [0; 8];
        let (true, Some(low)) = (constant.len() >= 4, wide.get_mut(..constant.len())) else {
            return false;
        };
        low.copy_from_slice(constant);
        self.absolute.contains(&u64::from_le_bytes(wide))
    }
}
