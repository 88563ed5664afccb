//! Runs inputs again, to see whether they show a finding and to make them smaller.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use qtest::Op;

use super::emulator::{Emulator, Ran, Setup};
use super::judge::{Failure, judge};
use super::minimise::{self, Shows, Smallest};
use super::program::{Program, Step};
use crate::triage::Key;

/// Runs inputs on emulators of its own.
pub struct Replayer<'a> {
    setup: &'a Setup<'a>,
    stop: &'a AtomicBool,
    /// One that has run nothing but inputs which showed nothing.
    used: Option<Emulator>,
    /// Clears the memory that inputs before wrote, which a reset does not.
    touched: Vec<Step>,
}

/// The memory of a PC that is nothing else, below and above the place of screens and firmware: as
/// much as all machines here have.
const MEMORY: [Range<u64>; 2] = [0..0xa_0000, 0x10_0000..0x400_0000];

/// Clears the pages of memory that a trace writes.
fn touched(program: &Program) -> Vec<Step> {
    const PAGE: u64 = 4096;
    let ranges = program.steps.iter().filter_map(|step| match step.as_op()? {
        Op::WriteBlock { address, bytes } => Some((*address, bytes.len() as u64)),
        Op::Fill {
            address, length, ..
        } => Some((*address, *length)),
        Op::Write { address, .. } => Some((*address, 8)),
        _ => None,
    });
    let pages = ranges.flat_map(|(start, length)| {
        let last = start.saturating_add(length.saturating_sub(1));
        let inside = |page: &u64| MEMORY.iter().any(|it| it.contains(&(page * PAGE)));
        (start / PAGE..=last.min(MEMORY[1].end) / PAGE).filter(inside)
    });
    let pages: BTreeSet<u64> = pages.collect();
    let clear = |page| {
        Step::op(Op::Fill {
            address: page * PAGE,
            length: PAGE,
            byte: 0,
        })
    };
    pages.into_iter().map(clear).collect()
}

impl<'a> Replayer<'a> {
    /// For emulators that are started so.
    #[must_use]
    pub fn new(setup: &'a Setup<'a>, stop: &'a AtomicBool) -> Self {
        Self {
            setup,
            stop,
            used: None,
            touched: Vec::new(),
        }
    }

    /// Runs an input on a fresh emulator; what it shows, and the emulator.
    ///
    /// # Errors
    ///
    /// The emulator cannot be started.
    pub fn fresh(&mut self, program: &Program) -> Result<(Option<Failure>, Emulator)> {
        // Two of them would share the image.
        self.used = None;
        let mut emulator = Emulator::start(self.setup, None)?;
        let ran = emulator.run(program);
        Ok((judge(self.setup.machine, &ran), emulator))
    }

    /// Whether a fresh emulator shows the group `key`, as far as it is known without a debugger.
    ///
    /// # Errors
    ///
    /// The emulator cannot be started.
    pub fn is_shown(&mut self, program: &Program, key: &Key) -> Result<bool> {
        let (failure, _) = self.fresh(program)?;
        Ok(failure.is_some_and(|it| is_same(&it.key, key)))
    }

    /// Makes an input smaller that shows the group `key` on a fresh emulator; `None` where it
    /// does not. Most inputs are tried one behind the other on one emulator, and the smallest is
    /// run on a fresh one: where that shows nothing, each is run on a fresh one.
    ///
    /// # Errors
    ///
    /// The emulator cannot be started.
    pub fn minimise(
        &mut self,
        program: &Program,
        key: &Key,
        budget: Duration,
    ) -> Result<Option<Smallest>> {
        let smallest = self.smallest(program, key, budget)?;
        let Some(mut smallest) = smallest else {
            return Ok(None);
        };
        // Each input was followed by a reset, which may be what shows it. A trace has it only
        // where it is.
        if smallest.program.steps.last() != Some(&Step::Reset) {
            let mut emulator = Emulator::start(self.setup, None)?;
            let ran = emulator.run_alone(&smallest.program);
            let failure = judge(self.setup.machine, &ran);
            if !failure.is_some_and(|it| is_same(&it.key, key)) {
                smallest.program.steps.push(Step::Reset);
            }
        }
        Ok(Some(smallest))
    }

    fn smallest(
        &mut self,
        program: &Program,
        key: &Key,
        budget: Duration,
    ) -> Result<Option<Smallest>> {
        if !self.is_shown(program, key)? {
            return Ok(None);
        }
        self.touched = touched(program);
        for is_fresh in [false, true] {
            let mut shown = Shown {
                replayer: self,
                key,
                is_fresh,
            };
            let smallest = minimise::minimise(program, &mut shown, budget);
            if self.is_shown(&smallest.program, key)? {
                return Ok(Some(smallest));
            }
        }
        Ok(Some(Smallest {
            program: program.clone(),
            is_done: false,
            tried: 0,
        }))
    }

    /// What an input shows on an emulator that may have run others.
    fn run(&mut self, program: &Program) -> Result<Option<Failure>> {
        let mut emulator = match self.used.take() {
            Some(emulator) => emulator,
            None => Emulator::start(self.setup, None)?,
        };
        let steps = [self.touched.clone(), program.steps.clone()].concat();
        let ran = emulator.run(&Program { steps });
        if ran == Ran::Done && !emulator.is_spent() {
            self.used = Some(emulator);
        }
        Ok(judge(self.setup.machine, &ran))
    }
}

/// Whether two failures are one, as far as they are known without a debugger.
#[must_use]
pub fn is_same(seen: &Key, wanted: &Key) -> bool {
    seen.class == wanted.class
        && (seen.class.is_of_time()
            || seen.signature.clone().without_stack() == wanted.signature.clone().without_stack())
}

/// Whether inputs show a group.
struct Shown<'a, 'b> {
    replayer: &'a mut Replayer<'b>,
    key: &'a Key,
    /// Whether each input has an emulator of its own.
    is_fresh: bool,
}

impl Shows for Shown<'_, '_> {
    fn shows(&mut self, program: &Program) -> bool {
        let failure = match self.is_fresh {
            true => self.replayer.fresh(program).map(|(failure, _)| failure),
            false => self.replayer.run(program),
        };
        // An emulator that does not start shows nothing.
        let failure = failure.ok().flatten();
        failure.is_some_and(|it| is_same(&it.key, self.key))
    }

    fn is_over(&self) -> bool {
        self.replayer.stop.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_a_trace_writes_is_cleared_and_no_register() {
        let text = "write 0x100ffe 0x4 0x01020304\nmemset 0x9f000 0x2000 0x1\nwritel 0xe0000000 0x1\nwritel 0x200000 0x1\n";
        let steps = touched(&text.parse().unwrap());
        let lines: Vec<String> = steps.iter().map(Step::to_string).collect();
        assert_eq!(
            lines,
            [
                "memset 0x9f000 0x1000 0x0",
                "memset 0x100000 0x1000 0x0",
                "memset 0x101000 0x1000 0x0",
                "memset 0x200000 0x1000 0x0"
            ]
        );
    }
}
