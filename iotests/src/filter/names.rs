//! Names of directories, images and programs, replaced.

use bstr::ByteSlice;

/// Replaces each real text of `pairs` (in their order at every place) by its
/// replacement, but not where it is a part of another name: `/tmp/a` is not in `/tmp/ab`, nor
/// in `/x/tmp/a`.
#[must_use]
pub fn replace(text: &[u8], pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    'text: while let Some(&first) = text.get(at) {
        let (before, rest) = text.split_at(at);
        for (real, shown) in pairs {
            let inside = continues(rest.get(real.len()..).unwrap_or_default())
                || first == b'/' && is_path(before);
            if rest.starts_with(real) && !inside {
                out.extend_from_slice(shown);
                at += real.len();
                continue 'text;
            }
        }
        out.push(first);
        at += 1;
    }
    out
}

/// Whether a path goes on behind `before`. A digit may be the port in a URL.
fn is_path(before: &[u8]) -> bool {
    before
        .last()
        .is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.'))
}

fn continues(rest: &[u8]) -> bool {
    rest.first()
        .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Replaces a `json:{...}` file name of one of the images in `pairs` by that
/// image's replacement: how QEMU names an image depends on its options.
#[must_use]
pub fn json_names(text: &[u8], pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(b"json:{") {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let body = &rest[b"json:".len()..];
        let mut values = serde_json::Deserializer::from_slice(body).into_iter();
        let parsed: Option<serde_json::Value> = values.next().and_then(Result::ok);
        let shown = parsed.as_ref().and_then(file_of).and_then(|file| {
            pairs
                .iter()
                .find(|(real, _)| real == file.as_bytes())
                .map(|(_, shown)| shown)
        });
        let skip = if let Some(shown) = shown {
            out.extend_from_slice(shown);
            b"json:".len() + values.byte_offset()
        } else {
            out.extend_from_slice(b"json:{");
            b"json:{".len()
        };
        rest = &rest[skip..];
    }
    out.extend_from_slice(rest);
    out
}

/// The file or socket at the bottom of a block node's description.
fn file_of(node: &serde_json::Value) -> Option<&str> {
    let named = [
        node.get("filename"),
        node.get("file.filename"),
        node.get("path")
            .filter(|_| node.get("driver").is_some_and(|d| d == "nbd" || d == "ssh")),
        node.get("server.path"),
        node.pointer("/server/path"),
        node.get("file.server.path"),
    ];
    named
        .into_iter()
        .flatten()
        .find_map(|v| v.as_str())
        .or_else(|| node.get("file").and_then(file_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_within_a_path_is_left() {
        let pairs = [(b"/t".to_vec(), b"TEST_DIR".to_vec())];
        let text = b"/t/x /a/t file:/t ssh://h:22/t ./t";
        assert_eq!(
            replace(text, &pairs),
            b"TEST_DIR/x /a/t file:TEST_DIR ssh://h:22TEST_DIR ./t"
        );
    }

    #[test]
    fn a_json_name_becomes_its_image() {
        let pairs = [(b"/d/t.luks".to_vec(), b"TEST_DIR/t.IMGFMT".to_vec())];
        let text = br#"image: json:{"driver": "luks", "key-secret": "sec0", "file": {"driver": "file", "filename": "/d/t.luks"}} is"#;
        assert_eq!(json_names(text, &pairs), b"image: TEST_DIR/t.IMGFMT is");
    }

    #[test]
    fn other_json_names_stay() {
        let pairs = [(b"/d/t.luks".to_vec(), b"T".to_vec())];
        for text in [
            &b"json:{\"driver\": \"null-co\"}"[..],
            b"json:{",
            b"json:{\"filename\": 3}",
        ] {
            assert_eq!(json_names(text, &pairs), text);
        }
    }
}
