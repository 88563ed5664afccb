//! `image-fuzzer set`: changes one field of an image.

use crate::{image_file, output};
use anyhow::{Context, Result, bail, ensure};
use image_formats::{Field, Place, ReadAt, Store, Value, WriteAt, read_padded};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

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

/// Changes the bytes of one field and no others, and says what it did.
///
/// A file is replaced by a changed copy, so that it is at every moment the old image or
/// the new one, whole; it keeps its mode, its owner and its holes. A block device is
/// written to in place.
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
    let file = fs::metadata(&args.image).is_ok_and(|meta| meta.is_file());
    if file {
        replace(&args.image, image.bytes())
    } else {
        write_in_place(&args.image, image.bytes(), offset, len)
    }
    .with_context(|| format!("failed to write '{name}'"))?;
    output::line(&format!(
        "{}: {} -> {}",
        after.path, before.value, after.value
    ))
}

/// Puts a file of these bytes in the place of `path`; behind a symbolic link, of what that
/// leads to.
fn replace(path: &Path, bytes: &Store) -> Result<()> {
    let path = path.canonicalize()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let old = fs::metadata(&path)?;
    ensure!(
        !old.permissions().readonly(),
        "it is read-only; 'chmod u+w' makes it writable"
    );
    let made = tempfile::Builder::new()
        .prefix(".image-fuzzer-set.")
        .tempfile_in(folder)?;
    bytes.copy_to(&mut Sparse(made.as_file()))?;
    // Only root can give a file away; for others it was theirs, or is now.
    if let Err(error) = chown(made.path(), Some(old.uid()), Some(old.gid()))
        && nix::unistd::geteuid().is_root()
    {
        return Err(error.into());
    }
    made.as_file().set_permissions(old.permissions())?;
    made.as_file().sync_data()?;
    made.persist(&path)?;
    Ok(())
}

/// Writes the bytes of one field, with one write.
fn write_in_place(path: &Path, image: &Store, offset: u64, len: u64) -> Result<()> {
    let mut bytes = vec![0; usize::try_from(len).context("the field is too long")?];
    read_padded(image, offset, &mut bytes);
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&bytes, offset)?;
    file.sync_data()?;
    Ok(())
}

/// An empty file that is written to where there are data.
struct Sparse<'a>(&'a File);

impl WriteAt for Sparse<'_> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// Reads the value as the field needs it: digits are text in a text field, and a
/// negative number has the width of its field.
fn value_for(field: &Field, text: &str) -> Result<Value> {
    let value: Value = text.parse()?;
    Ok(match (field.place, value) {
        (Place::Bytes { .. }, Value::Uint(_)) => Value::Bytes(text.as_bytes().to_vec()),
        (place @ Place::Bits { .. }, Value::Uint(number)) if text.starts_with('-') => {
            let mask = place.mask();
            ensure!(
                number.wrapping_neg() <= mask,
                "cannot set {}: {text} does not fit: the field has the bits {mask:#x}",
                field.path
            );
            Value::Uint(number & mask)
        }
        (place @ Place::Bits { .. }, Value::Bytes(_)) => bail!(
            "cannot set {}: '{text}' is no number of up to 64 bits; the field has the bits {:#x}",
            field.path,
            place.mask()
        ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

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

    /// A change was once written into the file itself, so that one that was cut short, or
    /// seen by a reader halfway, was neither the old image nor the new one.
    #[test]
    fn a_file_is_the_old_image_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let old = fs::read(&path).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("a.qcow2", &link).unwrap();
        let mut reader = File::open(&path).unwrap();
        set(&link, "header.nb_snapshots", "3").unwrap();
        let mut seen = Vec::new();
        reader.read_to_end(&mut seen).unwrap();
        assert!(seen == old, "a reader sees the change within what it reads");
        let new = fs::read(&path).unwrap();
        assert_eq!(new[60..64], [0, 0, 0, 3]);
        assert!(new[..60] == old[..60] && new[64..] == old[64..]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
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
                "no number of up to 64 bits; the field has the bits 0xffffffff",
            ),
            (
                "three",
                "no number of up to 64 bits; the field has the bits 0xffffffff",
            ),
            ("-4294967296", "does not fit"),
        ] {
            let said = format!(
                "{:#}",
                set(&path, "header.nb_snapshots", value).unwrap_err()
            );
            assert!(said.contains(why), "{said}");
        }
        assert!(set(&path, "header.nosuch", "1").is_err());
        let mut read_only = fs::metadata(&path).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&path, read_only).unwrap();
        let said = format!("{:#}", set(&path, "header.nb_snapshots", "3").unwrap_err());
        assert!(said.contains("read-only"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
