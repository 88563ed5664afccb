//! Messages between the caller, the keeper and the supervisors: numbers in native
//! byte order, bytes preceded by their length.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// Writes a message.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_ne_bytes());
        self
    }

    pub(crate) fn signed(&mut self, n: i32) -> &mut Self {
        self.number(i64::from(n).cast_unsigned())
    }

    pub(crate) fn time(&mut self, time: Duration) -> &mut Self {
        self.number(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: impl AsRef<OsStr>) -> &mut Self {
        self.bytes(text.as_ref().as_bytes())
    }

    /// A list: its length, then each element as `each` writes it.
    pub(crate) fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) -> &mut Self {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads a message. Its functions return `None` where the message is too short, which
/// one that was written here never is.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*head))
    }

    pub(crate) fn signed(&mut self) -> Option<i32> {
        i32::try_from(self.number()?.cast_signed()).ok()
    }

    pub(crate) fn time(&mut self) -> Option<Duration> {
        Some(Duration::from_micros(self.number()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn text(&mut self) -> Option<OsString> {
        Some(OsString::from_vec(self.bytes()?.to_vec()))
    }

    pub(crate) fn path(&mut self) -> Option<PathBuf> {
        self.text().map(PathBuf::from)
    }

    pub(crate) fn list<T>(&mut self, each: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = self.number()?;
        // An element takes 8 bytes at least; a longer list cannot be in there.
        if len > (self.0.len() / 8) as u64 {
            return None;
        }
        (0..len).map(|_| each(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(n: u64, s: i32, lists: Vec<Vec<u8>>) {
            let mut w = Writer::default();
            w.number(n).signed(s).list(&lists, |w, b| {
                w.bytes(b);
            });
            let message = w.done();
            let mut r = Reader(&message);
            prop_assert_eq!(r.number(), Some(n));
            prop_assert_eq!(r.signed(), Some(s));
            prop_assert_eq!(r.list(|r| r.bytes().map(<[u8]>::to_vec)), Some(lists));
            prop_assert!(r.0.is_empty());
        }

        #[test]
        fn random_bytes_are_refused(noise: Vec<u8>) {
            let mut r = Reader(&noise);
            let _ = r.list(|r| r.list(|r| r.text()));
            let mut r = Reader(&noise);
            let _ = r.bytes();
        }
    }
}
