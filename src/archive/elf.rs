//! ELF files: without what only debuggers read, and which C library they need.
//!
//! Of 64-bit little-endian files only; others are left as they are.

use std::ops::Range;

/// Sections: where the table is, how large an entry is and how many there are.
const SHOFF: usize = 0x28;
const SHENTSIZE: usize = 0x3a;
const SHNUM: usize = 0x3c;
const SHSTRNDX: usize = 0x3e;
/// Segments, likewise.
const PHOFF: usize = 0x20;
const PHENTSIZE: usize = 0x36;
const PHNUM: usize = 0x38;

/// In an entry for a section.
const SH_FLAGS: usize = 0x08;
const SH_OFFSET: usize = 0x18;
const SH_SIZE: usize = 0x20;
/// The flag of a section that is in memory while the program runs.
const SHF_ALLOC: u64 = 2;
/// The type of a section without bytes in the file.
const SHT_NOBITS: u32 = 8;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;

/// Reads numbers at offsets; `None` behind the end.
struct Elf<'a>(&'a [u8]);

impl<'a> Elf<'a> {
    /// `None` where `bytes` are no ELF file of the kind that this module knows.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(b"\x7fELF\x02\x01").then_some(Self(bytes))
    }

    fn u16(&self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?).into())
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn offset(&self, at: usize) -> Option<usize> {
        self.u64(at)?.try_into().ok()
    }

    /// Where the entries of a table are, given where its place, entry size and number are.
    fn table(&self, place: usize, size: usize, number: usize) -> Option<Vec<usize>> {
        let (first, size) = (self.offset(place)?, self.u16(size)?);
        let at = |n: usize| first.checked_add(n.checked_mul(size)?);
        (0..self.u16(number)?).map(at).collect()
    }

    /// The bytes of a segment or section, given where its offset and its size are.
    fn range(&self, offset: usize, size: usize) -> Option<Range<usize>> {
        let start = self.offset(offset)?;
        let end = start.checked_add(self.offset(size)?)?;
        (end <= self.0.len()).then_some(start..end)
    }

    /// The name that begins at `at`.
    fn name(&self, at: usize) -> Option<&'a [u8]> {
        self.0.get(at..)?.split(|&byte| byte == 0).next()
    }

    fn segments(&self) -> Option<Vec<usize>> {
        self.table(PHOFF, PHENTSIZE, PHNUM)
    }
}

/// How many bytes [`end`] needs.
pub(super) const HEADER: usize = 64;

/// Where the file of a program ends whose first bytes these are, if its table of sections is
/// the last in it.
pub(super) fn end(header: &[u8]) -> Option<u64> {
    let elf = Elf::new(header)?;
    let table = elf.u16(SHENTSIZE)?.checked_mul(elf.u16(SHNUM)?)?;
    elf.u64(SHOFF)?.checked_add(table as u64)
}

/// What of a program is kept that it does not need itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The names of functions: stacks are readable.
    Symbols,
    /// Nothing.
    Nothing,
}

/// The program without its debug information.
pub(super) fn stripped(bytes: Vec<u8>, keep: Keep) -> Vec<u8> {
    without_debug(&bytes, keep).unwrap_or(bytes)
}

/// Everything up to the end of the segments, then the other sections that stay, then the
/// table of sections. What is left out has an empty entry there, so that no section gets
/// another number.
fn without_debug(bytes: &[u8], keep: Keep) -> Option<Vec<u8>> {
    let elf = Elf::new(bytes)?;
    let mut end = 0;
    for entry in elf.segments()? {
        end = end.max(elf.range(entry + 0x08, entry + 0x20)?.end);
    }
    let sections = elf.table(SHOFF, SHENTSIZE, SHNUM)?;
    let names = elf.offset(*sections.get(elf.u16(SHSTRNDX)?)? + SH_OFFSET)?;
    let mut out = bytes.get(..end)?.to_vec();
    let mut table = Vec::new();
    for &section in &sections {
        let mut entry = bytes
            .get(section..section.checked_add(elf.u16(SHENTSIZE)?)?)?
            .to_vec();
        let name = elf.name(names.checked_add(elf.u32(section)? as usize)?)?;
        let in_memory = elf.u64(section + SH_FLAGS)? & SHF_ALLOC != 0;
        let debug = name.starts_with(b".debug") || name.starts_with(b".rela.debug");
        let symbols = matches!(name, b".symtab" | b".strtab");
        if !in_memory && (debug || (symbols && keep == Keep::Nothing)) {
            entry.fill(0);
        } else if !in_memory && elf.u32(section + 4)? != SHT_NOBITS {
            let kept = elf.range(section + SH_OFFSET, section + SH_SIZE)?;
            align(&mut out);
            entry[SH_OFFSET..SH_OFFSET + 8].copy_from_slice(&(out.len() as u64).to_le_bytes());
            out.extend(&bytes[kept]);
        }
        table.extend(entry);
    }
    align(&mut out);
    let place = (out.len() as u64).to_le_bytes();
    out.extend(table);
    out.get_mut(SHOFF..SHOFF + 8)?.copy_from_slice(&place);
    // Of one without debug information nothing can be taken.
    (out.len() < bytes.len()).then_some(out)
}

