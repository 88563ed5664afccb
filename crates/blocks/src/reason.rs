//! Why a function has no blocks.

/// Why the blocks of a range are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It has no bytes.
    Empty,
    /// It is not in an executable part of the file, or in one that the linker makes: a
    /// procedure linkage table, startup code.
    NotCode,
    /// It overlaps another range.
    Overlap,
    /// Signal handlers return to it: debuggers and unwinders know it by its bytes.
    Trampoline,
    /// It has bytes that are no instruction, or ends within one.
    Undecodable,
    /// A branch goes to an address in it that is within an instruction, or it has such a
    /// branch itself: data may have been decoded as instructions.
    BranchIntoInstruction,
}
