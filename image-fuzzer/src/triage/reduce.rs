//! Reducing a recipe: fewer commands, fewer edits, a simpler base image, simpler values,
//! fewer bytes; after each step it must show the same group.

use std::time::{Duration, Instant};

use image_formats::qcow2::{Compression, Placement, Spec};
use image_formats::{AnyImage, ReadAt as _};
use serde_json::Value;

use super::Key;
use super::judge::Judge;
use crate::commands::Command;
use crate::input::recipe::Recipe;
use crate::oracle::timeout::TimeoutPolicy;
use image_mutations::base::{Base, ImportedBase, Qcow2Base};
use image_mutations::edit::{Edit, Number};

/// How long reducing may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The most tests.
    pub tests: u32,
    /// The most time.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tests: 400,
            time: Duration::from_secs(40),
        }
    }
}

/// How closely the groups of variations are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// Without a debugger, commands being timed out so.
    Coarse(TimeoutPolicy),
    /// Named in full.
    Full,
}

/// A smaller recipe of the same group, and how many tests of the budget are left.
pub(super) fn reduce(
    recipe: &Recipe,
    key: &Key,
    judge: &mut dyn Judge,
    precision: Precision,
    budget: Budget,
) -> (Recipe, u32) {
    let mut reducer = Reducer {
        best: recipe.clone(),
        key: match precision {
            Precision::Coarse(_) => key.coarse(),
            Precision::Full => key.clone(),
        },
        judge,
        precision,
        tests: budget.tests,
        end: Instant::now() + budget.time,
    };
    loop {
        let before = reducer.best.clone();
        reducer.guard();
        reducer.commands();
        reducer.edits();
        reducer.base();
        reducer.values();
        if reducer.best == before || reducer.spent() {
            return (reducer.best, reducer.tests);
        }
    }
}

struct Reducer<'a> {
    best: Recipe,
    key: Key,
    judge: &'a mut dyn Judge,
    precision: Precision,
    tests: u32,
    end: Instant,
}

