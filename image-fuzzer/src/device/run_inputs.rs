//! What an emulator ran since it was started. Inputs that leave a device ready are run one behind
//! the other without a reset between: to make it ready takes many more steps than a request.

use super::model::Model;
use super::program::{Program, Step};

/// So many inputs are run between two resets of the machine, where each leaves the device ready
/// for the next; and none behind so many steps.
const INPUTS_OF_RESET: usize = 6;
const STEPS_OF_RESET: usize = 600;

/// What an emulator ran since it was started.
#[derive(Default)]
pub(super) struct RunInputs {
    /// From reset to reset.
    pub(super) between_resets: Vec<Program>,
    /// How many inputs were run since the last reset.
    since_reset: usize,
    /// What was run last.
    pub(super) last: Program,
}

impl RunInputs {
    /// Whether an input can be run without a reset before it: it begins with what makes the
    /// device ready, as those before it did, and these have left it so.
    pub(super) fn takes(&self, program: &Program, model: &Model) -> bool {
        let Some(before) = self.between_resets.last() else {
            return true;
        };
        let is_ready = |it: &Program| {
            model
                .tail(it)
                .is_some_and(|tail| !tail.contains(&Step::Reset))
        };
        self.since_reset < INPUTS_OF_RESET
            && before.steps.len() < STEPS_OF_RESET
            && is_ready(before)
            && is_ready(program)
    }

    /// Adds an input; what is left to run of it is the last then.
    pub(super) fn add(&mut self, program: &Program, model: &Model) {
        if self.takes(program, model)
            && let Some(before) = self.between_resets.last_mut()
            && let Some(tail) = model.tail(program)
        {
            before.steps.extend_from_slice(tail);
            self.since_reset += 1;
            self.last = Program {
                steps: tail.to_vec(),
            };
            return;
        }
        self.between_resets.push(program.clone());
        self.since_reset = 1;
        self.last = program.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        text.parse().unwrap()
    }

    #[test]
    fn inputs_that_begin_alike_share_the_beginning() {
        let model = Model {
            opening: program("outb 0x1 0x1\n").steps,
            ..Model::default()
        };
        let mut run = RunInputs::default();
        for (text, takes, left) in [
            ("outb 0x1 0x1\ninb 0x2\n", true, "outb 0x1 0x1\ninb 0x2\n"),
            ("outb 0x1 0x1\ninb 0x3\n", true, "inb 0x3\n"),
            ("inb 0x4\n", false, "inb 0x4\n"),
            ("outb 0x1 0x1\ninb 0x5\n", false, "outb 0x1 0x1\ninb 0x5\n"),
        ] {
            let program = program(text);
            assert_eq!(run.takes(&program, &model), takes, "{text}");
            run.add(&program, &model);
            assert_eq!(run.last.to_string(), left);
        }
        let texts: Vec<String> = run.between_resets.iter().map(Program::to_string).collect();
        assert_eq!(
            texts,
            [
                "outb 0x1 0x1\ninb 0x2\ninb 0x3\n",
                "inb 0x4\n",
                "outb 0x1 0x1\ninb 0x5\n"
            ]
        );
    }

    #[test]
    fn a_reset_comes_behind_a_few_inputs() {
        let model = Model::default();
        let mut run = RunInputs::default();
        for _ in 0..3 * INPUTS_OF_RESET {
            run.add(&program("inb 0x2\n"), &model);
        }
        assert_eq!(run.between_resets.len(), 3);
        run.add(&program("inb 0x2\n"), &model);
        let mut reset = program("inb 0x2\n");
        reset.steps.push(Step::Reset);
        run.add(&reset, &model);
        assert!(!run.takes(&program("inb 0x2\n"), &model));
    }
}
