//! The text of a descriptor: lines of keys and values, extents, and comments.

use crate::field::{Place, TextEnd};
use crate::io::ReadAt as _;
use crate::store::Store;

/// The longest text that is read, in bytes.
const LONGEST_TEXT: u64 = 1 << 20;
/// The most lines that are read.
const MOST_LINES: usize = 4096;

/// The keys of the header.
pub(super) const KEYS: [&str; 8] = [
    "version",
    "encoding",
    "CID",
    "parentCID",
    "isNativeSnapshot",
    "createType",
    "parentFileNameHint",
    "changeTrackPath",
];

/// The value of `parentCID` where there is no parent.
pub(super) const NO_PARENT: u64 = 0xffff_ffff;

/// Whether a file that begins with these bytes is a descriptor: its first lines, but for blank
/// ones and comments, are the signature or the version.
pub(super) fn probe(head: &[u8]) -> bool {
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.eq_ignore_ascii_case(b"# Disk DescriptorFile") {
            return true;
        }
        if !line.is_empty() && !line.starts_with(b"#") {
            return matches!(line, b"version=1" | b"version=2" | b"version=3");
        }
    }
    false
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    at: usize,
    len: usize,
    /// Whether it stands between double quotes, which are not part of it.
    quoted: bool,
}

/// A line with a key and a value.
#[derive(Clone, Debug)]
struct Entry {
    key: Span,
    value: Span,
    line: Span,
}

/// A line that describes an extent. What is missing from the line is `None`.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// The whole line.
    pub(super) line: Span,
    /// `RW`, `RDONLY` or `NOACCESS`.
    pub(super) access: Span,
    /// Sectors.
    pub(super) size: Option<Span>,
    /// How it is stored.
    pub(super) kind: Option<Span>,
    /// The file, or the device.
    pub(super) name: Option<Span>,
    /// The sector in the file where it begins.
    pub(super) offset: Option<Span>,
    /// What else is on the line: the UUID of a partition, and the identifier of a device.
    pub(super) rest: Vec<Span>,
}

/// A parsed descriptor. Whatever the bytes are, there is one.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    /// Byte offset of the text in the file.
    at: u64,
    /// Bytes that the text has room for.
    room: u64,
    text: Vec<u8>,
    /// Whether something other than zeros follows the zero byte that ends the text.
    pub(super) goes_on: bool,
    entries: Vec<Entry>,
    /// The extents, in the order of the disk.
    pub(super) extents: Vec<Extent>,
    comments: Vec<Span>,
    /// Lines that are nothing of this.
    pub(super) others: Vec<Span>,
}

impl Descriptor {
    /// Reads the text in the `room` bytes from byte `at` on.
    pub(super) fn read(source: &Store, at: u64, room: u64) -> Self {
        let room = room.min(LONGEST_TEXT).min(source.len().saturating_sub(at));
        let mut text = source.read_vec(at, usize::try_from(room).unwrap_or(0));
        let end = text.iter().position(|byte| *byte == 0);
        let end = end.unwrap_or(text.len());
        let goes_on = text.drain(end..).any(|byte| byte != 0);
        let mut descriptor = Self {
            at,
            room,
            text,
            goes_on,
            entries: Vec::new(),
            extents: Vec::new(),
            comments: Vec::new(),
            others: Vec::new(),
        };
        descriptor.parse();
        descriptor
    }

    fn parse(&mut self) {
        let text = std::mem::take(&mut self.text);
        let mut at = 0;
        for line in text.split(|byte| *byte == b'\n').take(MOST_LINES) {
            let span = trimmed(&text, at, at + line.len());
            self.line(&text, span);
            at += line.len() + 1;
        }
        self.text = text;
    }

