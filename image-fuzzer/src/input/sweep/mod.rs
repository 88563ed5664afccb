//! The sweep: the limits of the format, each tried alone, in a fixed order.
//!
//! Of qcow2 the first pass tries one or two telling values for each field that readers check, the
//! second the other limits (`rows`), the third every boundary value of every field of every
//! base image. Of other formats (`other`) the first pass tries one boundary value of each class
//! of fields, the second a few more, the third the others.
//!
//! Imports go from this file to `rows`, `rule`, `bases` and `other`, from `rows` to `rule` and
//! from `other` to `bases`.

mod bases;
mod other;
mod rows;
mod rule;

pub use bases::{NamedBase, bases};

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use anyhow::Result;
use image_formats::{Field, Format};

use crate::input::command::Command;
use image_mutations::base::{Base, Formats, Prepared, prepare};
use image_mutations::edit::{Edit, Mutation, Number};
use image_mutations::map::structure;
use image_mutations::mutate::{FieldSelection, interesting, numeric};
use rows::{FIRST, Row, SECOND};

/// Which tests of the sweep are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restriction<'a> {
    /// The families that edits may belong to; empty for all.
    pub families: &'a [String],
    /// The fields that alone may be changed.
    pub selection: Option<&'a FieldSelection>,
    /// Images that need a key are left out.
    pub keyless: bool,
    /// The commands of the sweep are not run, so that tests that differ in them alone are one.
    pub without_commands: bool,
}

/// The tests of the sweep, in order.
#[derive(Debug)]
pub struct Sweep {
    bases: Vec<Swept>,
    tests: Vec<Entry>,
    /// How many tests each pass and those before it have.
    ends: [usize; 3],
}

/// A base image and its fields.
#[derive(Debug)]
struct Swept {
    name: String,
    base: Base,
    prepared: Prepared,
}

/// A test, as it is stored: there are tens of thousands.
#[derive(Debug)]
enum Entry {
    /// A value of a row.
    Row {
        base: usize,
        row: &'static Row,
        edits: Vec<Edit>,
    },
    /// A boundary value of a field.
    Boundary {
        base: usize,
        field: Arc<str>,
        value: u64,
    },
}

/// A test of the sweep.
#[derive(Clone, Debug)]
pub struct SweepTest<'a> {
    /// The name of its base image.
    pub name: &'a str,
    /// The base image.
    pub base: &'a Base,
    /// What is tried, in a few words.
    pub class: &'static str,
    /// What is changed.
    pub edits: Vec<Mutation>,
    /// The commands that reach it, without the key of an encrypted image.
    pub commands: Vec<Command>,
}

impl Sweep {
    /// The tests of `formats` that `restriction` leaves.
    ///
    /// # Errors
    ///
    /// A base image cannot be made, which would be a bug of the fuzzer.
    pub fn new(formats: &Formats, restriction: Restriction<'_>) -> Result<Self> {
        let mut passes: [Vec<Vec<Entry>>; 3] = Default::default();
        let mut sweep = Self {
            bases: Vec::new(),
            tests: Vec::new(),
            ends: [0; 3],
        };
        for name in formats.names() {
            let Some(format) = Format::from_name(name) else {
                continue;
            };
            let start = sweep.bases.len();
            let of_format = match format {
                Format::Qcow2 => bases(),
                _ => other::bases(format),
            };
            sweep.prepare(of_format, restriction)?;
            let entries = match format {
                Format::Qcow2 => sweep.rows_and_boundaries(restriction),
                _ => sweep.other_boundaries(start, restriction),
            };
            for (pass, entries) in passes.iter_mut().zip(entries) {
                pass.push(entries);
            }
        }
        for (pass, entries) in passes.into_iter().enumerate() {
            sweep.tests.extend(in_turn(entries));
            sweep.ends[pass] = sweep.tests.len();
        }
        Ok(sweep)
    }

    /// Adds base images, made ready to be changed.
    fn prepare(&mut self, bases: Vec<NamedBase>, restriction: Restriction<'_>) -> Result<()> {
        for NamedBase { name, base } in bases {
            if restriction.keyless && base.is_encrypted() {
                continue;
            }
            let prepared = prepare(&base)?;
            self.bases.push(Swept {
                name,
                base,
                prepared,
            });
        }
        Ok(())
    }

