//! `export`: the images of a campaign for other fuzzers.

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::OK;
use super::conform::new_folder;
use crate::campaign::{Exported, ExportedImage, exported};
use crate::files::{persist_as, write_temp, write_whole};
use crate::output::{self, counted};

/// The options of `export`.
#[derive(Debug, ClapArgs)]
pub(super) struct ExportArgs {
    /// Work folder
    #[arg(value_name = "TEST_DIR", default_value = "image-fuzzer.work")]
    dir: PathBuf,
    /// Write the images into this folder, which must be new or empty, for 'afl-fuzz -i'
    #[arg(long, value_name = "DIR", required_unless_present = "seeds")]
    afl: Option<PathBuf>,
    /// Write the images into this zip file, a seed corpus as OSS-Fuzz and ClusterFuzz take it;
    /// the same images give the same bytes
    #[arg(long, value_name = "ZIP")]
    seeds: Option<PathBuf>,
    /// Leave out images that are longer than this many bytes: AFL++ takes no more than 1 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..=64 << 20))]
    max_size: u64,
    /// Write also the images that are set aside since others reach the same
    #[arg(long)]
    all: bool,
}

/// Writes the images.
///
/// # Errors
///
/// There is no such campaign, or the folder is not empty or cannot be written.
pub(super) fn run(args: &ExportArgs) -> Result<u8> {
    let exported = exported(&args.dir, args.max_size, args.all)?;
    if let Some(folder) = &args.afl {
        new_folder(folder)?;
        for image in &exported.images {
            persist_as(write_temp(folder, &image.bytes)?, folder, &image.name)?;
        }
    }
    if let Some(path) = &args.seeds {
        write_whole(path, &zip(&exported.images)?)?;
    }
    output::line(&told(&exported, args))?;
    Ok(OK)
}

/// What was written, and what was left out.
fn told(exported: &Exported, args: &ExportArgs) -> String {
    let files = [&args.afl, &args.seeds].into_iter().flatten();
    let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
    let mut text = format!(
        "{} written to {}",
        counted(exported.images.len() as u64, "image"),
        files.join(" and ")
    );
    let larger = format!("larger than {} bytes", args.max_size);
    let left_out = [
        (exported.too_large, larger.as_str()),
        (exported.set_aside, "that reach what others do"),
        (exported.same, "empty or with the bytes of others"),
    ];
    let left_out = left_out.iter().filter(|(count, _)| *count > 0);
    let left_out: Vec<String> = left_out
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    if !left_out.is_empty() {
        text.push_str(&format!("; left out: {}", left_out.join(", ")));
    }
    text
}

/// A zip file of the images, without anything in it that differs from one time to the next.
fn zip(images: &[ExportedImage]) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for image in images {
        zip.start_file(image.name.as_str(), options)
            .context("cannot make the zip file")?;
        zip.write_all(&image.bytes.to_vec())
            .context("cannot make the zip file")?;
    }
    let done = zip.finish().context("cannot make the zip file")?;
    Ok(done.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use image_formats::Store;
    use image_mutations::named_file::NamedFile;

    use super::*;

    #[test]
    fn a_zip_file_is_the_same_each_time() {
        let image = |id: u8| ExportedImage {
            name: format!("00000{id}.raw"),
            bytes: NamedFile::new("a", &Store::over(Arc::new(vec![id; 5000]))),
        };
        let images = [image(1), image(2)];
        let bytes = zip(&images).unwrap();
        assert_eq!(bytes, zip(&images).unwrap());
        assert!(bytes.len() < 1000);
        let mut read = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(read.len(), 2);
        let mut data = Vec::new();
        read.by_name("000002.raw")
            .unwrap()
            .read_to_end(&mut data)
            .unwrap();
        assert_eq!(data, [2; 5000]);
    }
}
