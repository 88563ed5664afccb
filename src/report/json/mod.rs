//! JSON events, one a line, written as they happen, and read back. `docs/json-events.md` is
//! the schema.

mod decode;
mod encode;
mod wire;

#[cfg(test)]
mod round_trip;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Sink;
use super::rendered::Rendered;
use crate::model::Event;
pub use decode::{Decoded, decode};
pub(super) use encode::Encoder;

/// The version of the schema; it grows when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// The JSON reporter.
pub(super) struct Json {
    path: PathBuf,
    out: Box<dyn Write>,
    /// The file behind `out`, where it is a regular one, and the length of its whole lines.
    file: Option<(File, u64)>,
    encoder: Encoder,
    trouble: Option<io::Error>,
}

impl Json {
    /// Makes the file, empty.
    pub(super) fn create(path: &Path, encoder: Encoder) -> anyhow::Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the JSON file {}", path.display()))?;
        let regular = file.metadata().is_ok_and(|meta| meta.is_file());
        let same = regular.then(|| file.try_clone().ok()).flatten();
        Ok(Self {
            file: same.map(|same| (same, 0)),
            ..Self::new(path, Box::new(file), encoder)
        })
    }

    pub(super) fn new(path: &Path, out: Box<dyn Write>, encoder: Encoder) -> Self {
        Self {
            path: path.to_owned(),
            out,
            file: None,
            encoder,
            trouble: None,
        }
    }

    fn write(&mut self, line: &[u8]) {
        // A line is written at once, so that an aborted run leaves complete lines.
        let written = self.out.write_all(line).and_then(|()| self.out.flush());
        match (written, &mut self.file) {
            (Ok(()), Some((_, whole))) => *whole += line.len() as u64,
            (Ok(()), None) => {}
            (Err(e), file) => {
                if let Some((file, whole)) = file {
                    // Half a line is of no use; later ones may find room again.
                    let _ = file.set_len(*whole);
                    let _ = file.seek(SeekFrom::Start(*whole));
                }
                self.trouble.get_or_insert(e);
            }
        }
    }
}

impl Sink for Json {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        match self.encoder.line(event, rendered) {
            Ok(Some(line)) => self.write(&line),
            Ok(None) => {}
            Err(e) => {
                self.trouble.get_or_insert(e);
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.trouble.take();
        let path = self.path.display();
        let said = trouble.map(|e| format!("cannot write the JSON file {path}: {e}"));
        said.into_iter().collect()
    }
}
