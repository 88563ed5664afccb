//! The build id that a linker notes in a program (`.note.gnu.build-id`): it tells two builds
//! of the same version apart, and finds the debug symbols of one.

use std::fs::File;
use std::path::Path;

use object::Object as _;
use object::read::ReadCache;

/// The build id of the program `file`, in hexadecimal; `None` where it has none, as scripts,
/// or cannot be read. Only the parts that lead to the note are read.
#[must_use]
pub fn build_id(file: &Path) -> Option<String> {
    let cache = ReadCache::new(File::open(file).ok()?);
    let elf = object::File::parse(&cache).ok()?;
    let id = elf.build_id().ok()??;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit ELF file with one section of notes, of this name and description.
    fn elf(name: &[u8; 4], description: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let note_len = 16 + description.len() as u64;
        // Type, machine, version, entry, program headers (none), section headers behind the
        // note, flags, sizes and counts.
        file.extend(3u16.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend((64 + note_len).to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 0, 0, 64, 3, 2] {
            file.extend(half.to_le_bytes());
        }
        for word in [4, u32::try_from(description.len()).unwrap(), 3] {
            file.extend(word.to_le_bytes());
        }
        file.extend(name);
        file.extend(description);
        file.extend([0; 64]);
        // SHT_NOTE and SHT_STRTAB (empty), at 64, so many bytes, aligned to 4.
        for (kind, len) in [(7u32, note_len), (3, 0)] {
            file.extend(0u32.to_le_bytes());
            file.extend(kind.to_le_bytes());
            for long in [0u64, 0, 64, len, 0, 4, 0] {
                file.extend(long.to_le_bytes());
            }
        }
        file
    }

    fn of(bytes: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        build_id(file.path())
    }

    #[test]
    fn the_note_is_read() {
        let whole = elf(b"GNU\0", &[0x5f, 0, 0xe1, 0x10]);
        assert_eq!(of(&whole).as_deref(), Some("5f00e110"));
        assert_eq!(of(&elf(b"ABC\0", &[1, 2, 3, 4])), None);
    }

    #[test]
    fn what_is_no_program_has_none() {
        assert_eq!(of(b"#!/bin/sh\nexec qemu-img \"$@\"\n"), None);
        assert_eq!(of(b""), None);
        assert_eq!(build_id(Path::new("/nowhere/qemu-img")), None);
        let whole = elf(b"GNU\0", &[0x5f, 0, 0xe1, 0x10]);
        for len in 0..whole.len() {
            assert_eq!(of(&whole[..len]), None, "{len}");
        }
    }
}