    fn line(&mut self, text: &[u8], line: Span) {
        let bytes = &text[line.at..line.at + line.len];
        if bytes.is_empty() {
            return;
        }
        if bytes.starts_with(b"#") {
            return self.comments.push(line);
        }
        if let Some(extent) = extent(text, line) {
            return self.extents.push(extent);
        }
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(equals) => {
                let (start, end) = (line.at, line.at + line.len);
                self.entries.push(Entry {
                    key: trimmed(text, start, start + equals),
                    value: quoted(text, trimmed(text, start + equals + 1, end)),
                    line,
                });
            }
            None => self.others.push(line),
        }
    }

    /// Whether there is nothing at all.
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim_ascii().is_empty() && !self.goes_on
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        &self.text[span.at..span.at + span.len]
    }

    /// Byte offset of a piece in the file.
    pub(super) fn offset(&self, span: Span) -> u64 {
        self.at + span.at as u64
    }

    /// The place of a piece in the file.
    pub(super) fn place(&self, span: Span) -> Place {
        let (end, more) = match span.quoted {
            true => (TextEnd::Quote, 1),
            false => (TextEnd::Space, 0),
        };
        Place::Text {
            offset: self.offset(span),
            len: span.len as u64 + more,
            end,
        }
    }

    /// The place of the whole text.
    pub(super) fn whole(&self) -> Place {
        Place::Text {
            offset: self.at,
            len: self.room,
            end: TextEnd::Zero,
        }
    }

    /// The value of a key, in any case of letters: the first one.
    pub(super) fn value(&self, key: &str) -> Option<Span> {
        let is_key = |entry: &&Entry| self.bytes(entry.key).eq_ignore_ascii_case(key.as_bytes());
        self.entries.iter().find(is_key).map(|entry| entry.value)
    }

    /// The bytes of the value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.value(key).map(|span| self.bytes(span))
    }

    /// The content identifier that a key holds.
    pub(super) fn content_id(&self, key: &str) -> Option<u64> {
        let digits = std::str::from_utf8(self.get(key)?).ok()?;
        let valid = (1..=8).contains(&digits.len()) && !digits.starts_with('+');
        u64::from_str_radix(digits, 16).ok().filter(|_| valid)
    }

    /// A decimal number.
    pub(super) fn number(&self, span: Option<Span>) -> Option<u64> {
        let digits = self.bytes(span?);
        let valid = digits.iter().all(u8::is_ascii_digit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| valid)?;
        digits.parse().ok()
    }

    /// The name of the parent, where the image has one.
    pub(super) fn parent(&self) -> Option<&[u8]> {
        self.get("parentFileNameHint")
            .filter(|name| !name.is_empty())
    }

    /// The words and lines of the text, with the paths of their fields, the rules they should
    /// obey, and their places.
    pub(super) fn fields(&self) -> Vec<(String, &'static str, Place)> {
        let mut all = vec![("text".to_owned(), "lines of text", self.whole())];
        let mut others = self.others.clone();
        let mut known = Vec::new();
        for entry in &self.entries {
            match self.path(entry.key).filter(|path| !known.contains(path)) {
                Some(path) => {
                    known.push(path.clone());
                    all.push((path.clone(), rule(&path), self.place(entry.value)));
                }
                None => others.push(entry.line),
            }
        }
        for (index, extent) in self.extents.iter().enumerate() {
            let whole = format!("extent[{index}]");
            let words = [
                ("access", Some(extent.access), "RW, RDONLY or NOACCESS"),
                ("size", extent.size, "in sectors, at least 1"),
                ("type", extent.kind, "such as FLAT, SPARSE or VMFS"),
                ("file_name", extent.name, "a file beside the descriptor"),
                ("offset", extent.offset, "in sectors, of flat extents"),
                ("partition_uuid", extent.rest.first().copied(), ""),
                ("device", extent.rest.get(1).copied(), ""),
            ];
            all.push((whole.clone(), "", self.place(extent.line)));
            for (name, span, rule) in words {
                let place = span.map(|span| (format!("{whole}.{name}"), rule, self.place(span)));
                all.extend(place);
            }
        }
        for (name, spans) in [("comment", &self.comments), ("other", &others)] {
            let spans = spans.iter().enumerate();
            all.extend(spans.map(|(i, span)| (format!("{name}[{i}]"), "", self.place(*span))));
        }
        all.retain(|(.., place)| place.width_bits() > 0);
        all
    }

    /// The path of the value of a key, unless the key is unknown.
    fn path(&self, key: Span) -> Option<String> {
        let key = std::str::from_utf8(self.bytes(key)).ok()?;
        if let Some(known) = KEYS.iter().find(|known| known.eq_ignore_ascii_case(key)) {
            return Some((*known).to_owned());
        }
        let word = |word: &str| {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !word.is_empty() && word.bytes().all(valid)
        };
        (key.starts_with("ddb.") && key.split('.').all(word)).then(|| key.to_owned())
    }
}

/// The rule of the value at a path.
fn rule(path: &str) -> &'static str {
    match path {
        "version" => "1 to 3",
        "CID" => "up to 8 hexadecimal digits",
        "parentCID" => "the CID of the parent, or ffffffff",
        "createType" => "such as monolithicSparse",
        "parentFileNameHint" => "the parent, where there is one",
        _ => "",
    }
}

/// The text from `start` to `end` without white space around it.
fn trimmed(text: &[u8], start: usize, end: usize) -> Span {
    let piece = &text[start..end];
    let before = piece.len() - piece.trim_ascii_start().len();
    Span {
        at: start + before,
        len: piece.trim_ascii().len(),
        quoted: false,
    }
}

/// What is between the quotes that a piece begins with, or all of it without quotes.
fn quoted(text: &[u8], span: Span) -> Span {
    let bytes = &text[span.at..span.at + span.len];
    let inner = bytes.strip_prefix(b"\"");
    let end = inner.and_then(|inner| inner.iter().position(|byte| *byte == b'"'));
    match end {
        Some(len) => Span {
            at: span.at + 1,
            len,
            quoted: true,
        },
        None => span,
    }
}

