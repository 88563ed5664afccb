//! Why a program cannot be read.

/// Why the blocks of a program are not known. The text finishes a sentence that names the
/// file: `'/usr/bin/qemu-img' is not an ELF file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file does not start like an ELF file.
    #[error("is not an ELF file")]
    NotElf,
    /// It is for another machine, or has 32-bit addresses.
    #[error("is not a program for x86-64")]
    NotX86_64,
    /// It has no program headers, or is of a type that is not loaded: an object file, a core
    /// file.
    #[error("is neither a program nor a shared library")]
    NotLoadable,
    /// No dynamic section: the dynamic linker does not load it, and nothing can be preloaded.
    #[error("is linked statically")]
    Static,
    /// Nothing says where functions start and end.
    #[error("has no unwind information (.eh_frame), which says where its functions are")]
    NoUnwindInfo,
    /// There is unwind information, but of no function that can be used.
    #[error("has no function whose blocks can be found")]
    NoFunctions,
    /// What the headers name is past the end of the file.
    #[error("is truncated: its {0} is past the end of the file")]
    Truncated(&'static str),
    /// What the headers say contradicts itself.
    #[error("is malformed: its {0} is invalid")]
    Malformed(&'static str),
}
