//! What a word of the command line names: one test, or several.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use globset::Glob;

use super::{Layout, Tree, is_number};
use crate::model::Test;

/// The tests that a word names.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// At least one, in order.
    pub tests: Vec<&'a Arc<Test>>,
    /// Whether the word is the name or the path of one test.
    pub exact: bool,
}

impl Tree {
    /// The tests that `word` names: a name as [`Tree::find`] takes it, a pattern (`00*`), a
    /// range of numbers (`001-005`) or, in our layout, the path of a test or a reference.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn named(&self, word: &str) -> Result<Named<'_>> {
        let exact = |test| Named {
            tests: vec![test],
            exact: true,
        };
        let not_found = match self.find(word) {
            Ok(test) => return Ok(exact(test)),
            Err(error) => error,
        };
        if self.layout == Layout::Ours
            && let Some(found) = self.by_path(word)
        {
            return found.map(exact);
        }
        let tests: Vec<_> = if let Some((first, last)) = range(word) {
            if first > last {
                bail!("range '{word}': the first number is above the last");
            }
            let number = |test: &Test| test.name.parse().ok().filter(|_| is_number(&test.name));
            let within = |test: &Test| number(test).is_some_and(|n| (first..=last).contains(&n));
            self.tests().filter(|test| within(test)).collect()
        } else if !word.contains('/') && word.contains(['*', '?', '[']) {
            let glob = Glob::new(word).with_context(|| format!("pattern '{word}'"))?;
            let glob = glob.compile_matcher();
            self.tests()
                .filter(|test| glob.is_match(&test.name))
                .collect()
        } else {
            return Err(not_found);
        };
        if tests.is_empty() {
            bail!("no test matches '{word}' in {}", self.source.display());
        }
        Ok(Named {
            tests,
            exact: false,
        })
    }

    /// The test that a path is about; `None` where `word` is no path. It may begin at the
    /// current directory or at the top of the tree.
    fn by_path(&self, word: &str) -> Option<Result<&Arc<Test>>> {
        let path = Path::new(word);
        let file = path.file_name()?.to_str()?;
        let (number, _) = file.split_once('.').unwrap_or((file, ""));
        if !word.contains('/') && (number == file || !is_number(number)) {
            return None;
        }
        let real = |dir: &Path| dir.canonicalize().ok();
        let here = std::env::current_dir().ok();
        let starts = here.iter().chain([&self.source]);
        let mut parents = starts.filter_map(|start| real(start.join(path).parent()?));
        let test = self.tests.get(number);
        let is_its = |parent: &Path, test: &Test| {
            let source = test.source.parent().and_then(real);
            let is_source = test.source.file_name().is_some_and(|name| name == file);
            (is_source && source.as_deref() == Some(parent))
                || (file.starts_with(&format!("{number}.out"))
                    && real(&test.golden_dir).as_deref() == Some(parent))
        };
        let found = test.filter(|test| parents.any(|parent| is_its(&parent, test)));
        Some(found.with_context(|| {
            format!(
                "'{word}' is neither a test nor a reference of {}",
                self.source.display()
            )
        }))
    }
}

/// The numbers of a range such as `001-005`.
fn range(word: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (first, last) = word.split_once('-')?;
    Some((number(first)?, number(last)?))
}
