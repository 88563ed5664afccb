//! The stacks of a test that is killed for its time: a file for people, and beside it all
//! that the debugger said.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use childproc::Keeper;

use crate::words;

/// How long taking stacks may take, of all processes together.
const TAKES: Duration = Duration::from_secs(30);

/// How much of the end of the output is looked through for its last line, in bytes.
const END: u64 = 4096;

/// Where stacks go.
#[derive(Debug)]
pub(super) struct Stacks<'a> {
    pub(super) keeper: &'a Keeper,
    /// What the test has printed.
    pub(super) output: &'a Path,
    /// The file for people; what the debugger said is in `FILE.full`.
    pub(super) file: &'a Path,
}

impl Stacks<'_> {
    /// Takes the stacks of the processes `pids`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(super) fn take(&self, pids: &[i32]) -> io::Result<()> {
        let mut full = self.file.to_owned().into_os_string();
        full.push(".full");
        let full = Path::new(&full);
        childproc::stacks(self.keeper, pids, &mut File::create(full)?, TAKES)?;
        let raw = fs::read(full)?;
        let mut text = last_line(self.output)
            .map(|line| format!("the test has printed last: {line}\n\n"))
            .unwrap_or_default();
        text.push_str(&childproc::fold_stacks(&String::from_utf8_lossy(&raw)));
        text.push_str(&format!("all frames: {}\n", words::path(full)));
        File::create(self.file)?.write_all(text.as_bytes())
    }
}

/// The last line of a file that is not empty.
fn last_line(file: &Path) -> Option<String> {
    let mut file = File::open(file).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END))).ok()?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    let line = end.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(words::one_line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_one_with_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let of = |text: &str| {
            fs::write(&file, text).unwrap();
            last_line(&file)
        };
        assert_eq!(of(""), None);
        assert_eq!(
            of("a\n$ qemu-io \x1b x\n \n"),
            Some("$ qemu-io ␛ x".to_owned())
        );
        let long = format!("{}\nlast", "x".repeat(10_000));
        assert_eq!(of(&long), Some("last".to_owned()));
    }
}
