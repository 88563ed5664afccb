//! What the headers of an ELF file say: where code and unwind information are.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

use crate::error::Error;

const ENDIAN: object::LittleEndian = object::LittleEndian;

/// Sections with instructions that are no functions of the program: stubs that the linker
/// makes, and what startup code is put together from.
const NOT_FUNCTIONS: [&[u8]; 4] = [b".init", b".fini", b".iplt", b".plt"];

/// A part of the file that is loaded, as far as it is in the file.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) address: u64,
    pub(crate) file_offset: u64,
    pub(crate) bytes: &'a [u8],
    executable: bool,
}

impl Load<'_> {
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.address..self.address + self.bytes.len() as u64
    }
}

/// A program whose headers were checked.
pub(crate) struct Elf<'a> {
    pub(crate) build_id: Option<&'a [u8]>,
    pub(crate) position_independent: bool,
    /// All that is loaded, with what is not in the file.
    pub(crate) image: Range<u64>,
    /// By address; they do not overlap.
    loads: Vec<Load<'a>>,
    /// The sections with functions, by address, which do not overlap; `None` where section
    /// headers are stripped.
    code: Option<Vec<Range<u64>>>,
    /// The address and the bytes of the unwind information.
    pub(crate) eh_frame: (u64, &'a [u8]),
}

impl<'a> Elf<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = file_header(bytes)?;
        let segments = header
            .program_headers(ENDIAN, bytes)
            .map_err(|_| Error::Truncated("table of program headers"))?;
        let dynamic = segments
            .iter()
            .any(|it| it.p_type(ENDIAN) == elf::PT_DYNAMIC);
        let loads = loads(segments, bytes)?;
        if loads.is_empty() {
            return Err(Error::NotLoadable);
        }
        if !dynamic {
            return Err(Error::Static);
        }
        let (code, unwind_section) = sections(header, bytes)?;
        let mut elf = Self {
            build_id: build_id(segments, bytes),
            position_independent: header.e_type(ENDIAN) == elf::ET_DYN,
            image: image(segments),
            loads,
            code,
            eh_frame: (0, &[]),
        };
        elf.eh_frame = match (&elf.code, unwind_section) {
            (Some(_), None) => return Err(Error::NoUnwindInfo),
            (_, Some(section)) => elf.section_bytes(&section)?,
            (None, None) => elf.eh_frame_by_header(segments)?,
        };
        Ok(elf)
    }

    /// The executable segments.
    pub(crate) fn executable(&self) -> impl Iterator<Item = &Load<'a>> {
        self.loads.iter().filter(|load| load.executable)
    }

    /// The bytes of a range of addresses, where all of it is code of the program's own.
    pub(crate) fn code(&self, range: &Range<u64>) -> Option<&'a [u8]> {
        if let Some(code) = &self.code {
            let before = code.partition_point(|section| section.start <= range.start);
            let section = code.get(before.checked_sub(1)?)?;
            if range.end > section.end {
                return None;
            }
        }
        let load = self.load(range.start).filter(|load| load.executable)?;
        let start = usize::try_from(range.start - load.address).ok()?;
        let end = usize::try_from(range.end - load.address).ok()?;
        load.bytes.get(start..end)
    }

    /// What is loaded at an address, to the end of its segment.
    fn at(&self, address: u64) -> Option<&'a [u8]> {
        let load = self.load(address)?;
        let offset = usize::try_from(address - load.address).ok()?;
        load.bytes.get(offset..)
    }

    fn load(&self, address: u64) -> Option<&Load<'a>> {
        let before = self.loads.partition_point(|load| load.address <= address);
        self.loads.get(before.checked_sub(1)?)
    }

    fn section_bytes(&self, addresses: &Range<u64>) -> Result<(u64, &'a [u8]), Error> {
        let bytes = self.at(addresses.start).ok_or(Error::NoUnwindInfo)?;
        let size = usize::try_from(addresses.end - addresses.start).ok();
        let bytes = size.and_then(|size| bytes.get(..size));
        let bytes = bytes.ok_or(Error::Malformed("section .eh_frame"))?;
        Ok((addresses.start, bytes))
    }

    /// The unwind information as the program itself finds it when it runs. How long it is
    /// says its last entry, which is empty.
    fn eh_frame_by_header(
        &self,
        segments: &[ProgramHeader64<object::LittleEndian>],
    ) -> Result<(u64, &'a [u8]), Error> {
        let mut segments = segments.iter();
        let header = segments
            .find(|it| it.p_type(ENDIAN) == elf::PT_GNU_EH_FRAME)
            .ok_or(Error::NoUnwindInfo)?;
        let address = header.p_vaddr(ENDIAN);
        let bytes = self.at(address).ok_or(Error::NoUnwindInfo)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(address);
        let header = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, 8);
        let Ok(Pointer::Direct(address)) = header.map(|header| header.eh_frame_ptr()) else {
            return Err(Error::Malformed(".eh_frame_hdr"));
        };
        Ok((address, self.at(address).ok_or(Error::NoUnwindInfo)?))
    }
}

