//! The property list: XML, as far as a property list needs it, with the place of each text.

use std::ops::Range;

/// An element of a property list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// Its name: `dict`, `array`, `key`, `string`, `data`, `integer`, ...
    pub(super) name: String,
    /// What is between its tags, as bytes of the text.
    pub(super) inner: Range<usize>,
    /// The elements within it.
    pub(super) children: Vec<Element>,
}

/// What is wrong with a text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XmlError {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// The deepest nesting.
const DEEPEST: usize = 32;
/// The most elements.
const MOST_ELEMENTS: usize = 1 << 16;

/// Reads a property list: the element `plist` with one element in it, which is returned.
///
/// # Errors
///
/// The text is not XML with that element, is nested too deeply, or has too many elements.
pub(super) fn parse(text: &[u8]) -> Result<Element, XmlError> {
    let mut parser = Parser {
        text,
        at: 0,
        elements: 0,
    };
    let root = parser.element(0)?;
    let missing = XmlError {
        at: 0,
        what: "there is no element 'plist' with one in it",
    };
    let root = root.filter(|root| root.name == "plist").ok_or(missing)?;
    root.children.into_iter().next().ok_or(missing)
}

impl Element {
    /// The value of a key of a dictionary.
    pub(super) fn get(&self, text: &[u8], key: &str) -> Option<&Element> {
        let mut children = self.children.iter().filter(|_| self.name == "dict");
        while let Some(found) = children.next() {
            let value = children.next()?;
            if found.name == "key" && text.get(found.inner.clone()) == Some(key.as_bytes()) {
                return Some(value);
            }
        }
        None
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    elements: usize,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> XmlError {
        XmlError { at: self.at, what }
    }

    /// Moves behind the next `mark`; `None` where there is none.
    fn skip_past(&mut self, mark: &[u8]) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let found = rest.windows(mark.len()).position(|part| part == mark)?;
        self.at += found + mark.len();
        Some(())
    }

    fn starts_with(&self, mark: &[u8]) -> bool {
        self.text[self.at..].starts_with(mark)
    }

    /// The next element; `None` before an end tag and at the end of the text.
    fn element(&mut self, depth: usize) -> Result<Option<Element>, XmlError> {
        loop {
            let rest = &self.text[self.at..];
            let Some(text) = rest.iter().position(|byte| *byte == b'<') else {
                self.at = self.text.len();
                return Ok(None);
            };
            self.at += text;
            let skipped = if self.starts_with(b"<!--") {
                self.skip_past(b"-->")
            } else if self.starts_with(b"<?") || self.starts_with(b"<!") {
                self.skip_past(b">")
            } else if self.starts_with(b"</") {
                return Ok(None);
            } else {
                break;
            };
            skipped.ok_or(self.error("a comment or declaration does not end"))?;
        }
        self.tag(depth).map(Some)
    }

    /// An element at whose start tag the parser is.
    fn tag(&mut self, depth: usize) -> Result<Element, XmlError> {
        self.elements += 1;
        if depth > DEEPEST || self.elements > MOST_ELEMENTS {
            return Err(self.error("too many elements, or nested too deeply"));
        }
        let start = self.at + 1;
        self.skip_past(b">")
            .ok_or(self.error("a tag does not end"))?;
        let tag = &self.text[start..self.at - 1];
        let closed = tag.last() == Some(&b'/');
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric();
        let len = tag.iter().take_while(|byte| is_name(byte)).count();
        let name = String::from_utf8_lossy(&tag[..len]).into_owned();
        if name.is_empty() {
            return Err(self.error("a tag without a name"));
        }
        let mut element = Element {
            name,
            inner: self.at..self.at,
            children: Vec::new(),
        };
        if closed {
            return Ok(element);
        }
        while let Some(child) = self.element(depth + 1)? {
            element.children.push(child);
        }
        element.inner.end = self.at;
        let end = format!("</{}", element.name);
        if !self.starts_with(end.as_bytes()) {
            return Err(self.error("an element does not end"));
        }
        self.skip_past(b">")
            .ok_or(self.error("a tag does not end"))?;
        Ok(element)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_have_their_places() {
        let text = br#"<?xml version="1.0"?><!DOCTYPE plist><!-- <x> -->
            <plist version="1.0"><dict><key>a</key><array><data> AA </data><true/></array>
            <key>b</key><string>two</string></dict></plist>"#;
        let root = parse(text).unwrap();
        let array = root.get(text, "a").unwrap();
        assert_eq!(&text[array.children[0].inner.clone()], b" AA ");
        assert_eq!(array.children[1].name, "true");
        let string = root.get(text, "b").unwrap();
        assert_eq!(&text[string.inner.clone()], b"two");
        assert_eq!(root.get(text, "two"), None);
    }

    #[test]
    fn what_is_no_property_list_is_refused() {
        for text in [
            "",
            "x",
            "<plist>",
            "<plist/>",
            "<plist></plist>",
            "<dict></dict>",
            "<plist><a></b></plist>",
            "<!-- ",
            "<plist",
            "<>",
            "<plist><dict></plist>",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("<a>".repeat(50_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[<>/!?a-c\\- ]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
