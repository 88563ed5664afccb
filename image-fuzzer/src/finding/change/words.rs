//! Values as people read them.

use data_encoding::HEXLOWER;
use image_formats::qcow2::records::extension_name;
use image_formats::{Kind, Value};

/// The most bytes of a value that are shown.
const MAX_SHOWN: usize = 96;

/// A number: decimal, and hexadecimal where that says more.
pub(super) fn number(number: u64) -> String {
    if number < 1024 {
        number.to_string()
    } else {
        format!("{number:#x} ({number})")
    }
}

/// The value of a field of `kind`.
pub(super) fn value(kind: Kind, value: &Value) -> String {
    match (value, kind) {
        (Value::Bytes(bytes), _) => bytes_text(bytes),
        (Value::Uint(0), _) => "0".into(),
        (
            Value::Uint(number),
            Kind::Offset | Kind::Entry | Kind::Flags | Kind::Bitmap | Kind::Magic | Kind::Checksum,
        ) => format!("{number:#x}"),
        // The types of header extensions are the only choices this large.
        (Value::Uint(magic), Kind::Choice) if *magic > 0xffff => {
            let name = u32::try_from(*magic).map_or("unknown", extension_name);
            format!("{magic:#x} ({name})")
        }
        (Value::Uint(value), _) => number(*value),
    }
}

/// Bytes: text between quotes where they are text, else in hexadecimal; zeros at the end of
/// text are left out.
pub(super) fn bytes_text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return format!("{} zero byte{}", bytes.len(), plural(bytes.len()));
    }
    if let Some(text) = text(bytes) {
        let more = if bytes.len() > MAX_SHOWN { "…" } else { "" };
        return format!("'{text}{more}'");
    }
    let shown = HEXLOWER.encode(&bytes[..bytes.len().min(MAX_SHOWN / 4)]);
    let more = if bytes.len() > MAX_SHOWN / 4 {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    format!("hex {shown}{more}")
}

/// Bytes as text, where they are; a single character is more likely a number.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let text = &bytes[..end];
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let is_text = text.len() > 1 && text.iter().all(printable);
    let shown = &text[..text.len().min(MAX_SHOWN)];
    is_text.then(|| String::from_utf8_lossy(shown).into_owned())
}

/// The end of a noun that stands behind a number.
pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// What bytes hold, and what they held, to go on after their name.
pub(super) fn says(is: &[u8], was: &[u8]) -> String {
    match (text(is), text(was)) {
        (Some(_), Some(_)) => format!(
            "says {}; the valid image says {}",
            bytes_text(is),
            bytes_text(was)
        ),
        (Some(_), None) => format!(
            "says {}; the valid image has {} there",
            bytes_text(is),
            bytes_text(was)
        ),
        _ => format!("is {}", says_all(is, was)),
    }
}

/// What bytes are, and what they were.
pub(super) fn says_all(is: &[u8], was: &[u8]) -> String {
    let [is, was] = [is, was].map(bytes_text);
    format!("{is}, where the valid image has {was}")
}