fn file_header(bytes: &[u8]) -> Result<&FileHeader64<object::LittleEndian>, Error> {
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(Error::NotElf);
    }
    let wide =
        bytes.get(4) == Some(&elf::ELFCLASS64.0) && bytes.get(5) == Some(&elf::ELFDATA2LSB.0);
    if bytes.len() > 5 && !wide {
        return Err(Error::NotX86_64);
    }
    if bytes.len() < size_of::<FileHeader64<object::LittleEndian>>() {
        return Err(Error::Truncated("file header"));
    }
    let header = FileHeader64::parse(bytes).map_err(|_| Error::Malformed("file header"))?;
    if header.e_machine(ENDIAN) != elf::EM_X86_64 {
        return Err(Error::NotX86_64);
    }
    let loadable = [elf::ET_EXEC, elf::ET_DYN].contains(&header.e_type(ENDIAN));
    if !loadable || header.e_phnum(ENDIAN) == 0 {
        return Err(Error::NotLoadable);
    }
    Ok(header)
}

/// What is loaded, by address.
fn loads<'a>(
    segments: &[ProgramHeader64<object::LittleEndian>],
    bytes: &'a [u8],
) -> Result<Vec<Load<'a>>, Error> {
    let mut loads = Vec::new();
    for segment in segments {
        if segment.p_type(ENDIAN) != elf::PT_LOAD {
            continue;
        }
        let data = segment
            .data(ENDIAN, bytes)
            .map_err(|()| Error::Truncated("segment"))?;
        let address = segment.p_vaddr(ENDIAN);
        address
            .checked_add(segment.p_memsz(ENDIAN).max(data.len() as u64))
            .ok_or(Error::Malformed("table of program headers"))?;
        loads.push(Load {
            address,
            file_offset: segment.p_offset(ENDIAN),
            bytes: data,
            executable: segment.p_flags(ENDIAN).contains(elf::PF_X),
        });
    }
    loads.sort_by_key(|load| load.address);
    let overlap = loads
        .windows(2)
        .any(|pair| pair[0].addresses().end > pair[1].address);
    // One part of the file that is loaded many times would take memory out of proportion.
    let size: u128 = loads.iter().map(|load| load.bytes.len() as u128).sum();
    if overlap || size > bytes.len() as u128 {
        return Err(Error::Malformed("table of program headers"));
    }
    Ok(loads)
}

fn image(segments: &[ProgramHeader64<object::LittleEndian>]) -> Range<u64> {
    const PAGE: u64 = 4096;
    let loads = || {
        let loads = segments.iter();
        loads.filter(|it| it.p_type(ENDIAN) == elf::PT_LOAD)
    };
    let start = loads().map(|it| it.p_vaddr(ENDIAN)).min().unwrap_or(0);
    let ends = loads().map(|it| it.p_vaddr(ENDIAN).saturating_add(it.p_memsz(ENDIAN)));
    start - start % PAGE..ends.max().unwrap_or(0)
}

/// The sections with functions, where there are section headers, and `.eh_frame`.
type Sections = (Option<Vec<Range<u64>>>, Option<Range<u64>>);

fn sections(header: &FileHeader64<object::LittleEndian>, bytes: &[u8]) -> Result<Sections, Error> {
    let table = header
        .sections(ENDIAN, bytes)
        .map_err(|_| Error::Truncated("table of section headers"))?;
    if table.is_empty() {
        return Ok((None, None));
    }
    let in_file = |section: &&SectionHeader64<_>| {
        let allocated = section.sh_flags(ENDIAN).contains(elf::SHF_ALLOC);
        // A separate debug file has the headers and not the contents.
        allocated && section.sh_type(ENDIAN) != elf::SHT_NOBITS
    };
    let (mut code, mut unwind) = (Vec::new(), None);
    for section in table.iter().filter(in_file) {
        let start = section.sh_addr(ENDIAN);
        let end = start.checked_add(section.sh_size(ENDIAN));
        let range = start..end.ok_or(Error::Malformed("table of section headers"))?;
        let name = table
            .section_name(ENDIAN, section)
            .map_err(|_| Error::Malformed("table of section headers"))?;
        if name == b".eh_frame" {
            unwind = Some(range);
        } else if section.sh_flags(ENDIAN).contains(elf::SHF_EXECINSTR) && has_functions(name) {
            code.push(range);
        }
    }
    code.sort_by_key(|range| range.start);
    if code.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(Error::Malformed("table of section headers"));
    }
    Ok((Some(code), unwind))
}

fn has_functions(section: &[u8]) -> bool {
    !NOT_FUNCTIONS.contains(&section) && !section.starts_with(b".plt.")
}

fn build_id<'a>(
    segments: &[ProgramHeader64<object::LittleEndian>],
    bytes: &'a [u8],
) -> Option<&'a [u8]> {
    let notes = segments
        .iter()
        .filter_map(|segment| segment.notes(ENDIAN, bytes).ok()?);
    notes
        .flat_map(|notes| notes.map_while(Result::ok))
        .find_map(|note| {
            let is_build_id =
                note.name() == elf::ELF_NOTE_GNU && note.n_type(ENDIAN) == elf::NT_GNU_BUILD_ID;
            is_build_id.then(|| note.desc())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_of_the_linker_are_no_functions() {
        for name in [&b".plt"[..], b".plt.got", b".plt.sec", b".init", b".fini"] {
            assert!(!has_functions(name), "{name:?}");
        }
        for name in [&b".text"[..], b".text.unlikely", b".init.text"] {
            assert!(has_functions(name), "{name:?}");
        }
    }
}