/// Fills up to where a table of the widest numbers can begin.
fn align(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(16), 0);
}

/// The newest version of the GNU C library that the program asks for: major and minor.
pub(super) fn glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    let elf = Elf::new(bytes)?;
    let segments = elf.segments()?;
    let of_type = |kind: u32| {
        segments
            .iter()
            .filter(move |&&s| elf_type(bytes, s) == kind)
    };
    let dynamic = elf.range(
        of_type(PT_DYNAMIC).next()? + 0x08,
        of_type(PT_DYNAMIC).next()? + 0x20,
    )?;
    let value = |tag: u64| {
        let mut entries = dynamic.clone().step_by(16);
        let entry = entries.find(|&at| elf.u64(at) == Some(tag))?;
        elf.offset(entry + 8)
    };
    // The dynamic section knows addresses only.
    let address = value(DT_STRTAB)?;
    let start = of_type(PT_LOAD).find_map(|&segment| {
        let below = address.checked_sub(elf.offset(segment + 0x10)?)?;
        let place = elf.range(segment + 0x08, segment + 0x20)?;
        (below < place.len()).then_some(place.start + below)
    })?;
    let strings = bytes.get(start..start.checked_add(value(DT_STRSZ)?)?)?;
    let versions = strings.split(|&byte| byte == 0).filter_map(|name| {
        let version = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let mut parts = version.split('.').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    });
    versions.max()
}

/// The type of a segment; 0, which is none, behind the end.
fn elf_type(bytes: &[u8], segment: usize) -> u32 {
    Elf(bytes).u32(segment).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// This test program, which has debug information.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn a_stripped_program_runs_is_smaller_and_keeps_its_symbols() {
        let whole = own();
        let small = stripped(whole.clone(), Keep::Symbols);
        assert!(small.len() <= whole.len(), "{}", small.len());
        assert_eq!(stripped(small.clone(), Keep::Symbols), small);
        let smallest = stripped(whole.clone(), Keep::Nothing);
        assert!(smallest.len() < small.len(), "{}", smallest.len());
        assert_eq!(glibc(&small), glibc(&whole));
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("x");
        std::fs::write(&program, &smallest).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let said = Command::new(&program)
            .args(["--list", "elf"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("elf::tests::"), "{said}");
        let elf = Elf(&small);
        let sections = elf.table(SHOFF, SHENTSIZE, SHNUM).unwrap();
        let names = elf
            .offset(sections[elf.u16(SHSTRNDX).unwrap()] + SH_OFFSET)
            .unwrap();
        let name = |s: &usize| elf.name(names + elf.u32(*s).unwrap() as usize).unwrap();
        let symbols = sections.iter().find(|s| name(s) == b".symtab").unwrap();
        let range = elf.range(symbols + SH_OFFSET, symbols + SH_SIZE).unwrap();
        assert!(range.len() > 1000);
        assert!(!sections.iter().any(|s| name(s).starts_with(b".debug_info")));
        assert_eq!(end(&small[..HEADER]), Some(small.len() as u64));
    }

    #[test]
    fn a_program_tells_its_c_library() {
        let (major, minor) = glibc(&own()).unwrap();
        assert_eq!(major, 2);
        assert!((17..100).contains(&minor), "{minor}");
        assert_eq!(glibc(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn what_is_no_program_stays_as_it_is() {
        for other in [
            &b""[..],
            b"#!/bin/sh\necho\n",
            b"\x7fELF\x02\x01",
            b"\x7fELF\x01\x01",
        ] {
            assert_eq!(stripped(other.to_vec(), Keep::Nothing), other);
        }
    }

    proptest! {
        #[test]
        fn damaged_headers_do_no_harm(at in 0usize..0x40, with: u8, tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.resize(0x40, 0);
            bytes[PHENTSIZE] = 56;
            bytes[SHENTSIZE] = 64;
            bytes[PHOFF] = 0x40;
            bytes[SHOFF] = 0x40;
            bytes[PHNUM] = 2;
            bytes[SHNUM] = 3;
            bytes[at] = with;
            bytes.extend(tail);
            let _ = glibc(&bytes);
            let _ = stripped(bytes, Keep::Symbols);
        }
    }
}
