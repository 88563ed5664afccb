//! `image-fuzzer set`: changes one field of an image.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image_formats::{Field, Place, ReadAt, Store, Value};

use super::field_text::field_text;
use super::image_file;
use crate::output;

/// What to set.
#[derive(Clone, Debug, clap::Args)]
pub struct SetArgs {
    /// The image
    image: PathBuf,
    /// The field, as image-fuzzer show names it
    path: String,
    /// Number (12, 0x1f, -1), text, or bytes (hex:00ff)
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Format of the image [default: detected]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

/// Changes the bytes of one field and no others, and prints the old and the new value.
///
/// They are written in place, so that the file keeps its links, owner, attributes and
/// permissions. The image never gets longer, so this is one write of one range, which for the
/// few bytes of a field is atomic, also when interrupted. Only the contents of clusters are
/// longer than what the system writes at once.
///
/// # Errors
///
/// The image cannot be read or written, has no such field, or the field cannot hold the
/// value. Nothing is changed then.
pub fn run(args: &SetArgs) -> Result<()> {
    output::line(&change(args)?)
}

/// Changes the field; returns the line to print.
fn change(args: &SetArgs) -> Result<String> {
    let name = args.image.display();
    let mut image = image_file::open(&args.image, args.format.as_deref())?;
    let image_len = image.bytes().len();
    let failed = || image_file::field_error(&args.image);
    let before = image.field(&args.path).map_err(failed())?;
    let value = value_for(&before, &args.value)?;
    image.set(&args.path, value).map_err(failed())?;
    let after = image.field(&args.path).map_err(failed())?;
    let (offset, len) = bytes_of(&after.place);
    let end = offset
        .checked_add(len)
        .context("the field ends past the largest offset")?;
    ensure!(
        end <= image_len,
        "{} is past the end of '{name}', at {offset:#x}",
        args.path
    );
    write_in_place(&args.image, image.bytes(), offset, len)
        .with_context(|| format!("failed to write '{name}'"))?;
    let room = after.width_bits / 8;
    let given = args
        .value
        .strip_prefix("hex:")
        .map(|hex| hex.len() as u64 / 2);
    let padded = matches!(after.place, Place::Bytes { .. });
    let rest = match given.filter(|given| padded && *given < room) {
        Some(given) => format!(" (the last {} of its {room} bytes are 0)", room - given),
        None => String::new(),
    };
    let (before, now) = (field_text(&before), field_text(&after));
    Ok(format!("{}: {before} -> {now}{rest}", after.path))
}

/// Writes the bytes of one field, with one write.
fn write_in_place(path: &Path, image: &Store, offset: u64, len: u64) -> Result<()> {
    let mut bytes = vec![0; usize::try_from(len).context("the field is too long")?];
    image.read(offset, &mut bytes);
    image.check_reads()?;
    // Root could write to it all the same.
    ensure!(
        !fs::metadata(path)?.permissions().readonly(),
        "it is read-only; 'chmod u+w' makes it writable"
    );
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&bytes, offset)?;
    file.sync_data()?;
    Ok(())
}

/// Reads the value as the field takes it: digits are text in a text field, and a
/// negative number has the width of its field.
fn value_for(field: &Field, text: &str) -> Result<Value> {
    let value: Value = text.parse()?;
    Ok(match (field.place, value) {
        (place, Value::Uint(_)) if !place.is_number() => Value::Bytes(text.as_bytes().to_vec()),
        (place @ Place::Bits { .. }, Value::Uint(number)) if text.starts_with('-') => {
            let mask = place.mask();
            ensure!(
                number.wrapping_neg() <= mask,
                "cannot set {}: {text} does not fit: the field has the bits {mask:#x}",
                field.path
            );
            Value::Uint(number & mask)
        }
        (
            Place::Bits {
                bytes,
                bits,
                endian,
                ..
            },
            Value::Bytes(given),
        ) if text.starts_with("hex:") => {
            let path = &field.path;
            ensure!(
                bits == bytes * 8,
                "cannot set {path}: it has {bits} bits and is not byte-aligned; give a number"
            );
            let count = given.len();
            ensure!(
                count == usize::from(bytes),
                "cannot set {path}: it has {bytes} bytes, not {count}"
            );
            Value::Uint(endian.number(&given))
        }
        (place @ Place::Bits { .. }, Value::Bytes(_)) => bail!(
            "cannot set {}: '{text}' is not a 64-bit number; the field has the bits {:#x}",
            field.path,
            place.mask()
        ),
        (_, value) => value,
    })
}