    /// The passes of qcow2.
    fn rows_and_boundaries(&self, restriction: Restriction<'_>) -> [Vec<Entry>; 3] {
        let mut seen = HashSet::new();
        let mut rows = |rows| self.rows(rows, restriction, &mut seen);
        [rows(FIRST), rows(SECOND), self.boundaries(restriction)]
    }

    /// The passes of another format, whose base images are those from `start` on. A class of
    /// fields is tried in the first image that has it; in the others a few values last.
    fn other_boundaries(&self, start: usize, restriction: Restriction<'_>) -> [Vec<Entry>; 3] {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        let mut known = BTreeSet::new();
        for (base, swept) in self.bases.iter().enumerate().skip(start) {
            for (class, field) in other::fields(&swept.prepared) {
                let path: Arc<str> = field.path.as_str().into();
                if !restriction.allows_other(&swept.prepared, &path) {
                    continue;
                }
                let mut values = other::values(&swept.prepared, field);
                if known.insert(class) {
                    first.push((base, path, values));
                } else {
                    values.truncate(other::AGAIN);
                    again.push((base, path, values));
                }
            }
        }
        let mut rounds = in_rounds(&first);
        let [one, few] = other::FIRST_ROUNDS;
        let mut rest: Vec<Entry> = rounds
            .split_off(few.min(rounds.len()))
            .into_iter()
            .flatten()
            .collect();
        let second = rounds
            .split_off(one.min(rounds.len()))
            .into_iter()
            .flatten();
        let second: Vec<Entry> = second.collect();
        let first: Vec<Entry> = rounds.into_iter().flatten().collect();
        let mut last: Vec<Entry> = in_rounds(&again).into_iter().flatten().collect();
        last.append(&mut rest);
        let left = other::MOST_TESTS.saturating_sub(first.len() + second.len());
        last.truncate(left);
        [first, second, last]
    }

    /// How many tests there are.
    pub fn len(&self) -> u64 {
        self.tests.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The pass that test `index` belongs to, counted from 0.
    pub fn pass(&self, index: u64) -> usize {
        self.ends.iter().filter(|end| **end as u64 <= index).count()
    }

    /// The test of that index.
    pub fn get(&self, index: u64) -> Option<SweepTest<'_>> {
        let entry = self.tests.get(usize::try_from(index).ok()?)?;
        let (Entry::Row { base, .. } | Entry::Boundary { base, .. }) = entry;
        let Swept {
            name,
            base,
            prepared,
        } = &self.bases[*base];
        let (class, edits, commands, path) = match entry {
            Entry::Row { row, edits, .. } => {
                let edits = label(prepared, row.path, edits.clone());
                (row.class, edits, row.commands, row.path)
            }
            Entry::Boundary { field, value, .. } if base.format() != Format::Qcow2 => {
                let edits = other::edits(prepared, field, *value);
                ("boundary", edits, other::commands(base.format()), &**field)
            }
            Entry::Boundary { field, value, .. } => {
                let edit = Edit::Set {
                    path: field.to_string(),
                    value: Number(*value),
                };
                let commands = rows::commands_for(structure(field));
                let edits = label(prepared, field, vec![edit]);
                ("boundary", edits, commands, &**field)
            }
        };
        let commands = commands.iter().map(|line| command(prepared, path, line));
        Some(SweepTest {
            name,
            base,
            class,
            edits,
            commands: commands.collect(),
        })
    }

    /// The values of `rows`, the first of each row before the second of any.
    fn rows(
        &self,
        rows: &'static [Row],
        restriction: Restriction<'_>,
        seen: &mut HashSet<String>,
    ) -> Vec<Entry> {
        let mut tests = Vec::new();
        let most = rows.iter().map(|row| row.values.len()).max().unwrap_or(0);
        for round in 0..most {
            for row in rows {
                let Some(value) = row.values.get(round) else {
                    continue;
                };
                let Some(base) = self.bases.iter().position(|base| base.name == row.base) else {
                    continue;
                };
                let prepared = &self.bases[base].prepared;
                let Some(mut edits) = rule::edits(prepared, row.path, *value) else {
                    continue;
                };
                let also = row.also.iter();
                edits.extend(
                    also.filter_map(|(path, value)| rule::edits(prepared, path, *value))
                        .flatten(),
                );
                let commands = if restriction.without_commands {
                    &[][..]
                } else {
                    row.commands
                };
                let new = seen.insert(format!("{base} {edits:?} {commands:?}"));
                if new && restriction.allows(prepared, row.path, &edits) {
                    tests.push(Entry::Row { base, row, edits });
                }
            }
        }
        tests
    }

