//! Makes an input that shows a finding as small as it can be: inputs before the last reset, steps,
//! bytes of blocks, values.

use std::time::{Duration, Instant};

use qtest::{Op, Width};

use super::program::{Program, Step};

/// Says whether an input still shows a finding.
pub trait Shows {
    /// Whether `program` shows it.
    fn shows(&mut self, program: &Program) -> bool;

    /// Whether to stop: the user interrupted it.
    fn is_over(&self) -> bool;
}

/// The smallest input that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smallest {
    /// The input.
    pub program: Program,
    /// Whether nothing more can be left out, by the changes that are known.
    pub is_done: bool,
    /// How many inputs were tried.
    pub tried: u64,
}

/// Makes an input smaller for at most so long.
pub fn minimise(program: &Program, judge: &mut dyn Shows, budget: Duration) -> Smallest {
    let mut reducer = Reducer {
        best: program.clone(),
        judge,
        end: Instant::now() + budget,
        tried: 0,
    };
    loop {
        let before = reducer.best.clone();
        reducer.inputs();
        reducer.monitor();
        reducer.steps();
        reducer.bytes();
        reducer.values();
        if reducer.best == before || reducer.is_spent() {
            return Smallest {
                is_done: reducer.best == before && !reducer.is_spent(),
                program: reducer.best,
                tried: reducer.tried,
            };
        }
    }
}

struct Reducer<'a> {
    best: Program,
    judge: &'a mut dyn Shows,
    end: Instant,
    tried: u64,
}

impl Reducer<'_> {
    fn is_spent(&self) -> bool {
        Instant::now() >= self.end || self.judge.is_over()
    }

    /// Takes other steps for the best where they show the finding.
    fn attempt(&mut self, steps: Vec<Step>) -> bool {
        if self.is_spent() || steps == self.best.steps {
            return false;
        }
        self.tried += 1;
        let program = Program { steps };
        let shows = self.judge.shows(&program);
        if shows {
            self.best = program;
        }
        shows
    }

    /// Leaves out inputs before the last: all of them, all but the last 2, 4, 8, ...; then any.
    fn inputs(&mut self) {
        let inputs = split(&self.best.steps);
        let mut kept = 1;
        while kept < inputs.len() {
            if self.attempt(join(&inputs[inputs.len() - kept..])) {
                break;
            }
            kept *= 2;
        }
        let mut piece = split(&self.best.steps).len() / 2;
        while piece > 0 {
            let mut at = 0;
            loop {
                let mut inputs = split(&self.best.steps);
                // The last is the one that shows it.
                let end = (at + piece).min(inputs.len() - 1);
                if at >= end {
                    break;
                }
                inputs.drain(at..end);
                if !self.attempt(join(&inputs)) {
                    at = end;
                }
            }
            piece /= 2;
        }
    }

    /// Leaves out all commands of the monitor: a trace without any is run by the emulator alone.
    fn monitor(&mut self) {
        let mut steps = self.best.steps.clone();
        steps.retain(|step| !matches!(step, Step::Monitor(_)));
        self.attempt(steps);
    }

    /// Leaves out steps: what is behind the one that shows it, halves, quarters, ..., each.
    fn steps(&mut self) {
        let mut piece = self.best.steps.len().div_ceil(2);
        while piece > 0 {
            let mut end = self.best.steps.len();
            while end > 0 {
                let start = end.saturating_sub(piece);
                let mut steps = self.best.steps.clone();
                steps.drain(start..end);
                self.attempt(steps);
                end = start.min(self.best.steps.len());
            }
            piece /= 2;
        }
    }

    /// Cuts blocks of memory, and clears bytes of them.
    fn bytes(&mut self) {
        for index in 0..self.best.steps.len() {
            let Some((address, mut bytes)) = self.block(index) else {
                continue;
            };
            let mut piece = bytes.len().next_power_of_two();
            while piece > 0 {
                for start in (0..bytes.len()).step_by(piece) {
                    let mut cleared = bytes.clone();
                    let end = (start + piece).min(bytes.len());
                    cleared[start..end].fill(0);
                    if cleared != bytes && self.put_block(index, address, &cleared) {
                        bytes = cleared;
                    }
                }
                piece /= 2;
            }
            // Memory is zero before anything is written.
            let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
            let end = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(1, |it| it + 1);
            self.put_block(index, address + start as u64, &bytes[start..end]);
        }
    }

    fn block(&self, index: usize) -> Option<(u64, Vec<u8>)> {
        match self.best.steps.get(index)?.as_op()? {
            Op::WriteBlock { address, bytes } => Some((*address, bytes.clone())),
            _ => None,
        }
    }

    fn put_block(&mut self, index: usize, address: u64, bytes: &[u8]) -> bool {
        let bytes = bytes.to_vec();
        self.put(index, Op::WriteBlock { address, bytes })
    }

    /// Tries another operation in place of a step, for the same register or structure.
    fn put(&mut self, index: usize, op: Op) -> bool {
        let mut steps = self.best.steps.clone();
        if let Some(Step::Op(old, _)) = steps.get_mut(index) {
            *old = op;
        }
        self.attempt(steps)
    }

    /// Simpler values in registers: 0, 1, or fewer bits.
    fn values(&mut self) {
        for index in 0..self.best.steps.len() {
            let op = self.best.steps.get(index).and_then(Step::as_op).cloned();
            let Some((value, make)) = op.as_ref().and_then(of_value) else {
                continue;
            };
            if [0, 1]
                .iter()
                .any(|&plain| plain < value && self.put(index, make(plain)))
            {
                continue;
            }
            let mut best = value;
            for bit in (0..64).rev().filter(|bit| value >> bit & 1 == 1) {
                let fewer = best & !(1 << bit);
                if self.put(index, make(fewer)) {
                    best = fewer;
                }
            }
        }
    }
}

