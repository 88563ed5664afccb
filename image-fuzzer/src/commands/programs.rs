//! The programs that commands name: where they are, and the arguments they start with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::input::command::Command;
use crate::path::find_program;

/// The name by which commands start this program, wherever it is.
pub const ITSELF: &str = "image-fuzzer";

/// Where the programs are, and with which arguments they start.
#[derive(Clone, Debug)]
pub struct Programs {
    qemu_img: Vec<OsString>,
    qemu_io: Vec<OsString>,
    /// Others that are not looked for in PATH.
    others: BTreeMap<String, Vec<OsString>>,
    /// The folder of those that are copies, which is removed with the last of these.
    _copies: Option<Arc<TempDir>>,
}

impl Programs {
    /// Programs with their first arguments.
    pub fn new(qemu_img: Vec<OsString>, qemu_io: Vec<OsString>) -> Self {
        Self {
            qemu_img,
            qemu_io,
            others: BTreeMap::new(),
            _copies: None,
        }
    }

    /// Programs by the names that commands have for them; those that are not among them are
    /// looked for in PATH. `copies` is the folder of those that are copies.
    pub(super) fn from_files(
        mut files: BTreeMap<String, Vec<OsString>>,
        copies: Option<TempDir>,
    ) -> Self {
        let mut take = |name: &str| files.remove(name).unwrap_or_else(|| vec![name.into()]);
        Self {
            qemu_img: take("qemu-img"),
            qemu_io: take("qemu-io"),
            others: files,
            _copies: copies.map(Arc::new),
        }
    }

    /// The programs that `QEMU_IMG` and `QEMU_IO` name, else those in PATH.
    ///
    /// Fails where a value has an unclosed quotation mark.
    pub fn from_env() -> Result<Self> {
        Ok(Self {
            qemu_img: from_variable("QEMU_IMG", "qemu-img")?,
            qemu_io: from_variable("QEMU_IO", "qemu-io")?,
            others: BTreeMap::new(),
            _copies: None,
        })
    }

    /// These programs, with another `qemu-img` (for comparing two versions).
    pub fn with_qemu_img(&self, words: Vec<OsString>) -> Self {
        Self {
            qemu_img: words,
            ..self.clone()
        }
    }

    /// The command line for `command`, the image under test being `image`.
    pub fn argv(&self, command: &Command, image: &str) -> Vec<OsString> {
        let mut argv = match command.program() {
            "qemu-img" => self.qemu_img.clone(),
            "qemu-io" => self.qemu_io.clone(),
            other => match (self.others.get(other), other) {
                (Some(words), _) => words.clone(),
                (None, ITSELF) => vec![
                    std::env::current_exe().map_or_else(|_| other.into(), PathBuf::into_os_string),
                ],
                (None, _) => vec![other.into()],
            },
        };
        let arguments = command.0.iter().skip(1);
        argv.extend(arguments.map(|word| OsString::from(word.replace("$test_img", image))));
        argv
    }

    /// The file that runs when `program` is named.
    ///
    /// Fails, in words for the user, where there is none.
    pub fn find(&self, program: &str) -> Result<PathBuf> {
        let words = self.argv(&Command::new([program]), "");
        let name = words.first().map(PathBuf::from).unwrap_or_default();
        find_program(&name).with_context(|| format!("cannot run '{}'", name.display()))
    }
}

/// The words of the environment's variable `name`, else `fallback`.
fn from_variable(name: &str, fallback: &str) -> Result<Vec<OsString>> {
    let Ok(value) = std::env::var(name) else {
        return Ok(vec![fallback.into()]);
    };
    match shlex::split(&value) {
        None => bail!("{name} has an unclosed quotation mark: {value}"),
        Some(words) if words.is_empty() => Ok(vec![fallback.into()]),
        Some(words) => Ok(words.into_iter().map(OsString::from).collect()),
    }
}
