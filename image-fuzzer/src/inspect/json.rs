//! The structure of an image as JSON.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use data_encoding::HEXLOWER;
use image_formats::{AnyImage, Defect, Field, ReadAt as _, Value};
use serde_json::json;

use super::field_text::field_text;

/// Writes one JSON object with `defects` and `fields`, a field on each line.
pub(super) fn write(
    path: &Path,
    image: &AnyImage,
    defects: &[Defect],
    fields: impl Iterator<Item = Field>,
    out: &mut dyn Write,
) -> Result<()> {
    // Field by field, since there may be millions.
    let head = json!({
        "image": path.display().to_string(),
        "format": image.format(),
        "length": image.bytes().len(),
        "defects": defects,
    });
    let head = head.to_string();
    write!(out, "{},\"fields\":[", head.trim_end_matches('}'))?;
    for (index, field) in fields.enumerate() {
        let value = match &field.value {
            Value::Uint(number) => json!(number),
            Value::Bytes(bytes) => json!(format!("hex:{}", HEXLOWER.encode(bytes))),
        };
        let object = json!({
            "path": field.path,
            "kind": field.kind,
            "offset": field.offset,
            "width_bits": field.width_bits,
            "value": value,
            "text": field_text(&field),
            "rule": field.rule,
            "section": field.section,
        });
        let comma = if index == 0 { "\n" } else { ",\n" };
        write!(out, "{comma}{object}")?;
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}
