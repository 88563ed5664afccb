//! Where novelty came from: which fields, commands and kinds of variation showed new blocks and
//! messages, and what is drawn more often for it.
//!
//! As AFL++'s MOpt (Lyu et al.: MOPT: Optimized mutation scheduling for fuzzers, USENIX Security
//! 2019) does with its operators, each is drawn in proportion to what it gave for what it cost,
//! between a floor, so that nothing starves, and a ceiling. What was long ago counts less, since
//! what is easy to reach is reached first, by whatever comes first.
//!
//! This decides what is drawn. A recipe has what was drawn, and gives the same bytes without any
//! of this.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files::write_whole;
use image_mutations::mutate::FieldWeights;

/// The name of the file.
const NOVELTY: &str = "novelty.json";

/// A kind of variation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// One command more.
    AddCommand,
    /// Other commands.
    ReplaceCommands,
    /// A mutation of any family.
    Family,
    /// Another value in a field that the parent changed, or in its like.
    Again,
    /// A value in a field that is drawn by the novelty which its kind gave.
    Field,
}

impl Operator {
    /// All, with how often each is drawn before anything is known.
    pub(super) const ALL: [(Self, u64); 5] = [
        (Self::AddCommand, 20),
        (Self::ReplaceCommands, 10),
        (Self::Family, 12),
        (Self::Again, 12),
        (Self::Field, 6),
    ];

    /// Whether it changes the commands.
    pub(super) fn is_of_commands(self) -> bool {
        matches!(self, Self::AddCommand | Self::ReplaceCommands)
    }

    /// What it is, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::AddCommand => "one command more",
            Self::ReplaceCommands => "other commands",
            Self::Family => "a mutation of any family",
            Self::Again => "a field of the parent again",
            Self::Field => "a field drawn by novelty",
        }
    }
}

/// What variations are drawn by: what showed new things is drawn more often.
#[derive(Clone, Debug)]
pub(super) struct Guidance {
    /// The weights of the families.
    pub(super) families: Vec<u64>,
    /// Those of classes of fields.
    pub(super) fields: FieldWeights,
    /// Those of commands, by verb, and that of others.
    pub(super) commands: BTreeMap<String, u64>,
    pub(super) other_command: u64,
    /// Those of kinds of variation.
    pub(super) operators: [(Operator, u64); 5],
}

/// What a test has that its parent has not; of a test without one, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The kind of variation.
    pub(super) operator: Option<Operator>,
    /// The classes of the fields that are changed.
    pub(super) fields: Vec<String>,
    /// The verbs of the commands.
    pub(super) commands: Vec<String>,
}

/// What a test gave, and what it cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gain {
    /// New blocks.
    pub(super) blocks: usize,
    /// New messages and exit statuses.
    pub(super) messages: usize,
    /// Both together, as they count.
    pub(super) novelty: u64,
    /// The CPU time of its programs, in seconds.
    pub(super) cpu_seconds: f64,
}

/// What came from one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credit {
    /// Tests in which it was changed.
    pub tests: u64,
    /// New blocks that they reached.
    pub blocks: u64,
    /// New messages and exit statuses that they showed.
    pub messages: u64,
    /// The CPU time of their programs, in seconds.
    pub cpu_seconds: f64,
    /// The same of late: tests, novelty and CPU time, less the longer ago.
    recent: Recent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    tests: f64,
    novelty: f64,
    cpu_seconds: f64,
}

impl Recent {
    fn halve(&mut self) {
        self.tests /= 2.0;
        self.novelty /= 2.0;
        self.cpu_seconds /= 2.0;
    }

    fn add(&mut self, other: Self) {
        self.tests += other.tests;
        self.novelty += other.novelty;
        self.cpu_seconds += other.cpu_seconds;
    }
}

impl Credit {
    fn add(&mut self, gain: Gain) {
        self.tests += 1;
        self.blocks += gain.blocks as u64;
        self.messages += gain.messages as u64;
        self.cpu_seconds += gain.cpu_seconds;
        self.recent.add(Recent {
            tests: 1.0,
            novelty: gain.novelty as f64,
            cpu_seconds: gain.cpu_seconds,
        });
    }

    fn merge(&mut self, other: Self) {
        self.tests += other.tests;
        self.blocks += other.blocks;
        self.messages += other.messages;
        self.cpu_seconds += other.cpu_seconds;
        self.recent.add(other.recent);
    }
}

/// What is kept of where novelty came from, over all runs of the fuzzer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoveltySources {
    /// By class of field, or family of mutation where that changes no field.
    pub fields: BTreeMap<String, Credit>,
    /// By verb of command.
    pub commands: BTreeMap<String, Credit>,
    /// By kind of variation.
    pub operators: BTreeMap<Operator, Credit>,
    /// Tests since what is recent was halved.
    since: u64,
}

