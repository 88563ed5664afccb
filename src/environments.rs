//! The environments of the tests of one run: one for each build of QEMU.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::args::LowArgs;
use crate::environment::Environment;
use crate::model::{Combo, HeaderLine};
use crate::programs::Vars;
use crate::tree::Tree;
use crate::words;

/// Environments, by the folder of QEMU that their combinations have.
#[derive(Debug, Clone)]
pub struct Environments {
    first: Environment,
    /// The folder of `first`, and those of others.
    folder: String,
    others: Vec<(String, Environment)>,
}

impl Environments {
    /// Those that `combos` need; where there are none, that of the caller's variables.
    ///
    /// # Errors
    ///
    /// As for [`Environment::new`], of any of them.
    pub fn new(
        tree: &Tree,
        args: &LowArgs,
        combos: &[Arc<Combo>],
        cwd: &Path,
        vars: Vars<'_>,
    ) -> Result<Self> {
        let mut folders: Vec<&str> = Vec::new();
        for combo in combos {
            if !folders.contains(&combo.qemu.as_str()) {
                folders.push(&combo.qemu);
            }
        }
        let new = |folder: &str| Environment::new(tree, args, folder, cwd, vars);
        let mut folders = folders.into_iter();
        let folder = folders.next().unwrap_or_default();
        let others = folders.map(|folder| Ok((folder.to_owned(), new(folder)?)));
        Ok(Self {
            first: new(folder)?,
            folder: folder.to_owned(),
            others: others.collect::<Result<_>>()?,
        })
    }

    /// That of the first combination, with what all have in common.
    #[must_use]
    pub fn first(&self) -> &Environment {
        &self.first
    }

    /// That of a combination.
    #[must_use]
    pub fn of(&self, combo: &Combo) -> &Environment {
        let others = self.others.iter().map(|(_, env)| env);
        let mut all = std::iter::once(&self.first).chain(others);
        all.nth(self.number(combo)).unwrap_or(&self.first)
    }

    /// Which one that is, counted from 0.
    #[must_use]
    pub fn number(&self, combo: &Combo) -> usize {
        let mut others = self.others.iter();
        let other = others.position(|(folder, _)| *folder == combo.qemu);
        other.map_or(0, |position| position + 1)
    }

    /// The header of a run over `combos`: a line on which they agree once, others for each
    /// folder.
    #[must_use]
    pub fn header(&self, combos: &[Arc<Combo>], sock_dir: &Path) -> Vec<HeaderLine> {
        let first = (&self.folder, &self.first);
        let others = self.others.iter().map(|(folder, env)| (folder, env));
        let headers: Vec<(&str, Vec<HeaderLine>)> = std::iter::once(first)
            .chain(others)
            .map(|(folder, env)| (words::folder_name(folder), env.header(combos, sock_dir)))
            .collect();
        merged(headers)
    }
}

/// Headers with the names of their folders as one.
fn merged(mut headers: Vec<(&str, Vec<HeaderLine>)>) -> Vec<HeaderLine> {
    if headers.len() == 1 {
        return headers.pop().unwrap_or_default().1;
    }
    let mut names: Vec<String> = Vec::new();
    for (name, _) in headers.iter().flat_map(|(_, lines)| lines) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut all = Vec::new();
    for name in names {
        let values: Vec<Option<&String>> = headers
            .iter()
            .map(|(_, lines)| lines.iter().find(|(n, _)| *n == name).map(|(_, v)| v))
            .collect();
        let agree = values.iter().all(|value| *value == values[0]);
        for ((folder, _), value) in headers.iter().zip(&values) {
            match value {
                Some(value) if agree => {
                    all.push((name.clone(), (*value).clone()));
                    break;
                }
                Some(value) => all.push((name.clone(), format!("{folder}: {value}"))),
                None => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(of: &[(&str, &str)]) -> Vec<HeaderLine> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        of.iter().map(own).collect()
    }

    #[test]
    fn what_folders_agree_on_is_said_once() {
        let old = lines(&[("QEMU_VERSION", "7.2"), ("IMGFMT", "raw")]);
        let new = lines(&[("QEMU_VERSION", "11.1"), ("IMGFMT", "raw"), ("ID", "5f")]);
        assert_eq!(merged(vec![("a", old.clone())]), old);
        assert_eq!(
            merged(vec![("a", old), ("b", new)]),
            lines(&[
                ("QEMU_VERSION", "a: 7.2"),
                ("QEMU_VERSION", "b: 11.1"),
                ("IMGFMT", "raw"),
                ("ID", "b: 5f"),
            ])
        );
    }
}
