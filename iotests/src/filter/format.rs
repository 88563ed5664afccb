//! The image format's own name, shown as `IMGFMT`.

use regex::bytes::{NoExpand, Regex};

/// Replaces `format` by `IMGFMT` wherever it is a word.
///
/// `raw` is an English word and also the format of many helper images, so it is
/// only replaced where the text marks it as a format.
#[must_use]
pub fn hide(text: &[u8], format: &str) -> Vec<u8> {
    if format.is_empty() {
        return text.to_vec();
    }
    let name = regex::escape(format);
    let places: &[String] = &if format == "raw" {
        [
            r#"(?-u)(?P<b>(?:fmt=|[Ff]ormat: |driver[ =]['"]?|"(?:driver|format|fmt)": ?"))raw\b"#
                .to_owned(),
        ]
    } else {
        [format!(r"(?-u)(?P<b>\b){name}\b")]
    };
    let mut text = text.to_vec();
    for place in places {
        // The pattern is made of fixed text and an escaped name.
        let Ok(re) = Regex::new(place) else { continue };
        text = re
            .replace_all(&text, |c: &regex::bytes::Captures<'_>| {
                [&c["b"], b"IMGFMT".as_slice()].concat()
            })
            .into_owned();
    }
    // A format in the middle of a capitalised message, such as `VMDK` or `QED`.
    let upper = format.to_ascii_uppercase();
    if upper != *format
        && let Ok(re) = Regex::new(&format!(r"(?-u)\b{}\b version", regex::escape(&upper)))
    {
        text = re
            .replace_all(&text, NoExpand(b"IMGFMT version"))
            .into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_a_word_of_its_own() {
        assert_eq!(
            hide(b"file format: qcow2, fmt=qcow2 qcow22", "qcow2"),
            b"file format: IMGFMT, fmt=IMGFMT qcow22"
        );
        assert_eq!(hide(b"qcow2 and qcow", "qcow"), b"qcow2 and IMGFMT");
    }

    #[test]
    fn raw_is_hidden_only_as_a_format() {
        assert_eq!(
            hide(
                b"raw data, fmt=raw, file format: raw \"driver\": \"raw\"",
                "raw"
            ),
            b"raw data, fmt=IMGFMT, file format: IMGFMT \"driver\": \"IMGFMT\""
        );
    }
}
