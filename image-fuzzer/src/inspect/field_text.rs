//! Values of fields as text.

use image_formats::qcow2::records::extension_name;
use image_formats::{Field, Kind, Value};

/// The value of `field`: offsets and sets of bits in hexadecimal, other numbers in decimal.
pub(super) fn field_text(field: &Field) -> String {
    match (&field.value, field.kind) {
        (
            Value::Uint(number),
            Kind::Offset
            | Kind::Entry
            | Kind::Flags
            | Kind::Bitmap
            | Kind::Magic
            | Kind::Checksum
            | Kind::Reserved,
        ) => format!("{number:#x}"),
        (Value::Uint(number), Kind::Choice) if *number > 0xffff => {
            // The types of header extensions are the only choices this large.
            let name = u32::try_from(*number).map_or("unknown", extension_name);
            format!("{number:#010x} ({name})")
        }
        (value, _) => value.to_string(),
    }
}