/// The value that an operation writes, and the operation with another one.
fn of_value(op: &Op) -> Option<(u64, impl Fn(u64) -> Op + use<>)> {
    let op = op.clone();
    let value = match &op {
        // The configuration space is selected by a number that is simple as it is.
        Op::Out { port, .. } if *port == super::surface::SELECT => return None,
        Op::Out { value, .. } => (*value).into(),
        Op::Write { value, .. } => *value,
        _ => return None,
    };
    let make = move |new: u64| match op.clone() {
        Op::Out { width, port, .. } => Op::Out {
            width,
            port,
            value: Width::L.truncate(new) as u32,
        },
        Op::Write { width, address, .. } => Op::Write {
            width,
            address,
            value: new,
        },
        other => other,
    };
    Some((value, make))
}

/// The inputs of a trace: what is between resets.
fn split(steps: &[Step]) -> Vec<Vec<Step>> {
    let inputs = steps.split(|step| *step == Step::Reset);
    inputs.map(<[Step]>::to_vec).collect()
}

fn join(inputs: &[Vec<Step>]) -> Vec<Step> {
    inputs.join(&Step::Reset)
}

/// The inputs that an emulator ran, as one trace.
#[must_use]
pub fn trace_of(inputs: &[Program]) -> Program {
    let inputs: Vec<Vec<Step>> = inputs.iter().map(|it| it.steps.clone()).collect();
    Program {
        steps: join(&inputs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that fails when register 8 gets a value with bit 4 while byte 3 at 0x1000 is 7.
    struct Planted {
        needs_reset: bool,
        runs: usize,
    }

    impl Shows for Planted {
        fn shows(&mut self, program: &Program) -> bool {
            self.runs += 1;
            let (mut byte, mut armed) = (0, !self.needs_reset);
            for step in &program.steps {
                match step {
                    Step::Reset => armed = true,
                    Step::Op(Op::WriteBlock { address, bytes }, _) => {
                        let at = 0x1003_u64.checked_sub(*address);
                        let found = at.and_then(|at| bytes.get(at as usize));
                        byte = found.copied().unwrap_or(byte);
                    }
                    Step::Op(
                        Op::Write {
                            address: 8, value, ..
                        },
                        _,
                    ) if value & 16 != 0 && byte == 7 && armed => return true,
                    _ => {}
                }
            }
            false
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    const TRACE: &str = "\
readl 0x8
write 0x1000 0x8 0x0102030707070707
outb 0x10 0x3
writel 0x8 0xffffff13 # doorbell
writel 0x8 0x0
";

    fn minimal(text: &str, needs_reset: bool) -> String {
        let mut planted = Planted {
            needs_reset,
            runs: 0,
        };
        let program = text.parse().unwrap();
        let smallest = minimise(&program, &mut planted, Duration::from_secs(60));
        assert!(smallest.is_done && planted.runs < 200, "{}", planted.runs);
        smallest.program.to_string()
    }

    #[test]
    fn nothing_is_left_that_is_not_needed() {
        let expected = "write 0x1003 0x1 0x07\nwritel 0x8 0x10 # doorbell\n";
        assert_eq!(minimal(TRACE, false), expected);
        let inputs: Vec<Program> = [TRACE, "inb 0x3\n", TRACE]
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        let trace = trace_of(&inputs);
        assert_eq!(minimal(&trace.to_string(), false), expected);
        let with_reset = minimal(&trace.to_string(), true);
        let program: Program = with_reset.parse().unwrap();
        assert_eq!(program.steps.len(), 3, "{with_reset}");
        assert!(program.steps.contains(&Step::Reset));
    }
}