    /// Every boundary value of the fields, one of each field before another of any. Of the
    /// entries of a table only the first of their kind are taken.
    fn boundaries(&self, restriction: Restriction<'_>) -> Vec<Entry> {
        let mut fields = Vec::new();
        let qcow2 = |(_, swept): &(usize, &Swept)| swept.base.format() == Format::Qcow2;
        for (index, swept) in self.bases.iter().enumerate().filter(qcow2) {
            let map = &swept.prepared.map;
            let mut kinds = BTreeSet::new();
            for field in map.fields().iter().filter(|field| numeric(field)) {
                let path = &field.path;
                if !kinds.insert(pattern(path)) || path.ends_with("iterations") {
                    continue;
                }
                let any = [Edit::Set {
                    path: path.clone(),
                    value: Number(0),
                }];
                if restriction.allows(&swept.prepared, path, &any) {
                    let path: Arc<str> = path.as_str().into();
                    fields.push((index, path, interesting(map, field)));
                }
            }
        }
        in_rounds(&fields).into_iter().flatten().collect()
    }
}

/// A field of a base image, and its values.
type Tried = (usize, Arc<str>, Vec<u64>);

/// One value of each field before another of any, a list for each round.
fn in_rounds(fields: &[Tried]) -> Vec<Vec<Entry>> {
    let most = fields.iter().map(|(.., values)| values.len()).max();
    let round = |round: usize| {
        let of_round = fields.iter().filter_map(|(base, field, values)| {
            Some(Entry::Boundary {
                base: *base,
                field: Arc::clone(field),
                value: *values.get(round)?,
            })
        });
        of_round.collect()
    };
    (0..most.unwrap_or(0)).map(round).collect()
}

/// One of each list before another of any.
fn in_turn(lists: Vec<Vec<Entry>>) -> Vec<Entry> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(lists.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}

impl Restriction<'_> {
    /// Whether a field of an image of another format than qcow2 may be changed.
    fn allows_other(self, prepared: &Prepared, path: &str) -> bool {
        let family = other::family(prepared, path);
        let in_family = self.families.is_empty() || self.families.iter().any(|it| it == family);
        let map = &prepared.map;
        in_family && self.selection.is_none_or(|it| it.contains(map, path))
    }

    /// Whether such edits may be made.
    fn allows(self, prepared: &Prepared, path: &str, edits: &[Edit]) -> bool {
        let family = rule::family(path, field(prepared, path, edits));
        let families = self.families;
        let in_family = families.is_empty() || families.iter().any(|name| name == family);
        let selected = self.selection.is_none_or(|selection| {
            edits.iter().all(|edit| match edit {
                Edit::Set { path, .. } => selection.contains(&prepared.map, path),
                _ => false,
            })
        });
        in_family && selected
    }
}

/// The field that the edits are about.
fn field<'a>(prepared: &'a Prepared, path: &str, edits: &[Edit]) -> Option<&'a Field> {
    let of_edit = edits.iter().find_map(|edit| match edit {
        Edit::Set { path, .. } => prepared.map.get(path),
        _ => None,
    });
    prepared.map.get(path).or(of_edit)
}

/// The edits with the family that each would be drawn from.
fn label(prepared: &Prepared, path: &str, edits: Vec<Edit>) -> Vec<Mutation> {
    let family = rule::family(path, field(prepared, path, &edits));
    let mutation = |edit| Mutation {
        family: family.to_owned(),
        edit,
    };
    edits.into_iter().map(mutation).collect()
}

/// The path with its indexes left out.
fn pattern(path: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    path.split('[')
        .map(|part| part.trim_start_matches(is_digit))
        .collect()
}

/// A cluster that has no data in any base image.
const FREE_CLUSTER: u64 = 8;

