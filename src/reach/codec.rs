//! How numbers and texts are stored, and files of them.

use std::io::{self, Read};
use std::path::Path;

/// How hard files are compressed.
const LEVEL: i32 = 6;

/// The most bytes that a file may have when it is unpacked.
const MOST: u64 = 1 << 30;

/// Bytes that numbers and texts are added to.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Adds a number: seven bits a byte, the lowest first.
    pub(super) fn number(&mut self, number: u64) {
        let mut rest = number;
        loop {
            let low = (rest & 0x7f) as u8;
            rest >>= 7;
            if rest == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    /// Adds eight bytes, for numbers that are as good as random.
    pub(super) fn word(&mut self, word: u64) {
        self.0.extend(word.to_le_bytes());
    }

    /// Adds a text, its length first.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    /// Adds numbers in ascending order, each as its distance from the one before.
    pub(super) fn ascending(&mut self, numbers: &[u32]) {
        self.number(numbers.len() as u64);
        let mut before = 0;
        for &number in numbers {
            self.number(u64::from(number.wrapping_sub(before)));
            before = number;
        }
    }

    /// Writes a file that begins with this line. It is replaced as a whole.
    pub(super) fn save(&self, path: &Path, first_line: &str) -> io::Result<()> {
        let packed = zstd::encode_all(&*self.0, LEVEL)?;
        atomic_write::write(path, |out| {
            out.write_all(first_line.as_bytes())?;
            out.write_all(b"\n")?;
            out.write_all(&packed)
        })
    }
}

/// Reads what a [`Writer`] has written; `None` where that is not what is there.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low {
                return None;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(super) fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    /// How many things of at least one byte each follow.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    pub(super) fn ascending(&mut self) -> Option<Vec<u32>> {
        let count = self.count()?;
        let mut before = 0_u32;
        let mut numbers = Vec::with_capacity(count);
        for _ in 0..count {
            before = before.checked_add(self.small()?)?;
            numbers.push(before);
        }
        Some(numbers)
    }

    /// Whether everything was read.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

/// Unpacks the file at `path`, which must begin with this line.
pub(super) fn unpacked(path: &Path, first_line: &str) -> io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let packed = bytes
        .strip_prefix(first_line.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::new(packed)?;
    decoder.take(MOST).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            numbers in prop::collection::vec(any::<u64>(), 0..20),
            mut ascending in prop::collection::vec(any::<u32>(), 0..50),
            text in ".{0,20}",
        ) {
            ascending.sort_unstable();
            let mut writer = Writer::default();
            for number in &numbers {
                writer.number(*number);
                writer.word(*number);
            }
            writer.ascending(&ascending);
            writer.text(&text);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            writer.save(&path, "kind 1").unwrap();
            prop_assert!(unpacked(&path, "kind 2").is_err());
            let bytes = unpacked(&path, "kind 1").unwrap();
            let mut reader = Reader::new(&bytes);
            for number in numbers {
                prop_assert_eq!(reader.number(), Some(number));
                prop_assert_eq!(reader.word(), Some(number));
            }
            prop_assert_eq!(reader.ascending(), Some(ascending));
            prop_assert_eq!(reader.text(), Some(text));
            prop_assert!(reader.is_done());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            let _ = (reader.ascending(), reader.text(), reader.number(), reader.word());
        }
    }
}
