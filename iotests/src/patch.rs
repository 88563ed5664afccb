//! Fields of qcow2 images read and changed by name, behind QEMU's back; and what a
//! second reader finds in an image.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use image_formats::qcow2;
use image_formats::{Defect, Place, ReadAt};

use crate::image::Image;
use crate::test::Test;

/// A file as `image-formats` reads it.
struct Source {
    file: File,
    length: u64,
}

impl ReadAt for Source {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn len(&self) -> u64 {
        self.length
    }
}

fn decode(file: File) -> Result<qcow2::Image> {
    let length = file
        .metadata()
        .context("failed to read the size of a file")?
        .len();
    Ok(qcow2::Image::open(Arc::new(Source { file, length }))?)
}

fn value_at(file: File, path: &str) -> Result<u64> {
    let field = decode(file)?.field(path)?;
    field
        .value
        .as_uint()
        .with_context(|| format!("{path} is not a number"))
}

/// Sets a field in the file and leaves every other byte as it was.
fn set_in(file: &File, path: &str, value: u64) -> Result<()> {
    let mut image = decode(file.try_clone().context("failed to share a file")?)?;
    let place = image.field(path)?.place;
    image.set(path, value)?;
    let Place::Bits { offset, bytes, .. } = place else {
        bail!("{path} is not a number")
    };
    let mut word = vec![0; usize::from(bytes)];
    image.bytes().read(offset, &mut word);
    write_at(file, offset, &word)
}

impl Test {
    /// The value of a qcow2 field by its path in `image-formats`, such as
    /// `header.nb_snapshots`, `l2[0].entry[3]`, `l2[0].entry[3].offset`,
    /// `refcount_block[0].entry[5]`, `snapshot[0].l1_size` or
    /// `bitmap[1].flags.in_use`.
    ///
    /// # Errors
    ///
    /// Fails if there is no such field.
    pub fn peek(&self, image: &Image, path: &str) -> Result<u64> {
        value_at(open(image, false)?, path)
    }

    /// Sets a qcow2 field and logs it.
    ///
    /// # Errors
    ///
    /// Fails if there is no such field, or the value does not fit in it.
    pub fn poke(&self, image: &Image, path: &str, value: u64) -> Result<()> {
        self.poke_quietly(image, path, value)?;
        self.log(format!("poke {image} {path} = {value:#x}"));
        Ok(())
    }

    /// As [`Test::poke`], and logs nothing: for values that differ from one
    /// layout to the next.
    ///
    /// # Errors
    ///
    /// Fails as [`Test::poke`] does.
    pub fn poke_quietly(&self, image: &Image, path: &str, value: u64) -> Result<()> {
        set_in(&open(image, true)?, path, value)
    }

    /// Sets bytes of the image's file; not logged.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn poke_at(&self, image: &Image, offset: u64, bytes: &[u8]) -> Result<()> {
        write_at(&open(image, true)?, offset, bytes)
    }

    /// Bytes of the image's file.
    ///
    /// # Errors
    ///
    /// Fails if the file is shorter.
    pub fn peek_at(&self, image: &Image, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        open(image, false)?
            .read_exact_at(&mut bytes, offset)
            .with_context(|| format!("failed to read {length} bytes at {offset} of {image}"))?;
        Ok(bytes)
    }

    /// The path of the refcount of the cluster that holds byte `offset` of a
    /// qcow2 file.
    ///
    /// # Errors
    ///
    /// Fails if the image has no header.
    pub fn refcount_path(&self, image: &Image, offset: u64) -> Result<String> {
        let bits = self.peek(image, "header.cluster_bits")?;
        let order = match self.peek(image, "header.version")? {
            2 => 4,
            _ => self.peek(image, "header.refcount_order")?,
        };
        ensure!(
            (9..=21).contains(&bits) && order <= 6,
            "{image} has no header"
        );
        let cluster = offset >> bits;
        let block = bits + 3 - order;
        Ok(format!(
            "refcount_block[{}].entry[{}]",
            cluster >> block,
            cluster & ((1 << block) - 1)
        ))
    }

    /// Everything in a qcow2 file that breaks a rule of the specification, by a
    /// reader other than QEMU.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    pub fn defects(&self, image: &Image) -> Result<Vec<Defect>> {
        Ok(decode(open(image, false)?)?.defects()?)
    }

    /// Checks by a reader other than QEMU that no rule of the specification is
    /// broken, leaks included. Logged.
    ///
    /// # Errors
    ///
    /// Fails if a rule is broken.
    pub fn sound(&self, image: &Image) -> Result<()> {
        let defects = self.defects(image)?;
        if let Some(first) = defects.first() {
            bail!("{image} has {} defects; the first: {first}", defects.len());
        }
        self.log(format!("{image}: keeps to the specification"));
        Ok(())
    }
}

fn open(image: &Image, write: bool) -> Result<File> {
    File::options()
        .read(true)
        .write(write)
        .open(image.file())
        .with_context(|| format!("failed to open the file of {image}"))
}

fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
    file.write_all_at(bytes, offset)
        .with_context(|| format!("failed to write {} bytes at {offset}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> File {
        let file = tempfile::tempfile().expect("a file");
        let spec = qcow2::Spec::default();
        let built = qcow2::build(&spec).expect("a valid image");
        let mut bytes = vec![0; usize::try_from(built.image.bytes().len()).expect("small")];
        built.image.bytes().read(0, &mut bytes);
        write_at(&file, 0, &bytes).expect("written");
        file
    }

    #[test]
    fn a_field_is_set_and_nothing_else() {
        let file = image();
        let share = || file.try_clone().expect("a file");
        let before = value_at(share(), "header.size").expect("a size");
        set_in(&file, "header.incompatible_features.corrupt", 1).expect("set");
        assert_eq!(
            value_at(share(), "header.incompatible_features").expect("a field"),
            2
        );
        assert_eq!(value_at(share(), "header.size").expect("a size"), before);
        assert!(decode(share()).is_ok_and(|i| i.get_uint("header.magic") == Some(0x5146_49fb)));
    }

    #[test]
    fn unknown_paths_are_errors() {
        for path in [
            "header.x",
            "l3[0]",
            "l2[0].entry[1]",
            "l1[99999999999999999999]",
            "",
            "header",
        ] {
            assert!(value_at(image(), path).is_err(), "{path}");
        }
        assert!(set_in(&image(), "header.version", 1 << 32).is_err());
    }
}
