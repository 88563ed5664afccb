//! All that a store has, put together.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::reached::Reached;
use super::store::Store;
use super::table::Table;
use super::targets::Targets;
use crate::model::Combo;

/// A recording: programs, and what tests have reached of them.
#[derive(Debug, Default)]
pub struct Recording {
    /// The programs.
    pub tables: Vec<Table>,
    /// The functions of all programs, by file and name: one that is in several is one.
    pub functions: Vec<FunctionKey>,
    /// For each program, for each of its functions, which of `functions` it is.
    numbers: Vec<Vec<u32>>,
    /// For each program, what is inlined in its blocks.
    inlined: Vec<InlinedIn>,
    /// What each test has reached, by name.
    pub tests: Vec<TestReached>,
}

/// What is inlined in the blocks of a program: of [`Recording::functions`].
#[derive(Debug, Default)]
struct InlinedIn {
    /// For each block, where its part of `functions` ends.
    ends: Vec<u32>,
    functions: Vec<u32>,
}

impl InlinedIn {
    /// Of the program `table`; `number` gives the number of a file and name there.
    fn new(table: &Table, mut number: impl FnMut(u32, u32) -> Option<u32>) -> Self {
        let mut all = Self::default();
        let mut within = table.inlined.iter().peekable();
        for (block, it) in (0..).zip(&table.blocks) {
            // The last frame is the function that the block is in.
            let frames = table.frames_of(it).iter().rev().skip(1);
            let frames = frames.filter_map(|it| number(it.file, it.name));
            all.functions.extend(frames);
            while let Some(it) = within.next_if(|it| it.block == block) {
                // Where the function has no other blocks, it is not known what was reached.
                if table.has_all_blocks(block) {
                    all.functions.extend(number(it.file, it.name));
                }
            }
            let end = u32::try_from(all.functions.len()).unwrap_or(u32::MAX);
            all.ends.push(end);
        }
        all
    }

    fn of(&self, block: u32) -> &[u32] {
        let end = |block: u32| self.ends.get(block as usize).copied();
        let start = block.checked_sub(1).map_or(Some(0), end).unwrap_or(0);
        let range = start as usize..end(block).unwrap_or(start) as usize;
        self.functions.get(range).unwrap_or_default()
    }
}

/// A function, whatever programs it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey {
    /// Its source file; empty where it is not known.
    pub file: String,
    /// Its name, or where it is in its program.
    pub name: String,
    /// The line it starts at; 0 where it is not known.
    pub line: u32,
}

/// What a test has reached under a combination.
#[derive(Debug)]
pub struct TestReached {
    /// As it was recorded.
    pub reached: Reached,
    /// Functions, by number, each with the milliseconds after which it was reached.
    pub functions: Vec<(u32, u32)>,
    /// How many of them not every start of their program reaches.
    pub own: usize,
}

/// A test that reaches what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The test.
    pub test: String,
    /// The combination.
    pub combo: Combo,
    /// How many tests reach the function, of those asked for, that the fewest do.
    pub rarest: usize,
    /// How many of the functions asked for it reaches.
    pub hits: usize,
    /// After how many milliseconds it has reached the first.
    pub after_ms: u32,
    /// How many functions it reaches in all, without those that every start reaches.
    pub own: usize,
}

/// A function that a test reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionReached {
    /// Which.
    pub function: FunctionKey,
    /// How many tests reach it, whatever the combination.
    pub tests: usize,
    /// After how many milliseconds this one does.
    pub after_ms: u32,
}

/// The step of a count on a scale, whose steps grow by a quarter.
fn step(count: usize) -> usize {
    let (mut step, mut limit) = (0, 1_usize);
    while limit < count {
        limit += (limit / 4).max(1);
        step += 1;
    }
    step
}

impl Recording {
    /// Reads a store. Where debug symbols were installed after a program was recorded, it gets
    /// its names now.
    #[must_use]
    pub fn load(store: &Store) -> Self {
        let mut tables = store.tables();
        tables.sort_by(|a, b| (&a.program, &a.build).cmp(&(&b.program, &b.build)));
        for table in tables.iter_mut().filter(|table| !table.has_names()) {
            if table.find_names() {
                // Without it the names are looked for again next time.
                let _ = store.put_table(table);
            }
        }
        Self::new(tables, store.tests())
    }

