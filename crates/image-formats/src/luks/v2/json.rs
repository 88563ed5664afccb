//! JSON with the place of each value.

/// A value, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Json {
    /// Offset of its first byte in the text.
    pub(super) at: usize,
    /// Bytes of text, with the quotes of a string.
    pub(super) len: usize,
    pub(super) node: Node,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool,
    /// A number; `None` where it is not a whole one of up to 64 bits.
    Number(Option<u64>),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What is wrong with a text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonError {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

/// The deepest nesting.
const DEEPEST: u32 = 32;
/// The most values.
const MOST_VALUES: usize = 1 << 16;

/// Reads one value, which zero bytes may follow.
///
/// # Errors
///
/// The text is not JSON, is nested too deeply, or has too many values.
pub(super) fn parse(text: &[u8]) -> Result<Json, JsonError> {
    let len = text.iter().rposition(|byte| *byte != 0);
    let text = &text[..len.map_or(0, |last| last + 1)];
    let mut parser = Parser {
        text,
        at: 0,
        values: 0,
    };
    let value = parser.value(0)?;
    parser.blanks();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.error("text behind the object")),
    }
}

impl Json {
    /// The member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        let members = self.members();
        members
            .iter()
            .find(|(known, _)| known == name)
            .map(|m| &m.1)
    }

    /// The members of an object; none of anything else.
    pub(super) fn members(&self) -> &[(String, Json)] {
        match &self.node {
            Node::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array; none of anything else.
    pub(super) fn elements(&self) -> &[Json] {
        match &self.node {
            Node::Array(elements) => elements,
            _ => &[],
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.node {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number.
    pub(super) fn number(&self) -> Option<u64> {
        match self.node {
            Node::Number(number) => number,
            _ => None,
        }
    }

    /// A whole number in a string, as sizes and offsets of 64 bits are written.
    pub(super) fn number_in_text(&self) -> Option<u64> {
        let text = self.text()?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    values: usize,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte behind blanks, if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: u32) -> Result<Json, JsonError> {
        self.blanks();
        self.values += 1;
        if self.values > MOST_VALUES || depth > DEEPEST {
            return Err(self.error("too many values, or nested too deeply"));
        }
        let at = self.at;
        let node = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Node::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Json {
            at,
            len: self.at - at,
            node,
        })
    }

    fn object(&mut self, depth: u32) -> Result<Node, JsonError> {
        let mut members = Vec::new();
        self.at += 1;
        while !self.take(b'}') {
            if !members.is_empty() && !self.take(b',') {
                return Err(self.error("',' or '}' is missing"));
            }
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("the name of a member is missing"));
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.error("':' is missing"));
            }
            members.push((name, self.value(depth + 1)?));
        }
        Ok(Node::Object(members))
    }

    fn array(&mut self, depth: u32) -> Result<Node, JsonError> {
        let mut elements = Vec::new();
        self.at += 1;
        while !self.take(b']') {
            if !elements.is_empty() && !self.take(b',') {
                return Err(self.error("',' or ']' is missing"));
            }
            elements.push(self.value(depth + 1)?);
        }
        Ok(Node::Array(elements))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut found = Vec::new();
        loop {
            let byte = self.peek().ok_or(self.error("'\"' is missing"))?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut found)?,
                0..0x20 => return Err(self.error("a control character in a string")),
                _ => found.push(byte),
            }
        }
        String::from_utf8(found).map_err(|_| self.error("a string that is not UTF-8"))
    }

    fn escape(&mut self, found: &mut Vec<u8>) -> Result<(), JsonError> {
        let byte = self.peek().ok_or(self.error("'\"' is missing"))?;
        self.at += 1;
        found.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4);
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let code = code.ok_or(self.error("'\\u' without four digits"))?;
                self.at += 4;
                // Halves of a pair are not put together; no name or number has any.
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                found.extend(character.encode_utf8(&mut [0; 4]).bytes());
                return Ok(());
            }
            _ => return Err(self.error("an unknown escape")),
        });
        Ok(())
    }

    fn number(&mut self) -> Result<Node, JsonError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().take_while(|byte| is_part(byte)).count();
        let digits = std::str::from_utf8(&rest[..len]).unwrap_or("");
        if digits.parse::<f64>().is_err() {
            return Err(self.error("not a number"));
        }
        self.at += len;
        Ok(Node::Number(digits.parse().ok()))
    }

    fn word(&mut self) -> Result<Node, JsonError> {
        for (word, node) in [
            ("true", Node::Bool),
            ("false", Node::Bool),
            ("null", Node::Null),
        ] {
            if self.text[self.at.min(self.text.len())..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(node);
            }
        }
        Err(self.error("a value is missing"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_have_their_places() {
        let text = br#" {"a": [1, -2, "x\/\u0041\n"], "b": {"c": "12"}, "d": null}"#;
        let json = parse(text).unwrap();
        let part = |json: &Json| &text[json.at..json.at + json.len];
        let array = json.get("a").unwrap().elements();
        assert_eq!(part(&array[0]), b"1");
        assert_eq!(array[0].number(), Some(1));
        assert_eq!((part(&array[1]), array[1].number()), (&b"-2"[..], None));
        assert_eq!(array[2].text(), Some("x/A\n"));
        assert_eq!(part(&array[2]), br#""x\/\u0041\n""#);
        let number = json.get("b").unwrap().get("c").unwrap();
        assert_eq!(number.number_in_text(), Some(12));
        assert_eq!(json.get("d").unwrap().node, Node::Null);
        assert_eq!(json.members().len(), 3);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "[1 2]",
            "[1,,2]",
            "\"a",
            "\"\\x\"",
            "1-2",
            "tru",
            "{\"a\":1 \"b\":2}",
            "\"\u{1}\"",
            "\"\\u12\"",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(&[b'['; 100_000]).is_err());
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(b"{}\0\0").is_ok());
        assert!(parse(b"{}\0{\0").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&text);
        }

        #[test]
        fn near_json_never_panics(text in "[\\[\\]{}:,\"\\\\u0-9a-e.\\- ]{0,40}") {
            let _ = parse(text.as_bytes());
        }
    }
}