/// The command of a row, for a change of the field of that path.
fn command(prepared: &Prepared, path: &str, line: &str) -> Command {
    let map = &prepared.map;
    let size = map.number("header.size").unwrap_or(0);
    let numbers = [
        ("$at", rule::guest_offset(prepared, path)),
        ("$cluster", map.cluster),
        ("$double", 2 * map.cluster),
        ("$free", FREE_CLUSTER * map.cluster),
        ("$last", size.saturating_sub(map.cluster)),
    ];
    let fill = |word: String| {
        let numbers = numbers.iter();
        numbers.fold(word, |word, (name, value)| {
            word.replace(name, &value.to_string())
        })
    };
    let words = shlex::split(line).unwrap_or_default();
    Command(words.into_iter().map(fill).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::{FUZZER, Recipe};
    use image_mutations::case::Maker;
    use image_mutations::rng::{FNV_START, fnv};

    fn all() -> Sweep {
        Sweep::new(&Formats::default(), Restriction::default()).unwrap()
    }

    fn recipe(test: SweepTest<'_>) -> Recipe {
        Recipe {
            fuzzer: FUZZER.into(),
            seed: String::new(),
            base: test.base.clone(),
            edits: test.edits,
            commands: test.commands,
            guard: None,
            fresh_copies: true,
        }
    }

    /// What changes the list on purpose changes the number.
    #[test]
    fn the_list_is_always_the_same() {
        let hash = |sweep: &Sweep| {
            (0..sweep.ends[1] as u64)
                .filter_map(|index| sweep.get(index))
                .fold(FNV_START, |hash, test| {
                    fnv(hash, recipe(test).to_json().unwrap().as_bytes())
                })
        };
        let (sweep, again) = (all(), all());
        assert_eq!(hash(&sweep), hash(&again));
        assert_eq!((sweep.ends, hash(&sweep)), (again.ends, hash(&sweep)));
        assert_eq!(sweep.len(), sweep.ends[2] as u64);
    }

    #[test]
    fn every_value_of_every_row_gives_a_test() {
        let bases = bases();
        let mut without = Vec::new();
        for row in FIRST.iter().chain(SECOND) {
            let named = bases.iter().find(|named| named.name == row.base);
            let base = &named.unwrap_or_else(|| panic!("{row:?}")).base;
            let prepared = prepare(base).unwrap();
            for value in row.values {
                let edits = rule::edits(&prepared, row.path, *value);
                if edits.is_none() {
                    without.push(format!("{}: {} {value:?}", row.base, row.path));
                }
            }
            for (path, value) in row.also {
                assert!(rule::edits(&prepared, path, *value).is_some(), "{path}");
            }
            for line in row.commands {
                let command = command(&prepared, row.path, line);
                let text = command.shell().replace("$test_img", "");
                assert!(!text.contains('$'), "{text}");
            }
        }
        assert!(without.is_empty(), "{without:#?}");
    }

    #[test]
    fn every_test_can_be_built() {
        let sweep = all();
        let mut maker = Maker::default();
        let rows = sweep.ends[1] as u64;
        // Of the third pass a sample: there are tens of thousands.
        for index in (0..rows).chain((rows..sweep.len()).step_by(37)) {
            let test = sweep.get(index).unwrap();
            assert!(
                !test.edits.is_empty() && !test.commands.is_empty(),
                "{index}"
            );
            let recipe = recipe(test);
            if let Err(why) = maker.files(&recipe.base, &recipe.edits) {
                panic!("{index}: {why:#}\n{}", recipe.to_json().unwrap());
            }
        }
        assert!(sweep.get(sweep.len()).is_none());
    }

    #[test]
    fn every_class_is_tried_and_the_passes_follow_each_other() {
        let sweep = all();
        let classes = |pass: usize| -> BTreeSet<&str> {
            let tests = (0..sweep.len()).filter(|index| sweep.pass(*index) == pass);
            let tests = tests.filter_map(|index| sweep.get(index));
            tests.map(|test| test.class).collect()
        };
        let first = classes(0);
        for class in [
            "refcount order",
            "cluster size",
            "refcount table size",
            "header length",
            "extension length",
            "backing format length",
            "backing file name",
            "encryption header extension",
            "bitmaps extension length",
            "bitmap granularity",
            "bitmap table size",
            "bitmap table entry",
            "bitmap directory size",
            "bitmap directory offset",
            "bitmap count",
            "snapshot table offset",
            "snapshot count",
            "snapshot extra data",
            "snapshot L1 table size",
            "L1 table size",
            "disk size",
            "disk size against the L1 table",
            "subcluster size",
            "data file name length",
            "header said to be free",
            "data cluster unaligned",
            "L2 table unaligned",
            "compressed cluster past the end",
            "refcount of a data cluster",
            "zero cluster in version 2",
            "reserved bits",
            "file length",
        ] {
            assert!(first.contains(class), "{class}");
        }
        let second = classes(1);
        assert!(second.contains("snapshot ID length") && second.contains("subclusters"));
        assert_eq!(classes(2), BTreeSet::from(["boundary"]));
        // Entries of the bitmap directory of 1 to 31 bytes, and lengths of over a gibibyte.
        let mut lengths = BTreeSet::new();
        for test in (0..sweep.ends[1] as u64).filter_map(|index| sweep.get(index)) {
            for mutation in &test.edits {
                if let Edit::Set { path, value } = &mutation.edit
                    && path.ends_with("bitmap_directory_size")
                {
                    lengths.insert(value.0);
                }
            }
        }
        assert!(
            [1, 8, 23, 24, 31]
                .iter()
                .all(|length| lengths.contains(length))
        );
        assert!(
            lengths
                .iter()
                .any(|length| (1 << 30..1 << 31).contains(length))
        );
    }

    #[test]
    fn families_and_fields_restrict_the_list() {
        let families = ["bitmap".to_owned()];
        let bitmaps = Restriction {
            families: &families,
            ..Restriction::default()
        };
        let bitmaps = Sweep::new(&Formats::default(), bitmaps);
        let bitmaps = bitmaps.unwrap();
        assert!(bitmaps.len() > 100 && bitmaps.len() < all().len() / 5);
        let family = |test: &SweepTest<'_>| test.edits[0].family == "bitmap";
        assert!((0..bitmaps.len()).all(|index| bitmaps.get(index).is_some_and(|t| family(&t))));
        let selection: FieldSelection = r#"[["header","l1_size"]]"#.parse().unwrap();
        let fields = Restriction {
            selection: Some(&selection),
            keyless: true,
            without_commands: true,
            ..Restriction::default()
        };
        let fields = Sweep::new(&Formats::default(), fields);
        let fields = fields.unwrap();
        assert!(fields.len() > 10);
        for test in (0..fields.len()).filter_map(|index| fields.get(index)) {
            assert!(!test.base.is_encrypted());
            assert!(
                matches!(&test.edits[..], [Mutation { edit: Edit::Set { path, .. }, .. }]
                if path == "header.l1_size")
            );
        }
    }

    /// What the tests of a format change, by class, in the order of the sweep.
    fn classes(sweep: &Sweep, pass: usize) -> Vec<String> {
        let tests = (0..sweep.len()).filter(|index| sweep.pass(*index) == pass);
        let class = |index| {
            let test = sweep.get(index)?;
            let Edit::Set { path, .. } = &test.edits.first()?.edit else {
                return None;
            };
            let base = sweep.bases.iter().find(|it| it.name == test.name)?;
            Some(base.prepared.map.class(path))
        };
        tests.filter_map(class).collect()
    }

    #[test]
    fn other_formats_begin_with_each_class_once() {
        let mut maker = Maker::default();
        for word in Formats::words_of_one() {
            let formats = Formats::named(word).unwrap();
            if ["qcow2", "raw"].contains(&word) {
                continue;
            }
            let sweep = Sweep::new(&formats, Restriction::default()).unwrap();
            assert!(
                (50..=other::MOST_TESTS as u64).contains(&sweep.len()),
                "{word}"
            );
            let first = classes(&sweep, 0);
            let once: BTreeSet<&String> = first.iter().collect();
            assert_eq!(once.len(), first.len(), "{word}");
            let all: BTreeSet<String> = (0..3).flat_map(|it| classes(&sweep, it)).collect();
            assert_eq!(all.len(), first.len(), "{word}");
            for index in (0..sweep.len()).step_by(97) {
                let recipe = recipe(sweep.get(index).unwrap());
                maker.files(&recipe.base, &recipe.edits).unwrap();
            }
        }
    }

    #[test]
    fn the_formats_of_a_sweep_take_turns() {
        let all = Formats::named("all").unwrap();
        let selection = FieldSelection::for_formats(r#"[["header","version"]]"#, &all).unwrap();
        let restriction = Restriction {
            selection: Some(&selection),
            ..Restriction::default()
        };
        let sweep = Sweep::new(&all, restriction).unwrap();
        let format = |index| sweep.get(index).unwrap().base.format();
        let first: BTreeSet<Format> = (0..4).map(format).collect();
        assert_eq!(first.len(), 4);
    }
}
