//! `read`: what the guest reads from an image, by another reader of the format.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, ValueEnum};
use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder as _, PermissiveImplicitOpenGate};

use crate::output::stdout_result;

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;

/// The arguments of `read`.
#[derive(Debug, ClapArgs)]
pub(super) struct ReadArgs {
    /// The reader
    #[arg(long, value_name = "READER")]
    with: Library,
    /// The image, in qcow2
    image: PathBuf,
}

/// A reader that is a library.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Library {
    /// The crate imago
    Imago,
}

/// Writes the data of the disk to standard output.
///
/// # Errors
///
/// The reader refuses the image, or the output cannot be written.
pub(super) fn run(args: &ReadArgs) -> Result<()> {
    match args.with {
        Library::Imago => imago(args),
    }
}

fn imago(args: &ReadArgs) -> Result<()> {
    let refused = || format!("imago cannot read '{}'", args.image.display());
    let image = Qcow2::<File>::builder_path(&args.image);
    let image = image.open(PermissiveImplicitOpenGate::default());
    let disk = FormatAccess::new(image.with_context(refused)?);
    let mut out = io::stdout().lock();
    let mut at = 0;
    while at < disk.size() {
        let mut piece = vec![0; (disk.size() - at).min(PIECE) as usize];
        disk.read(&mut piece[..], at).with_context(refused)?;
        stdout_result(out.write_all(&piece))?;
        at += piece.len() as u64;
    }
    stdout_result(out.flush())
}
