//! Groups: those a suite declares, and what `group.local` adds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use testdecl::nearest;

/// The groups a suite declares, each with its meaning, from a file of
/// `NAME  meaning` lines. Blank lines and lines that begin with `#` are skipped.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Where they are declared.
    pub file: PathBuf,
    meanings: BTreeMap<String, String>,
    /// Where some are declared beside that.
    local: Option<PathBuf>,
}

impl Declared {
    /// Reads `file`.
    ///
    /// # Errors
    ///
    /// It cannot be read, a group has no meaning, or one is declared twice.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!(
                "cannot read the groups of the suite from {}",
                file.display()
            )
        })?;
        let mut meanings = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = || format!("{}:{}", file.display(), n + 1);
            let Some((name, meaning)) = line.split_once(char::is_whitespace) else {
                bail!(
                    "{}: group '{line}': expected its meaning after the name",
                    at()
                );
            };
            if meanings
                .insert(name.to_owned(), meaning.trim().to_owned())
                .is_some()
            {
                bail!("{}: group '{name}' is declared twice", at());
            }
        }
        Ok(Self {
            file: file.to_owned(),
            meanings,
            local: None,
        })
    }

    /// Declares one more group; `file` is where it is declared.
    ///
    /// # Errors
    ///
    /// It has no meaning, or is declared already.
    pub fn declare(&mut self, name: &str, meaning: &str, file: &Path) -> Result<()> {
        if meaning.is_empty() {
            bail!("group '{name}': expected its meaning after the name");
        }
        if self.meanings.contains_key(name) {
            bail!(
                "group '{name}' is declared already, in {}",
                self.file.display()
            );
        }
        self.local = Some(file.to_owned());
        self.meanings.insert(name.to_owned(), meaning.to_owned());
        Ok(())
    }

    /// Every group and its meaning, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.meanings.iter().map(|(n, m)| (n.as_str(), m.as_str()))
    }

    /// That `group` is declared; `user` is who names it, such as a file.
    ///
    /// # Errors
    ///
    /// It is not; the nearest one that is.
    pub fn require(&self, group: &str, user: &str) -> Result<()> {
        if self.meanings.contains_key(group) {
            return Ok(());
        }
        let near = nearest(group, self.meanings.keys().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
        bail!(
            "{user}: group '{group}' is not declared in {}{}{hint}",
            self.file.display(),
            self.local
                .as_ref()
                .map_or_else(String::new, |file| format!(" or {}", file.display()))
        )
    }
}

/// How a line of a known failure begins.
pub const FAIL: &str = "fail";

/// Whether a line is about a known failure: `fail` and a test. A test may be named `fail`.
#[must_use]
pub fn is_known_failure(line: &str) -> bool {
    let mut words = line
        .split('#')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    words.next() == Some(FAIL) && words.next().is_some_and(|word| !word.contains('='))
}

/// The lines of a `group.local` file: a test as written there, and its groups.
///
/// # Errors
///
/// It cannot be read.
pub fn read_local(file: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let text = std::fs::read_to_string(file).context("it cannot be read")?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.collect()))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_declared_with_a_meaning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("groups");
        std::fs::write(
            &file,
            "# all\n\nquick  takes a second\nrw\treads and writes\n",
        )
        .unwrap();
        let declared = Declared::read(&file).unwrap();
        let all: Vec<_> = declared.iter().collect();
        assert_eq!(
            all,
            [("quick", "takes a second"), ("rw", "reads and writes")]
        );
        assert!(declared.require("rw", "001").is_ok());
        let err = declared.require("qiuck", "-g").unwrap_err().to_string();
        assert!(err.starts_with("-g: group 'qiuck' is not declared in "));
        assert!(err.ends_with("; did you mean 'quick'?"), "{err}");
        std::fs::write(&file, "quick\n").unwrap();
        let err = Declared::read(&file).unwrap_err().to_string();
        assert!(err.contains("groups:1: group 'quick': expected its meaning"));
        std::fs::write(&file, "a b\na c\n").unwrap();
        assert!(Declared::read(&file).is_err());
    }

    #[test]
    fn a_local_file_adds_tests_to_groups() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("group.local");
        std::fs::write(&file, "# mine\n\n 1 slow ci \nnamed\n").unwrap();
        let lines = read_local(&file).unwrap();
        assert_eq!(lines[0], ("1".into(), vec!["slow".into(), "ci".into()]));
        assert_eq!(lines[1], ("named".into(), vec![]));
    }
}
