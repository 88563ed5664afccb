//! The old runner's cache of times: `.last-elapsed-cache`, a JSON object of test path,
//! protocol, format and seconds, for tests that passed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Combo, Test};

/// What is in the cache: seconds by test path, protocol and format.
#[derive(Debug, Default)]
pub(super) struct Times(BTreeMap<Box<str>, Few<Few<f64>>>);

impl Times {
    /// Reads the cache at `path`. As in the old runner, one that is not there or
    /// cannot be read is empty.
    pub(super) fn read(path: &Path) -> Self {
        let read = || serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        Self(read().unwrap_or_default())
    }

    /// Seconds the test took when it last passed.
    pub(super) fn get(&self, test: &Test, combo: &Combo) -> Option<f64> {
        let by_protocol = self.0.get(&*test.source.to_string_lossy())?;
        by_protocol
            .get(&combo.protocol)?
            .get(&combo.format)
            .copied()
    }

    fn insert(&mut self, test: &Test, combo: &Combo, secs: f64) {
        let path = test.source.to_string_lossy().into();
        let by_protocol = self.0.entry(path).or_default();
        let by_format = by_protocol.entry(&combo.protocol);
        *by_format.entry(&combo.format) = secs;
    }
}

/// What this run adds to the cache.
#[derive(Debug)]
pub(super) struct Elapsed {
    path: PathBuf,
    added: Vec<(Arc<Test>, Arc<Combo>, f64)>,
}

impl Elapsed {
    /// Nothing, as yet, for the cache at `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            added: Vec::new(),
        }
    }

    /// Notes that the test passed in `secs` (kept to a tenth, as the old runner
    /// does).
    pub(super) fn passed(&mut self, test: &Arc<Test>, combo: &Arc<Combo>, secs: f64) {
        let secs = (secs * 10.0).round() / 10.0;
        self.added.push((Arc::clone(test), Arc::clone(combo), secs));
    }

    /// Writes the cache in one piece, with what others have written to it since.
    pub(super) fn save(&mut self) -> io::Result<()> {
        if self.added.is_empty() {
            return Ok(());
        }
        let mut times = Times::read(&self.path);
        for (test, combo, secs) in self.added.drain(..) {
            times.insert(&test, &combo, secs);
        }
        atomic_write::write(&self.path, |out| {
            serde_json::to_writer(out, &times.0).map_err(io::Error::other)
        })
    }
}

/// A JSON object with few names. A map of its own for each of ten thousand tests
/// would waste memory on unused capacity.
#[derive(Debug)]
struct Few<V>(Vec<(Box<str>, V)>);

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Few<V> {
    fn get(&self, name: &str) -> Option<&V> {
        let found = self.0.iter().find(|(known, _)| **known == *name);
        found.map(|(_, value)| value)
    }

    fn entry(&mut self, name: &str) -> &mut V
    where
        V: Default,
    {
        let known = self.0.iter().position(|(known, _)| **known == *name);
        let at = known.unwrap_or_else(|| {
            self.0.reserve_exact(1);
            self.0.push((name.into(), V::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl<V: Serialize> Serialize for Few<V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, V: Deserialize<'de> + Default> Deserialize<'de> for Few<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de> + Default> Visitor<'de> for Names<V> {
            type Value = Few<V>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<V>, A::Error> {
                let mut few = Few::default();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    *few.entry(&name) = value;
                }
                Ok(few)
            }
        }

        from.deserialize_map(Names(PhantomData))
    }
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
        let (test, qcow2) = (sample::test("001"), Arc::new(sample::combo("qcow2")));
        let known = Times::read(&path);
        assert_eq!(known.get(&test, &qcow2), Some(2.2));
        assert_eq!(known.get(&test, &sample::combo("vdi")), None);
        let mut cache = Elapsed::new(&path);
        let test = Arc::new(test);
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
        let cache = Times::read(&path);
        assert_eq!(cache.get(&sample::test("001"), &sample::combo("raw")), None);
    }
}
