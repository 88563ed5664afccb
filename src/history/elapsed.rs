//! The old runner's memory: `.last-elapsed-cache`, a JSON object of test path,
//! protocol, format and seconds, for tests that passed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Combo, Test};

type Times = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;

/// The cache: what was in the file, and what this run adds to it.
#[derive(Debug, Clone)]
pub(super) struct Elapsed {
    path: PathBuf,
    times: Times,
    added: Vec<(String, String, String, f64)>,
}

impl Elapsed {
    /// Reads the cache at `path`. As in the old runner, one that is not there or
    /// cannot be read is empty.
    pub(super) fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            times: load(path),
            added: Vec::new(),
        }
    }

    /// Seconds the test took when it last passed.
    pub(super) fn get(&self, test: &Test, combo: &Combo) -> Option<f64> {
        let by_protocol = self.times.get(&key(test))?;
        by_protocol
            .get(&combo.protocol)?
            .get(&combo.format)
            .copied()
    }

    /// Notes that the test passed in `secs` (kept to a tenth, as the old runner
    /// does).
    pub(super) fn passed(&mut self, test: &Test, combo: &Combo, secs: f64) {
        let secs = (secs * 10.0).round() / 10.0;
        self.added.push((
            key(test),
            combo.protocol.clone(),
            combo.format.clone(),
            secs,
        ));
    }

    /// Writes the cache in one piece, with what others have written to it since.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.added.is_empty() {
            return Ok(());
        }
        let mut times = load(&self.path);
        for (test, protocol, format, secs) in self.added.drain(..) {
            let by_protocol = times.entry(test).or_default();
            by_protocol
                .entry(protocol)
                .or_default()
                .insert(format, secs);
        }
        let bytes = serde_json::to_vec(&times)?;
        self.times = times;
        crate::whole_file::write_whole(&self.path, |out| out.write_all(&bytes))
    }
}

fn key(test: &Test) -> String {
    test.source.to_string_lossy().into_owned()
}

fn load(path: &Path) -> Times {
    let Ok(bytes) = std::fs::read(path) else {
        return Times::new();
    };
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_old_runners_times_are_read_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".last-elapsed-cache");
        std::fs::write(&path, r#"{"/src/001": {"file": {"qcow2": 2.2, "raw": 1}}}"#).unwrap();
        let (test, qcow2) = (sample::test("001"), sample::combo("qcow2"));
        let mut cache = Elapsed::read(&path);
        assert_eq!(cache.get(&test, &qcow2), Some(2.2));
        assert_eq!(cache.get(&test, &sample::combo("vdi")), None);
        cache.passed(&test, &qcow2, 3.0871);
        // Another run writes in between.
        std::fs::write(&path, r#"{"/src/002": {"nbd": {"raw": 9.5}}}"#).unwrap();
        cache.save().unwrap();
        let again = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            again,
            r#"{"/src/001":{"file":{"qcow2":3.1}},"/src/002":{"nbd":{"raw":9.5}}}"#
        );
    }

    #[test]
    fn a_broken_cache_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        std::fs::write(&path, "{\"x\": [").unwrap();
        let cache = Elapsed::read(&path);
        assert_eq!(cache.get(&sample::test("001"), &sample::combo("raw")), None);
    }
}