    /// Puts programs and results together.
    #[must_use]
    pub fn new(tables: Vec<Table>, tests: Vec<Reached>) -> Self {
        let mut recording = Self::default();
        let mut known: HashMap<(String, String), u32> = HashMap::new();
        for table in &tables {
            let numbers = table.functions.iter().map(|function| {
                let key = FunctionKey {
                    file: table.file_of(function).to_owned(),
                    name: table.name_of(function),
                    line: function.line,
                };
                let place = (key.file.clone(), key.name.clone());
                *known.entry(place).or_insert_with(|| {
                    recording.functions.push(key);
                    u32::try_from(recording.functions.len() - 1).unwrap_or(u32::MAX)
                })
            });
            recording.numbers.push(numbers.collect());
        }
        for table in &tables {
            let inlined = recording.inlined_in(table, &mut known);
            recording.inlined.push(inlined);
        }
        recording.tables = tables;
        let tests = tests.into_iter().map(|reached| recording.test(reached));
        recording.tests = tests.collect();
        recording
    }

    /// What is inlined in the blocks of a program; functions that are nowhere else become known.
    fn inlined_in(
        &mut self,
        table: &Table,
        known: &mut HashMap<(String, String), u32>,
    ) -> InlinedIn {
        let mut numbers: HashMap<(u32, u32), Option<u32>> = HashMap::new();
        InlinedIn::new(table, |file, name| {
            *numbers.entry((file, name)).or_insert_with(|| {
                let file = table.files.get(file as usize)?.clone();
                let name = table.names.get(name as usize)?.clone();
                let place = (file.clone(), name.clone());
                Some(*known.entry(place).or_insert_with(|| {
                    self.functions.push(FunctionKey {
                        file,
                        name,
                        line: 0,
                    });
                    u32::try_from(self.functions.len() - 1).unwrap_or(u32::MAX)
                }))
            })
        })
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The program of this build.
    fn table(&self, build: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.build == build)
    }

    /// The function that a block of a program is in.
    #[must_use]
    pub fn function_of(&self, table: usize, block: u32) -> Option<u32> {
        let function = self.tables.get(table)?.function_of(block)?;
        self.numbers.get(table)?.get(function).copied()
    }

    /// The number of the function at this place of a program's list.
    #[must_use]
    pub fn number(&self, table: usize, function: usize) -> Option<u32> {
        self.numbers.get(table)?.get(function).copied()
    }

    fn test(&self, reached: Reached) -> TestReached {
        let mut functions: Vec<(u32, u32)> = Vec::new();
        let mut startup: Vec<(u32, u32)> = Vec::new();
        for program in &reached.programs {
            let Some(table) = self.table(&program.build) else {
                continue;
            };
            let function = |block: &u32| self.function_of(table, *block);
            let own = program.blocks.iter().zip(&program.times_ms);
            functions.extend(
                own.clone()
                    .filter_map(|(it, time)| Some((function(it)?, *time))),
            );
            let inlined = |block: &u32| self.inlined[table].of(*block).iter();
            if program.has_blocks {
                functions.extend(own.flat_map(|(it, time)| inlined(it).map(|it| (*it, *time))));
            }
            let first = program.first_ms;
            let common = self.tables[table].startup.iter();
            startup.extend(common.clone().filter_map(|it| Some((function(it)?, first))));
            startup.extend(common.flat_map(|it| inlined(it).map(|it| (*it, first))));
        }
        let first_of_each = |all: &mut Vec<(u32, u32)>| {
            all.sort_unstable();
            all.dedup_by_key(|(function, _)| *function);
        };
        first_of_each(&mut startup);
        let every = |number: u32| startup.binary_search_by_key(&number, |it| it.0).is_ok();
        first_of_each(&mut functions);
        let own = functions
            .iter()
            .filter(|(number, _)| !every(*number))
            .count();
        functions.append(&mut startup);
        first_of_each(&mut functions);
        TestReached {
            reached,
            functions,
            own,
        }
    }