/// The extent that a line describes, if it begins with an access.
fn extent(text: &[u8], line: Span) -> Option<Extent> {
    let mut words = Words { text, rest: line };
    let access = words.next().filter(|access| {
        let access = &text[access.at..access.at + access.len];
        let known = [&b"RW"[..], b"RDONLY", b"NOACCESS"];
        known.iter().any(|known| access.eq_ignore_ascii_case(known))
    })?;
    let (size, kind) = (words.next(), words.next());
    let name = words.next().filter(|name| name.quoted);
    Some(Extent {
        line,
        access,
        size,
        kind,
        name,
        offset: words.next(),
        rest: words.take(2).collect(),
    })
}

/// The words of a line, some of them between quotes.
struct Words<'a> {
    text: &'a [u8],
    rest: Span,
}

impl Iterator for Words<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let end = self.rest.at + self.rest.len;
        let rest = trimmed(self.text, self.rest.at, end);
        let bytes = &self.text[rest.at..rest.at + rest.len];
        let mut word = quoted(self.text, rest);
        if !word.quoted {
            let blank = bytes.iter().position(u8::is_ascii_whitespace);
            word.len = blank.unwrap_or(bytes.len());
        }
        let from = word.at + word.len + usize::from(word.quoted);
        self.rest = trimmed(self.text, from.min(end), end);
        (word.len > 0 || word.quoted).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &[u8]) -> (Store, Descriptor) {
        let store = Store::over(Arc::new(text.to_vec()));
        let descriptor = Descriptor::read(&store, 0, text.len() as u64);
        (store, descriptor)
    }

    const TEXT: &[u8] =
        b"# Disk DescriptorFile\r\nversion=1\r\n\r\n  cid = 123\nparentCID=ffffffff\n\
        createType=\"twoGb = x\"\nRW 100 FLAT \"a b.vmdk\" 7\nRDONLY 5 SPARSE \"c\"\nrw 3 ZERO\n\
        ddb.geometry.heads = \"16\"\nddb.a-b = 1\nversion=2\nnonsense\n\0\0more";

    #[test]
    fn a_text_has_fields() {
        let (store, descriptor) = parsed(TEXT);
        let fields = descriptor.fields();
        let shown: Vec<String> = fields[1..]
            .iter()
            .map(|(path, _, place)| format!("{path}: {}", place.get(&store)))
            .collect();
        assert_eq!(
            shown,
            [
                "version: 'version'".replace("'version'", "\"1\""),
                "CID: \"123\"".into(),
                "parentCID: \"ffffffff\"".into(),
                "createType: \"twoGb = x\"".into(),
                "ddb.geometry.heads: \"16\"".into(),
                "extent[0]: \"RW 100 FLAT \\\"a b.vmdk\\\" 7\"".into(),
                "extent[0].access: \"RW\"".into(),
                "extent[0].size: \"100\"".into(),
                "extent[0].type: \"FLAT\"".into(),
                "extent[0].file_name: \"a b.vmdk\"".into(),
                "extent[0].offset: \"7\"".into(),
                "extent[1]: \"RDONLY 5 SPARSE \\\"c\\\"\"".into(),
                "extent[1].access: \"RDONLY\"".into(),
                "extent[1].size: \"5\"".into(),
                "extent[1].type: \"SPARSE\"".into(),
                "extent[1].file_name: \"c\"".into(),
                "extent[2]: \"rw 3 ZERO\"".into(),
                "extent[2].access: \"rw\"".into(),
                "extent[2].size: \"3\"".into(),
                "extent[2].type: \"ZERO\"".into(),
                "comment[0]: \"# Disk DescriptorFile\"".into(),
                "other[0]: \"nonsense\"".into(),
                "other[1]: \"ddb.a-b = 1\"".into(),
                "other[2]: \"version=2\"".to_owned(),
            ]
        );
        assert!(descriptor.goes_on);
        assert_eq!(descriptor.content_id("CID"), Some(0x123));
        assert_eq!(descriptor.number(descriptor.extents[0].size), Some(100));
        assert_eq!(descriptor.parent(), None);
    }

    #[test]
    fn descriptors_are_recognised() {
        for text in [
            "# Disk DescriptorFile\n",
            " \r\n\n# made by hand\n# disk descriptorfile\r\nversion=1",
            "# comment\nversion=3\n",
        ] {
            assert!(probe(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "\n\n",
            "# comment\nversion=4\n",
            "x\n# Disk DescriptorFile",
        ] {
            assert!(!probe(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_fields_in_their_places(
            text in "([ \"=#0-9\\n\\r]|RW|FLAT|CID|version|ddb\\.|\\PC){0,80}",
        ) {
            let (store, descriptor) = parsed(text.as_bytes());
            for (path, _, place) in descriptor.fields() {
                prop_assert!(place.offset() + place.width_bits() / 8 <= text.len() as u64);
                // What a place holds fits into it, and changes nothing there.
                let mut again = store.clone();
                place.set(&mut again, &place.get(&store)).unwrap();
                prop_assert_eq!(again.to_vec(1000).unwrap(), text.as_bytes(), "{}", path);
            }
        }
    }
}