/// The offset and length of the bytes that a field is part of.
fn bytes_of(place: &Place) -> (u64, u64) {
    (place.offset(), place.len_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn set(image: &Path, path: &str, value: &str) -> Result<()> {
        run(&SetArgs {
            image: image.to_owned(),
            path: path.into(),
            value: value.into(),
            format: None,
        })
    }

    /// A valid image in `folder`.
    fn image(folder: &Path) -> PathBuf {
        let spec = image_formats::qcow2::Spec::default();
        let built = image_formats::qcow2::build(&spec).unwrap();
        let path = folder.join("a.qcow2");
        fs::write(&path, built.image.bytes().to_vec(1 << 30).unwrap()).unwrap();
        path
    }

    /// The file was once replaced by a changed copy, which broke its links and needed a
    /// writable folder.
    #[test]
    fn a_file_stays_the_file_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let old = fs::read(&path).unwrap();
        let (link, name) = (folder.path().join("link"), folder.path().join("name"));
        std::os::unix::fs::symlink("a.qcow2", &link).unwrap();
        fs::hard_link(&path, &name).unwrap();
        let before = fs::metadata(&path).unwrap();
        set(&link, "header.nb_snapshots", "3").unwrap();
        let new = fs::read(&name).unwrap();
        assert_eq!(new[60..64], [0, 0, 0, 3]);
        assert!(new[..60] == old[..60] && new[64..] == old[64..]);
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.ino(), before.ino());
        assert_eq!((after.nlink(), after.mode() & 0o777), (2, 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    /// Offsets were once printed in decimal, and bytes refused for numbers.
    #[test]
    fn prints_values_as_show_does() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let try_set = |path: &str, value: &str| {
            let args = SetArgs {
                image: image.clone(),
                path: path.into(),
                value: value.into(),
                format: None,
            };
            change(&args).map_err(|why| why.to_string())
        };
        let line = |path: &str, value: &str| try_set(path, value).unwrap();
        let table = line("header.refcount_table_offset", "0x50000");
        assert!(
            table.starts_with("header.refcount_table_offset: 0x"),
            "{table}"
        );
        assert!(table.ends_with(" -> 0x50000"), "{table}");
        let magic = line("header.magic", "hex:514649fb");
        assert_eq!(magic, "header.magic: 0x514649fb -> 0x514649fb");
        let size = line("header.nb_snapshots", "hex:00000102");
        assert_eq!(size, "header.nb_snapshots: 0 -> 258");
        assert_eq!(fs::read(&image).unwrap()[60..64], [0, 0, 1, 2]);
        let padding = line("header.padding", "hex:0102");
        assert!(
            padding.ends_with(" (the last 5 of its 7 bytes are 0)"),
            "{padding}"
        );
        let padding = line("header.padding", "hex:01020304050607");
        assert!(!padding.contains("the last"), "{padding}");
        for (path, value, why) in [
            ("header.nb_snapshots", "hex:01", "it has 4 bytes, not 1"),
            (
                "header.incompatible_features.dirty",
                "hex:01",
                "not byte-aligned",
            ),
        ] {
            let error = try_set(path, value).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_set_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path());
        let old = fs::read(&path).unwrap();
        assert!(set(&path, "header.nb_snapshots", "0x100000000").is_err());
        for (value, why) in [
            (
                "99999999999999999999",
                "not a 64-bit number; the field has the bits 0xffffffff",
            ),
            (
                "three",
                "not a 64-bit number; the field has the bits 0xffffffff",
            ),
            ("-4294967296", "does not fit"),
        ] {
            let error = format!(
                "{:#}",
                set(&path, "header.nb_snapshots", value).unwrap_err()
            );
            assert!(error.contains(why), "{error}");
        }
        assert!(set(&path, "header.nosuch", "1").is_err());
        let mut read_only = fs::metadata(&path).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&path, read_only).unwrap();
        let error = format!("{:#}", set(&path, "header.nb_snapshots", "3").unwrap_err());
        assert!(error.contains("read-only"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
