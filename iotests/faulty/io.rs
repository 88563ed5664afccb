//! Faults of `qemu-io`: another command is run than was asked for, and what is
//! said of it is made to look as if nothing had happened.

use crate::img::size;

/// A command that a test gives.
pub(crate) struct Asked<'a> {
    /// Its words.
    pub(crate) words: Vec<&'a str>,
    /// How many writes of patterns came before it.
    pub(crate) writes: usize,
}

/// What is run in its place.
pub(crate) struct Swap {
    /// The command.
    pub(crate) command: String,
    /// What is put in place of what in its output.
    pub(crate) said: Vec<(String, String)>,
}

impl Asked<'_> {
    /// Whether this writes a pattern.
    pub(crate) fn writes_pattern(&self) -> bool {
        self.is("write") && !self.words.contains(&"-z")
    }

    fn is(&self, command: &str) -> bool {
        self.words.first() == Some(&command)
    }

    /// Where it starts, as written and in bytes, and where that stands.
    fn offset(&self) -> Option<(usize, u64)> {
        let at = self.words.len().checked_sub(2).filter(|n| *n > 0)?;
        size(self.words[at]).map(|n| (at, n))
    }

    /// A read of the same place, which says `past` where it would say `read`.
    fn only_read(&self, past: &str) -> Option<Swap> {
        let (at, _) = self.offset()?;
        let silent = if self.words.contains(&"-q") {
            "-q "
        } else {
            ""
        };
        let range = self.words[at..].join(" ");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        Some(Swap {
            command: format!("read {silent}{range}"),
            said: vec![
                pair("read failed: ", &format!("{} failed: ", self.words[0])),
                pair("read ", &format!("{past} ")),
            ],
        })
    }
}

pub(crate) fn lose_second_write(asked: &Asked<'_>) -> Option<Swap> {
    let second = asked.writes_pattern() && asked.writes == 1;
    second.then(|| asked.only_read("wrote")).flatten()
}

pub(crate) fn misplace_first_write(asked: &Asked<'_>) -> Option<Swap> {
    if !asked.writes_pattern() || asked.writes != 0 {
        return None;
    }
    let (at, offset) = asked.offset()?;
    let wrong = (offset + 512).to_string();
    let said = |n: &str| format!(" bytes at offset {n}\n");
    let pair = (said(&wrong), said(&offset.to_string()));
    let mut words = asked.words.clone();
    words[at] = &wrong;
    Some(Swap {
        command: words.join(" "),
        said: vec![pair],
    })
}

pub(crate) fn lose_zeroes(asked: &Asked<'_>) -> Option<Swap> {
    let zeroes = asked.is("write") && asked.words.contains(&"-z");
    zeroes.then(|| asked.only_read("wrote")).flatten()
}

pub(crate) fn lose_discards(asked: &Asked<'_>) -> Option<Swap> {
    let discards = asked.is("discard");
    discards.then(|| asked.only_read("discard")).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str, writes: usize) -> Asked<'_> {
        Asked {
            words: line.split_whitespace().collect(),
            writes,
        }
    }

    #[test]
    fn one_write_of_a_process_is_spoiled() {
        let command = |swap: Option<Swap>| swap.map(|s| s.command);
        let lost = |writes| command(lose_second_write(&asked("write -q -P 3 4k 64k", writes)));
        assert_eq!(
            [lost(0), lost(1), lost(2)],
            [None, Some("read -q 4k 64k".into()), None]
        );
        let moved = |writes| command(misplace_first_write(&asked("write -P 3 4k 64k", writes)));
        assert_eq!(
            [moved(0), moved(1)],
            [Some("write -P 3 4608 64k".into()), None]
        );
    }

    #[test]
    fn zeroes_and_discards_are_read_instead() {
        let zeroes = lose_zeroes(&asked("write -z -u 0 1M", 0)).expect("a swap");
        assert_eq!(zeroes.command, "read 0 1M");
        assert!(lose_zeroes(&asked("write -P 0 0 1M", 0)).is_none());
        assert!(lose_discards(&asked("discard 0 1M", 0)).is_some());
    }
}
