//! `image-fuzzer set`: changes one field of an image, in place.

use crate::image_file;
use anyhow::{Context, Result, ensure};
use image_formats::{Field, Place, ReadAt, Value, read_padded};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What to set.
#[derive(Clone, Debug, clap::Args)]
pub struct SetArgs {
    /// The image
    image: PathBuf,
    /// The field, as image-fuzzer show names it
    path: String,
    /// A number (12, 0x1f, -1), text, or bytes (hex:00ff)
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The image's format; probed when not named
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

/// Changes the bytes of one field and no others, with one write, and says what it did.
///
/// # Errors
/// When the image cannot be read or written, has no such field, or the field cannot
/// hold the value. Nothing is changed then.
pub fn run(args: &SetArgs) -> Result<()> {
    let name = args.image.display();
    let mut image = image_file::open(&args.image, args.format.as_deref())?;
    let image_len = image.bytes().len();
    let before = image.field(&args.path)?;
    let value = value_for(&before, &args.value)?;
    image.set(&args.path, value)?;
    let after = image.field(&args.path)?;
    let (offset, len) = bytes_of(&after.place);
    let end = offset
        .checked_add(len)
        .context("the field ends behind the last offset there is")?;
    ensure!(
        end <= image_len,
        "{} lies behind the end of '{name}', at {offset:#x}",
        args.path
    );
    let mut bytes = vec![0; usize::try_from(len).context("the field is too long")?];
    read_padded(image.bytes(), offset, &mut bytes);
    let file = OpenOptions::new().write(true).open(&args.image);
    let file = file.with_context(|| format!("failed to open '{name}' for writing"))?;
    file.write_all_at(&bytes, offset)
        .and_then(|()| file.sync_data())
        .with_context(|| format!("failed to write to '{name}'"))?;
    anstream::println!("{}: {} -> {}", after.path, before.value, after.value);
    Ok(())
}

/// Reads the value as the field needs it: digits are text in a text field, and a
/// negative number has the width of its field.
fn value_for(field: &Field, text: &str) -> Result<Value> {
    let value: Value = text.parse()?;
    Ok(match (field.place, value) {
        (Place::Bytes { .. }, Value::Uint(_)) => Value::Bytes(text.as_bytes().to_vec()),
        (place @ Place::Bits { .. }, Value::Uint(number)) if text.starts_with('-') => {
            Value::Uint(number & place.mask())
        }
        (_, value) => value,
    })
}

/// The bytes of the file that a field lies in.
fn bytes_of(place: &Place) -> (u64, u64) {
    match *place {
        Place::Bits { offset, bytes, .. } => (offset, bytes.into()),
        Place::Bytes { offset, len } => (offset, len),
    }
}