    /// For each function how many tests reach it, whatever the combination.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.functions.len()];
        // Combinations of a test follow each other.
        let mut seen: Vec<Option<&str>> = vec![None; self.functions.len()];
        for test in &self.tests {
            let name = test.reached.test.as_str();
            for (function, _) in &test.functions {
                let function = *function as usize;
                if seen[function] != Some(name) {
                    seen[function] = Some(name);
                    counts[function] += 1;
                }
            }
        }
        counts
    }

    /// The tests that reach any of the targets: those first that reach one which few tests
    /// reach, then those that reach most of them, then those that reach the least else (all in
    /// steps of a quarter), then the soonest.
    #[must_use]
    pub fn candidates(&self, targets: &Targets) -> Vec<Candidate> {
        let hits = self.tests.iter().map(|test| self.hits(test, targets));
        let hits: Vec<HashMap<usize, u32>> = hits.collect();
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for target in hits.iter().flat_map(HashMap::keys) {
            *counts.entry(*target).or_default() += 1;
        }
        let found = self.tests.iter().zip(&hits).filter_map(|(test, hits)| {
            let after_ms = hits.values().copied().min()?;
            Some(Candidate {
                test: test.reached.test.clone(),
                combo: test.reached.combo.clone(),
                rarest: hits.keys().map(|target| counts[target]).min()?,
                hits: hits.len(),
                after_ms,
                own: test.own,
            })
        });
        let mut found: Vec<Candidate> = found.collect();
        found.sort_by(|a, b| {
            let key = |it: &Candidate| {
                let hits = Reverse(step(it.hits));
                (step(it.rarest), hits, step(it.own), it.after_ms)
            };
            key(a).cmp(&key(b)).then_with(|| a.test.cmp(&b.test))
        });
        found
    }

    /// Which of the targets any test reaches.
    #[must_use]
    pub fn reached_targets(&self, targets: &Targets) -> BTreeSet<usize> {
        let hits = self.tests.iter().map(|test| self.hits(test, targets));
        hits.flat_map(HashMap::into_keys).collect()
    }

    /// The targets that a test reaches, each with the milliseconds after which it does.
    fn hits(&self, test: &TestReached, targets: &Targets) -> HashMap<usize, u32> {
        let mut hits: HashMap<usize, u32> = HashMap::new();
        for program in &test.reached.programs {
            let Some(table) = self.table(&program.build) else {
                continue;
            };
            let startup = &self.tables[table].startup;
            for &(block, target) in targets.blocks_in(table) {
                // What is not known of a block is taken of its function.
                let block = match program.has_blocks {
                    true => block,
                    false => self.tables[table].entry_of(block).unwrap_or(block),
                };
                let time = match program.blocks.binary_search(&block) {
                    Ok(at) => program.times_ms.get(at).copied(),
                    Err(_) => startup
                        .binary_search(&block)
                        .is_ok()
                        .then_some(program.first_ms),
                };
                if let Some(time) = time {
                    let first = hits.entry(target).or_insert(time);
                    *first = time.min(*first);
                }
            }
        }
        hits
    }

    /// The functions that a test reaches under the combinations that `is_meant` holds for:
    /// those that the fewest tests reach first, then by file and name.
    #[must_use]
    pub fn reached_by(
        &self,
        test: &str,
        is_meant: &dyn Fn(&Combo) -> bool,
    ) -> Vec<FunctionReached> {
        let meant = |it: &&TestReached| it.reached.test == test && is_meant(&it.reached.combo);
        let all = self.tests.iter().filter(meant);
        let mut first: HashMap<u32, u32> = HashMap::new();
        for (function, time) in all.flat_map(|it| &it.functions) {
            let before = first.entry(*function).or_insert(*time);
            *before = (*before).min(*time);
        }
        let counts = self.counts();
        let found = first
            .into_iter()
            .map(|(function, after_ms)| FunctionReached {
                function: self.functions[function as usize].clone(),
                tests: counts[function as usize],
                after_ms,
            });
        let mut found: Vec<FunctionReached> = found.collect();
        found.sort_by(|a, b| (a.tests, &a.function).cmp(&(b.tests, &b.function)));
        found
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::reached::tests::reached;
    use super::super::table::tests::table;
    use super::*;

    /// A program with three functions of two blocks each, of which every start reaches the
    /// first block, and three tests.
    pub(crate) fn recording() -> Recording {
        let mut program = table("qemu-img", "1", &[("main", 2), ("common", 2), ("rare", 2)]);
        program.startup = vec![0];
        let tests = [
            reached("001", "1", &[2, 3]),
            reached("002", "1", &[1, 2, 4]),
            reached("003", "1", &[2, 5]),
            reached("004", "gone", &[4]),
        ];
        Recording::new(vec![program], tests.into())
    }

    #[test]
    fn functions_are_counted_and_the_rare_ones_come_first() {
        let recording = recording();
        assert_eq!(recording.counts(), [3, 3, 2]);
        let rows = recording.reached_by("003", &|_| true);
        let rows: Vec<_> = rows
            .iter()
            .map(|it| (it.function.name.as_str(), it.tests, it.after_ms))
            .collect();
        assert_eq!(rows, [("rare", 2, 5), ("common", 3, 2), ("main", 3, 3)]);
        assert!(recording.reached_by("003", &|_| false).is_empty());
    }

    #[test]
    fn steps_grow_by_a_quarter() {
        assert_eq!(
            [0, 1, 2, 4, 9, 10, 11, 12].map(step),
            [0, 0, 1, 3, 8, 8, 9, 9]
        );
    }
}
