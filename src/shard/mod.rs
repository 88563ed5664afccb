//! Shards: which share of the jobs a run has.

mod assign;
mod environment;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::args::{self, LowArgs};
use crate::model::{Combo, HeaderLine, Test};
use crate::report::Shard;

/// Seconds that tests took under their combinations.
pub type Times = HashMap<(String, Combo), f64>;

/// The share of this run.
#[derive(Debug)]
pub struct Share {
    index: usize,
    of: usize,
    /// The variable that says which, where one does.
    from: Option<&'static str>,
    times: Option<(PathBuf, Times)>,
}

impl Share {
    /// The share that the arguments ask for, in an environment that `var` tells; `None` for
    /// all jobs. `times` are those of `--shard-times`.
    ///
    /// # Errors
    ///
    /// The environment does not say which, or says nonsense.
    pub fn find(
        args: &LowArgs,
        var: &dyn Fn(&str) -> Option<OsString>,
        times: Option<Times>,
    ) -> Result<Option<Self>> {
        let (index, of, from) = match args.shard {
            None => return Ok(None),
            Some(args::Share::Of(index, of)) => (index, of, None),
            Some(args::Share::Auto) => environment::share(var)?,
        };
        Ok(Some(Self {
            index,
            of,
            from,
            times: args.shard_times.clone().zip(times),
        }))
    }

    /// The header's line.
    #[must_use]
    pub fn header(&self) -> HeaderLine {
        let mut text = format!("{} of {}", self.index, self.of);
        if let Some(from) = self.from {
            text.push_str(&format!(" ({from})"));
        }
        if let Some((file, _)) = &self.times {
            text.push_str(&format!(", balanced by times of {}", file.display()));
        }
        ("SHARD".to_owned(), text)
    }

    /// Which of `pairs` are in this share, and the share as reports name it.
    #[must_use]
    pub fn of_pairs(&self, pairs: &[(&Arc<Test>, &Arc<Combo>)]) -> (Vec<bool>, Shard) {
        let shares = match &self.times {
            None => (0..pairs.len()).map(|n| n % self.of).collect(),
            Some((_, times)) => assign::balanced(pairs, self.of, times),
        };
        let mine = shares.iter().map(|share| *share == self.index - 1);
        let shard = Shard {
            index: self.index,
            of: self.of,
            jobs: pairs.len(),
            plan: assign::fingerprint(pairs, &shares),
        };
        (mine.collect(), shard)
    }
}
