//! Faults of `qemu-io`: another command is run, and its output is changed to look
//! like that of the original.

use crate::img::size;

/// A command that a test gives.
pub(crate) struct IoCommand<'a> {
    /// Its words.
    pub(crate) words: Vec<&'a str>,
    /// How many writes of patterns came before it.
    pub(crate) writes: usize,
}

/// What replaces a command.
pub(crate) struct Replacement {
    /// The command.
    pub(crate) command: String,
    /// Replacements in its output: old and new text.
    pub(crate) output: Vec<(String, String)>,
}

impl IoCommand<'_> {
    /// Whether this writes a pattern.
    pub(crate) fn writes_pattern(&self) -> bool {
        self.is("write") && !self.words.contains(&"-z")
    }

    fn is(&self, command: &str) -> bool {
        self.words.first() == Some(&command)
    }

    /// The index of the word with its offset, and the offset in bytes.
    fn offset(&self) -> Option<(usize, u64)> {
        let at = self.words.len().checked_sub(2).filter(|n| *n > 0)?;
        size(self.words[at]).map(|n| (at, n))
    }

    /// A read of the same range, whose output has `past` where it has `read`.
    fn only_read(&self, past: &str) -> Option<Replacement> {
        let (at, _) = self.offset()?;
        let silent = if self.words.contains(&"-q") {
            "-q "
        } else {
            ""
        };
        let range = self.words[at..].join(" ");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        Some(Replacement {
            command: format!("read {silent}{range}"),
            output: vec![
                pair("read failed: ", &format!("{} failed: ", self.words[0])),
                pair("read ", &format!("{past} ")),
            ],
        })
    }
}

pub(crate) fn lose_second_write(command: &IoCommand<'_>) -> Option<Replacement> {
    let second = command.writes_pattern() && command.writes == 1;
    second.then(|| command.only_read("wrote")).flatten()
}

pub(crate) fn misplace_first_write(command: &IoCommand<'_>) -> Option<Replacement> {
    if !command.writes_pattern() || command.writes != 0 {
        return None;
    }
    let (at, offset) = command.offset()?;
    let wrong = (offset + 512).to_string();
    let text = |n: &str| format!(" bytes at offset {n}\n");
    let pair = (text(&wrong), text(&offset.to_string()));
    let mut words = command.words.clone();
    words[at] = &wrong;
    Some(Replacement {
        command: words.join(" "),
        output: vec![pair],
    })
}

pub(crate) fn lose_zeroes(command: &IoCommand<'_>) -> Option<Replacement> {
    let zeroes = command.is("write") && command.words.contains(&"-z");
    zeroes.then(|| command.only_read("wrote")).flatten()
}

pub(crate) fn lose_discards(command: &IoCommand<'_>) -> Option<Replacement> {
    let discards = command.is("discard");
    discards.then(|| command.only_read("discard")).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str, writes: usize) -> IoCommand<'_> {
        IoCommand {
            words: line.split_whitespace().collect(),
            writes,
        }
    }

    #[test]
    fn one_write_of_a_process_is_changed() {
        let run = |replacement: Option<Replacement>| replacement.map(|r| r.command);
        let lost = |writes| run(lose_second_write(&command("write -q -P 3 4k 64k", writes)));
        assert_eq!(
            [lost(0), lost(1), lost(2)],
            [None, Some("read -q 4k 64k".into()), None]
        );
        let moved = |writes| run(misplace_first_write(&command("write -P 3 4k 64k", writes)));
        assert_eq!(
            [moved(0), moved(1)],
            [Some("write -P 3 4608 64k".into()), None]
        );
    }

    #[test]
    fn zeroes_and_discards_are_read_instead() {
        let zeroes = lose_zeroes(&command("write -z -u 0 1M", 0)).expect("a replacement");
        assert_eq!(zeroes.command, "read 0 1M");
        assert!(lose_zeroes(&command("write -P 0 0 1M", 0)).is_none());
        assert!(lose_discards(&command("discard 0 1M", 0)).is_some());
    }
}
