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
        (Value::Uint(number), Kind::Choice) if *number > 0x7fff => {
            format!("{number:#010x} ({})", choice_name(&field.path, *number))
        }
        (value, _) => value.to_string(),
    }
}

/// What a large number stands for: the state of a key slot of LUKS, or the type of a header
/// extension of qcow2.
fn choice_name(path: &str, number: u64) -> &'static str {
    match number {
        0x00ac_71f3 if path.ends_with(".active") => "in use",
        0x0000_dead if path.ends_with(".active") => "not in use",
        _ => u32::try_from(number).map_or("unknown", extension_name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image_formats::{AnyImage, AnySpec, Format, luks};

    use super::*;

    /// The state of a key slot was shown as that of an unknown header extension.
    #[test]
    fn key_slots_are_in_use_or_not() {
        let spec = AnySpec::Luks(luks::Spec::default());
        let bytes = spec.build("i").unwrap().swap_remove(0).bytes;
        let image = AnyImage::open(Arc::new(bytes), Format::Luks).unwrap();
        let shown = |path: &str| field_text(&image.field(path).unwrap());
        assert_eq!(shown("key_slot[0].active"), "0x00ac71f3 (in use)");
        assert_eq!(shown("key_slot[1].active"), "0x0000dead (not in use)");
    }
}