/// After so many tests what is recent counts half.
const HALF_LIFE: u64 = 4096;

/// So many tests of the average are added to those of each source: with few it counts as an
/// average one.
const PRIOR_TESTS: f64 = 20.0;

/// The weight of an average source, and the bounds of others as multiples of it.
const AVERAGE: f64 = 16.0;
const FLOOR: f64 = 0.25;
const CEILING: f64 = 4.0;

impl NoveltySources {
    /// Those of the work folder `root`; none where it has none, or they are damaged: they are
    /// learnt again.
    pub fn read(root: &Path) -> Self {
        let text = fs::read(root.join(NOVELTY)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Stores them in the work folder `root`.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn store(&self, root: &Path) -> Result<()> {
        write_whole(&root.join(NOVELTY), &serde_json::to_vec(self)?)
    }

    /// Counts a test.
    pub(super) fn add(&mut self, changes: &Changes, gain: Gain) {
        for class in &changes.fields {
            self.fields.entry(class.clone()).or_default().add(gain);
        }
        for verb in &changes.commands {
            self.commands.entry(verb.clone()).or_default().add(gain);
        }
        if let Some(operator) = changes.operator {
            self.operators.entry(operator).or_default().add(gain);
        }
        self.since += 1;
        if self.since >= HALF_LIFE {
            self.since = 0;
            let credits = (self.fields.values_mut())
                .chain(self.commands.values_mut())
                .chain(self.operators.values_mut());
            credits.for_each(|credit| credit.recent.halve());
        }
    }

    /// Adds what another campaign learnt.
    pub(super) fn merge(&mut self, other: Self) {
        fn merge<K: Ord>(ours: &mut BTreeMap<K, Credit>, theirs: BTreeMap<K, Credit>) {
            for (name, credit) in theirs {
                ours.entry(name).or_default().merge(credit);
            }
        }
        merge(&mut self.fields, other.fields);
        merge(&mut self.commands, other.commands);
        merge(&mut self.operators, other.operators);
        self.since = self.since.max(other.since);
    }

    /// What gave most of late: fields, and commands; `None` before there is anything.
    pub(super) fn recent(&self) -> Option<String> {
        fn names(credits: &BTreeMap<String, Credit>) -> String {
            let mut all: Vec<_> = credits.iter().collect();
            all.retain(|(_, credit)| credit.recent.novelty >= 1.0);
            all.sort_by(|a, b| b.1.recent.novelty.total_cmp(&a.1.recent.novelty));
            let names = all.iter().take(2).map(|(name, _)| name.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        let parts = [names(&self.fields), names(&self.commands)];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// A table of what gave most; `None` where nothing was counted.
    pub fn table(&self) -> Option<String> {
        let operators = self.operators.iter();
        let operators = operators.map(|(operator, credit)| (operator.meaning(), credit));
        let parts = [
            ("fields", top(named(&self.fields))),
            ("commands", top(named(&self.commands))),
            ("variations by", top(operators.collect())),
        ];
        let mut text = format!(
            "{:<44} {:>7} {:>7} {:>8} {:>12}\n",
            "NEW BLOCKS AND MESSAGES FROM", "TESTS", "BLOCKS", "MESSAGES", "BLOCKS/CPU S"
        );
        let mut is_empty = true;
        for (part, rows) in parts.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            is_empty = false;
            text.push_str(&format!("{part}\n"));
            for (name, credit) in rows {
                let rate = credit.blocks as f64 / credit.cpu_seconds.max(0.001);
                text.push_str(&format!(
                    "  {name:<42} {:>7} {:>7} {:>8} {rate:>12.1}\n",
                    credit.tests, credit.blocks, credit.messages
                ));
            }
        }
        (!is_empty).then_some(text)
    }

    /// What variations are drawn by, with these weights of families.
    pub(super) fn guidance(&self, families: Vec<u64>) -> Guidance {
        let mut operators = Operator::ALL;
        let learnt: BTreeMap<Operator, u64> = weights(&self.operators, Per::Second);
        for (operator, weight) in &mut operators {
            *weight *= learnt.get(operator).copied().unwrap_or(AVERAGE as u64);
        }
        Guidance {
            families,
            fields: FieldWeights::new(weights(&self.fields, Per::Test), AVERAGE as u64),
            commands: weights(&self.commands, Per::Second),
            other_command: AVERAGE as u64,
            operators,
        }
    }
}

fn named(credits: &BTreeMap<String, Credit>) -> Vec<(&str, &Credit)> {
    let named = credits.iter();
    named
        .map(|(name, credit)| (name.as_str(), credit))
        .collect()
}

/// The few that gave most.
fn top<'a>(mut credits: Vec<(&'a str, &'a Credit)>) -> Vec<(&'a str, &'a Credit)> {
    const SHOWN: usize = 5;
    credits.retain(|(_, credit)| credit.blocks + credit.messages > 0);
    credits.sort_by_key(|(_, credit)| std::cmp::Reverse(credit.blocks + credit.messages));
    credits.truncate(SHOWN);
    credits
}

/// What novelty is divided by.
#[derive(Clone, Copy)]
enum Per {
    /// Tests: which field is changed hardly affects what a test costs.
    Test,
    /// CPU time.
    Second,
}

/// The weight of each source.
fn weights<K: Ord + Clone>(credits: &BTreeMap<K, Credit>, per: Per) -> BTreeMap<K, u64> {
    let mut all = Recent::default();
    credits.values().for_each(|credit| all.add(credit.recent));
    let cost = |recent: &Recent| match per {
        Per::Test => recent.tests,
        Per::Second => recent.cpu_seconds,
    };
    let mean = (all.novelty + 1.0) / cost(&all).max(f64::EPSILON);
    let prior = PRIOR_TESTS * cost(&all) / all.tests.max(1.0);
    let weight = |credit: &Credit| {
        let Recent { novelty, .. } = credit.recent;
        let rate = (novelty + prior * mean) / (cost(&credit.recent) + prior).max(f64::EPSILON);
        (AVERAGE * (rate / mean).clamp(FLOOR, CEILING)).round() as u64
    };
    let weighed = credits.iter();
    weighed
        .map(|(key, credit)| (key.clone(), weight(credit)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(blocks: usize, cpu_seconds: f64) -> Gain {
        Gain {
            blocks,
            messages: 0,
            novelty: blocks as u64,
            cpu_seconds,
        }
    }

    fn changes(field: &str, command: &str) -> Changes {
        Changes {
            operator: Some(Operator::Again),
            fields: vec![field.into()],
            commands: vec![command.into()],
        }
    }

    #[test]
    fn what_gave_more_for_its_cost_weighs_more_and_nothing_starves() {
        let mut sources = NoveltySources::default();
        for _ in 0..500 {
            sources.add(&changes("good", "slow"), gain(2, 1.0));
            sources.add(&changes("bad", "quick"), gain(1, 0.01));
            sources.add(&changes("barren", "barren"), gain(0, 0.01));
        }
        let guidance = sources.guidance(vec![1]);
        let field = |class| guidance.fields.of(class);
        assert!(field("good") > field("unknown") && field("unknown") > field("barren"));
        assert_eq!(field("barren"), (AVERAGE * FLOOR) as u64);
        let command = |verb| guidance.commands[verb];
        assert!(command("quick") > command("slow") && command("barren") > 0);
        assert_eq!(sources.fields["good"].blocks, 1000);
        assert!(guidance.operators.iter().all(|(_, weight)| *weight > 0));
    }

    #[test]
    fn what_was_long_ago_counts_less() {
        let mut sources = NoveltySources::default();
        for _ in 0..100 {
            sources.add(&changes("early", "a"), gain(9, 0.01));
        }
        let at_first = sources.fields["early"].recent.novelty;
        for _ in 0..4 * HALF_LIFE {
            sources.add(&changes("late", "b"), gain(1, 0.01));
        }
        assert!(sources.fields["early"].recent.novelty < at_first / 10.0);
        assert_eq!(sources.fields["early"].blocks, 900);
    }

    #[test]
    fn the_table_has_what_gave_most() {
        let mut sources = NoveltySources::default();
        assert_eq!((sources.table(), sources.recent()), (None, None));
        for number in 0..9 {
            let field = format!("field{number}");
            sources.add(&changes(&field, "qemu-img info"), gain(number, 0.5));
        }
        let text = sources.table().unwrap();
        assert!(
            text.contains("  field8 ") && !text.contains("field0"),
            "{text}"
        );
        let row = text.lines().find(|line| line.contains("qemu-img info"));
        let words: Vec<_> = row.unwrap().split_whitespace().skip(2).collect();
        assert_eq!(words, ["9", "36", "0", "8.0"], "{text}");
        assert_eq!(sources.recent().unwrap(), "field8, field7; qemu-img info");
    }

    #[test]
    fn sources_come_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            NoveltySources::read(folder.path()),
            NoveltySources::default()
        );
        let mut sources = NoveltySources::default();
        sources.add(&changes("header.l1_size", "qemu-img info"), gain(3, 0.5));
        sources.store(folder.path()).unwrap();
        assert_eq!(NoveltySources::read(folder.path()), sources);
    }
}
