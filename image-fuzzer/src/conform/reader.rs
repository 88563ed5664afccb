//! Running a reader on one image.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::Sample;
use crate::exec::{End, ExecOptions, Executor, Limits, Observation, Request, for_program};

/// What a reader did with an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Outcome {
    /// It read the guest's data.
    Right,
    /// It reported an error.
    Refused {
        /// The last line of it.
        said: Option<String>,
    },
    /// It read other data, and reported no error.
    WrongData {
        /// The first byte of the disk that differs; the length of the shorter one where the
        /// rest is the same.
        at: u64,
    },
    /// It read a broken image without an error.
    Accepted,
    /// It was ended by a signal, or by a sanitizer.
    Crash {
        /// How it ended.
        end: String,
    },
    /// It did not end in time, or took more than it may.
    Hang,
}

/// A reader of images: a command that writes the guest's data to its standard output, or into
/// the file that it is given.
pub struct Reader {
    words: Vec<String>,
    /// Whether the data are in a file.
    into_file: bool,
    limits: Limits,
    executor: Box<dyn Executor>,
    scratch: tempfile::TempDir,
}

/// The most bytes that a reader may write.
const MOST_OUTPUT: u64 = 80 << 20;

/// The name of the file that a reader writes.
const OUT: &str = "conform.out";

impl Reader {
    /// The reader that `words` run: `$img` is the image, added at the end where it is missing,
    /// and `$out` the file that it writes. It may read `readable` besides the system's files and
    /// those of its own folder.
    ///
    /// # Errors
    ///
    /// There is no such program, or no scratch folder can be made.
    pub fn new(mut words: Vec<String>, time: Duration, readable: &[PathBuf]) -> Result<Self> {
        ensure!(!words.is_empty(), "name the reader after '--'");
        let has = |words: &[String], name: &str| words.iter().any(|word| word.contains(name));
        if !has(&words, "$img") {
            words.push("$img".into());
        }
        let into_file = has(&words, "$out");
        let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
        let mut options = ExecOptions::new(scratch.path());
        // Readers in other languages do not fork well, and each runs a few hundred times.
        options.fork_server = false;
        options.readable = readable.to_vec();
        let program = PathBuf::from(&words[0]);
        let program = match program.components().count() {
            1 => program,
            _ => fs::canonicalize(&program)
                .with_context(|| format!("cannot run '{}'", program.display()))?,
        };
        Ok(Self {
            words,
            into_file,
            limits: Limits {
                wall: time,
                cpu: time * 2,
                output: MOST_OUTPUT as usize,
                file_size: MOST_OUTPUT * 2,
                ..Limits::default()
            },
            executor: for_program(&program, &options)?,
            scratch,
        })
    }

    /// Lets it read the image of `sample`.
    ///
    /// # Errors
    ///
    /// The files cannot be written, or the program cannot be started.
    pub fn read(&mut self, sample: &Sample) -> Result<Outcome> {
        let folder = self.scratch.path().join("image");
        if folder.exists() {
            fs::remove_dir_all(&folder).context("cannot empty the scratch folder")?;
        }
        fs::create_dir(&folder).context("cannot make a folder")?;
        for file in &sample.files {
            file.write_into(&folder).context("cannot write an image")?;
        }
        let image = sample.files.first().map_or("", |file| file.name.as_str());
        let fill = |word: &String| OsString::from(word.replace("$img", image).replace("$out", OUT));
        let mut request = Request::new(self.words.iter().map(fill).collect(), &folder);
        request.limits = self.limits.clone();
        let seen = self.executor.run(&request);
        if let End::NotStarted(why) = &seen.end {
            anyhow::bail!("cannot run '{}': {why}", self.words[0]);
        }
        let data = match self.into_file {
            true => fs::read(folder.join(OUT)).unwrap_or_default(),
            false => seen.stdout.clone(),
        };
        Ok(judge(&seen, sample.data.as_deref(), &data))
    }
}

/// What a reader made of an image: `wanted` is what its guest reads, where it is valid, and
/// `shown` what the reader wrote.
fn judge(seen: &Observation, wanted: Option<&[u8]>, shown: &[u8]) -> Outcome {
    let end = match &seen.end {
        End::Exit(0) if seen.sanitizer.is_none() => {
            return match wanted {
                None => Outcome::Accepted,
                Some(wanted) => match difference(wanted, shown) {
                    None => Outcome::Right,
                    Some(at) => Outcome::WrongData { at },
                },
            };
        }
        End::Exit(_) if seen.sanitizer.is_none() => {
            let stderr = String::from_utf8_lossy(&seen.stderr);
            let last = stderr.lines().rfind(|line| !line.trim().is_empty());
            return Outcome::Refused {
                said: last.map(|line| line.trim().to_owned()),
            };
        }
        End::TimedOut | End::OverLimit(_) => return Outcome::Hang,
        end => crate::oracle::end_word(end),
    };
    Outcome::Crash { end }
}

/// The first byte in which `shown` differs from the disk. Readers that know sectors alone may
/// fill the last one with zeros.
fn difference(wanted: &[u8], shown: &[u8]) -> Option<u64> {
    let common = wanted.len().min(shown.len());
    let first = wanted
        .iter()
        .zip(shown)
        .position(|(one, other)| one != other);
    if let Some(at) = first {
        return Some(at as u64);
    }
    let whole = wanted.len().next_multiple_of(512);
    let filled = shown.len() >= wanted.len() && shown.len() <= whole;
    let zeros = filled && shown[common..].iter().all(|byte| *byte == 0);
    (!zeros).then_some(common as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_compared_up_to_the_last_sector() {
        assert_eq!(difference(&[1, 2], &[1, 2]), None);
        assert_eq!(difference(&[1, 2], &[1, 3]), Some(1));
        assert_eq!(difference(&[1, 2], &[1]), Some(1));
        assert_eq!(difference(&[], &[]), None);
        let sector = [[1; 100].as_slice(), &[0; 412]].concat();
        assert_eq!(difference(&[1; 100], &sector), None);
        assert_eq!(
            difference(&[1; 100], &[sector, vec![0; 512]].concat()),
            Some(100)
        );
    }
}