impl Reducer<'_> {
    fn spent(&self) -> bool {
        self.tests == 0 || Instant::now() >= self.end || self.judge.is_over()
    }

    /// Takes `candidate` for the best where it is another recipe of the group.
    fn attempt(&mut self, candidate: Recipe) -> bool {
        if self.spent() || candidate == self.best {
            return false;
        }
        self.tests -= 1;
        let keys = match self.precision {
            Precision::Coarse(policy) => self.judge.coarse_keys(&candidate, policy),
            Precision::Full => self.judge.full_keys(&candidate).0,
        };
        let same = self.key.is_among(&keys) && !self.judge.is_aborted();
        if same {
            self.best = candidate;
        }
        same
    }

    /// Tries a change to the best recipe.
    fn change(&mut self, change: impl FnOnce(&mut Recipe)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.attempt(candidate)
    }

    /// Drops what can be dropped of a list, larger pieces first.
    fn thin<T>(&mut self, list: impl Fn(&mut Recipe) -> Option<&mut Vec<T>>, least: usize) {
        let count = |recipe: &mut Recipe| list(recipe).map_or(0, |list| list.len());
        let mut piece = count(&mut self.best).div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < count(&mut self.best) {
                let len = count(&mut self.best);
                let end = (at + piece).min(len);
                let enough = len - (end - at) >= least;
                let dropped = enough
                    && self.change(|recipe| {
                        if let Some(list) = list(recipe) {
                            list.drain(at..end);
                        }
                    });
                if !dropped {
                    at = end;
                }
            }
            piece /= 2;
        }
    }

    /// Does without the guarding allocator, or with less of it.
    fn guard(&mut self) {
        if self.best.guard.is_some() && !self.change(|recipe| recipe.guard = None) {
            self.change(|recipe| {
                if let Some(guard) = &mut recipe.guard {
                    guard.compare = false;
                }
            });
        }
    }

    fn commands(&mut self) {
        self.thin(|recipe| Some(&mut recipe.commands), 1);
        for index in 0..self.best.commands.len() {
            self.script(index);
        }
    }

    /// Drops operations of a `qemu-io` script, and options of any command.
    fn script(&mut self, index: usize) {
        let mut at = 1;
        while at < self.best.commands[index].0.len() {
            let Command(words) = &self.best.commands[index];
            let pair = ["-c", "-o", "-d", "-f", "-g", "-l"].contains(&words[at].as_str());
            let scripts = words.iter().filter(|word| *word == "-c").count();
            let script = words[0] == "qemu-io" && words[at] == "-c";
            let option = words[at].starts_with('-') && words[at] != "-r";
            let end = (at + if pair { 2 } else { 1 }).min(words.len());
            let able = option && words[end - 1] != "$test_img" && (!script || scripts > 1);
            let removed =
                able && self.change(|recipe| drop(recipe.commands[index].0.drain(at..end)));
            if !removed {
                at = end;
            }
        }
    }

    fn edits(&mut self) {
        self.thin(|recipe| Some(&mut recipe.edits), 0);
        for index in 0..self.best.edits.len() {
            if let Edit::Extensions { list } = &self.best.edits[index].edit {
                for at in (0..list.len()).rev() {
                    self.change(|recipe| {
                        if let Edit::Extensions { list } = &mut recipe.edits[index].edit {
                            list.remove(at);
                        }
                    });
                }
            }
        }
    }

    fn base(&mut self) {
        match &self.best.base {
            Base::Qcow2(_) => self.qcow2_base(),
            Base::Other(_) => self.other_base(),
            Base::Imported(_) => self.imported_base(),
        }
    }

    fn qcow2_base(&mut self) {
        self.change_qcow2(|base| base.image.bitmaps.clear());
        self.change_qcow2(|base| base.image.snapshots.clear());
        self.thin(
            |recipe| Some(&mut recipe.base.qcow2_mut()?.image.snapshots),
            0,
        );
        self.thin(
            |recipe| Some(&mut recipe.base.qcow2_mut()?.image.bitmaps),
            0,
        );
        self.thin(
            |recipe| Some(&mut recipe.base.qcow2_mut()?.image.clusters),
            0,
        );
        self.change_qcow2(|base| {
            base.backing = None;
            base.image.backing = None;
        });
        for simplify in SIMPLER {
            self.change_qcow2(simplify);
        }
    }

    fn change_qcow2(&mut self, change: impl FnOnce(&mut Qcow2Base)) {
        self.change(|recipe| {
            if let Some(base) = recipe.base.qcow2_mut() {
                change(base);
            }
        });
    }

    /// Simplifies the description of an image of another format by its JSON: each list
    /// shorter, each value that of the format's default.
    fn other_base(&mut self) {
        let Base::Other(other) = &self.best.base else {
            return;
        };
        if other.parent.is_some() {
            self.change(|recipe| {
                if let Base::Other(other) = &mut recipe.base {
                    other.parent = None;
                }
            });
        }
        let Some(fields) = self.best.base.fields() else {
            return;
        };
        for name in fields.keys() {
            // What is left out is the default.
            if self.change_field(name, |fields, name| drop(fields.remove(name))) {
                continue;
            }
            let count = fields[name].as_array().map_or(0, Vec::len);
            for at in (0..count).rev() {
                self.change_field(name, |fields, name| {
                    if let Some(Value::Array(list)) = fields.get_mut(name) {
                        list.remove(at);
                    }
                });
            }
        }
    }

    /// A shorter file, and zeros for as much of it as will do.
    fn imported_base(&mut self) {
        let len = |recipe: &Recipe| recipe.base.imported().map_or(0, |it| it.file().len());
        let mut step = len(&self.best) / 2;
        while step > 0 {
            let cut = len(&self.best).saturating_sub(step);
            if !self.change_imported(|base| base.truncate(cut)) {
                step /= 2;
            }
            step = step.min(len(&self.best) / 2);
        }
        let mut piece = len(&self.best).next_power_of_two() / 2;
        while piece > 0 {
            let data = self.best.base.imported().map(ImportedBase::data);
            let pieces = data.unwrap_or_default().into_iter().flat_map(|range| {
                let first = range.start / piece;
                (first..range.end.div_ceil(piece)).map(|index| index * piece)
            });
            let mut starts: Vec<u64> = pieces.collect();
            starts.dedup();
            // The finer ones are left to where there is time for all of them.
            if starts.len() > self.tests as usize / 2 {
                break;
            }
            for start in starts {
                self.change_imported(|base| base.clear(start..start + piece));
            }
            piece /= 2;
        }
    }

    fn change_imported(&mut self, change: impl FnOnce(&mut ImportedBase)) -> bool {
        self.change(|recipe| {
            if let Some(base) = recipe.base.imported_mut() {
                change(base);
            }
        })
    }

    /// Tries a change to a field of the description of an image of another format.
    fn change_field(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut serde_json::Map<String, Value>, &str),
    ) -> bool {
        self.change(|recipe| {
            if let Some(mut fields) = recipe.base.fields() {
                change(&mut fields, name);
                recipe.base.set_fields(fields);
            }
        })
    }

    fn values(&mut self) {
        let Some(image) = self.judge.base(&self.best) else {
            return;
        };
        for index in 0..self.best.edits.len() {
            match self.best.edits[index].edit.clone() {
                Edit::Set { path, value } => {
                    let before = image.get_uint(&path).unwrap_or(0);
                    self.number(index, before, value.0);
                }
                Edit::Bytes { at, bytes } => self.bytes(index, at.0, bytes.0.len(), &image),
                _ => {}
            }
        }
    }

    /// A simpler number in edit `index`: a plain small one, else the old one with
    /// as few bytes changed as will do.
    fn number(&mut self, index: usize, before: u64, value: u64) {
        let put = |recipe: &mut Recipe, number: u64| {
            if let Edit::Set { value, .. } = &mut recipe.edits[index].edit {
                *value = Number(number);
            }
        };
        for simple in [0, 1, before.wrapping_add(1), before.wrapping_add(512)] {
            if simple == value {
                return;
            }
            if simple != before && self.change(|recipe| put(recipe, simple)) {
                return;
            }
        }
        let mut number = value;
        for byte in 0..8 {
            let mask = 0xff_u64 << (byte * 8);
            for plain in [before & mask, 0] {
                let candidate = number & !mask | plain;
                if candidate != number
                    && candidate != before
                    && self.change(|recipe| put(recipe, candidate))
                {
                    number = candidate;
                    break;
                }
            }
        }
    }

    /// Fewer bytes in edit `index`: ends cut off, the rest put back one by one.
    fn bytes(&mut self, index: usize, at: u64, len: usize, image: &AnyImage) {
        let mut old = vec![0; len.min(1 << 16)];
        image.bytes().read(at, &mut old);
        let mut piece = old.len().div_ceil(2);
        while piece > 0 {
            for start in (0..old.len()).step_by(piece) {
                let end = (start + piece).min(old.len());
                self.change(|recipe| {
                    if let Edit::Bytes { bytes, .. } = &mut recipe.edits[index].edit {
                        bytes.0[start..end].copy_from_slice(&old[start..end]);
                    }
                });
            }
            piece /= 2;
        }
        self.change(|recipe| {
            if let Edit::Bytes { at, bytes } = &mut recipe.edits[index].edit {
                let same = |(byte, old): &(&u8, &u8)| byte == old;
                let front = bytes.0.iter().zip(&old).take_while(same).count();
                let back = bytes
                    .0
                    .iter()
                    .rev()
                    .zip(old.iter().rev())
                    .take_while(same)
                    .count();
                let end = bytes.0.len().saturating_sub(back).max(front);
                bytes.0 = bytes.0[front..end].to_vec();
                at.0 += front as u64;
            }
        });
    }
}

/// Ways to make a base image simpler.
const SIMPLER: [fn(&mut Qcow2Base); 14] = [
    |base| base.image.placement = Placement::default(),
    |base| base.image.extensions.clear(),
    |base| base.image.feature_names = false,
    |base| base.image.lazy_refcounts = false,
    |base| base.image.extra_l1_entries = 0,
    |base| base.image.data_file = None,
    |base| base.image.compression = Compression::Deflate,
    |base| base.image.refcount_order = 4,
    |base| base.image.extended_l2 = false,
    |base| base.image.header_length = Spec::default().header_length,
    |base| base.image.version = 3,
    |base| base.image.cluster_bits = 16,
    |base| base.image.virtual_size = 1 << 20,
    |base| {
        for snapshot in &mut base.image.snapshots {
            snapshot.clusters = None;
            snapshot.vm_state.clear();
            snapshot.icount = None;
        }
    },
];
