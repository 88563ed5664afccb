//! An input: what is done with a machine, step by step, and its text form.
//!
//! The text is a trace that an emulator takes on its standard input (`-qtest stdio`). It looks at
//! no more words of a line than an operation has, so that what stands behind `#` says what the
//! line is about; a line that begins with `#` is answered by `FAIL`, and does nothing.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use data_encoding::HEXLOWER;
use qtest::{Op, ParseOpError, Recorded, reset};

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An operation, and which structure or register it is about; an empty text where that is
    /// not known.
    Op(Op, Cow<'static, str>),
    /// A reset of the machine.
    Reset,
    /// A command of the monitor: an object of QMP, or a line of the human monitor. A trace on
    /// standard input cannot give it; `reproduce.sh` gives it over another descriptor.
    Monitor(String),
}

/// An input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// In their order.
    pub steps: Vec<Step>,
}

/// What parts an operation from what it is about.
const ABOUT: &str = " # ";

/// How a line with a command of the monitor begins.
const MONITOR: &str = "# monitor: ";

/// The label of what makes a device reachable, which is done before anything else.
pub const SETUP: &str = "pci configuration";

impl Step {
    /// An operation of which nothing is known.
    #[must_use]
    pub fn op(op: Op) -> Self {
        Self::Op(op, Cow::Borrowed(""))
    }

    /// The operation, where it is one.
    #[must_use]
    pub fn as_op(&self) -> Option<&Op> {
        match self {
            Self::Op(op, _) => Some(op),
            _ => None,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Op(_, label) => label,
            _ => "",
        }
    }

    /// Whether it makes a device reachable.
    #[must_use]
    pub fn is_setup(&self) -> bool {
        self.label() == SETUP
    }
}

impl From<Recorded> for Step {
    fn from(recorded: Recorded) -> Self {
        Self::Op(recorded.op, Cow::Borrowed(recorded.label))
    }
}

/// An operation as QEMU's reports have it: bytes as hexadecimal digits.
pub(super) fn op_text(op: &Op) -> String {
    match op {
        Op::WriteBlock { address, bytes } => format!(
            "write {address:#x} {:#x} 0x{}",
            bytes.len(),
            HEXLOWER.encode(bytes)
        ),
        Op::ReadBlock { address, length } => format!("read {address:#x} {length:#x}"),
        other => other.to_string(),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Op(op, label) => {
                f.write_str(&op_text(op))?;
                if !label.is_empty() {
                    write!(f, "{ABOUT}{label}")?;
                }
                Ok(())
            }
            Self::Reset => write!(f, "{}", reset::Lines),
            Self::Monitor(line) => write!(f, "{MONITOR}{line}"),
        }
    }
}

impl Program {
    /// Whether it has commands of the monitor, which a trace on standard input cannot give.
    #[must_use]
    pub fn has_monitor(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|it| matches!(it, Step::Monitor(_)))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// A line of a trace that is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {why}")]
pub struct ParseTraceError {
    /// Which line, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub why: ParseOpError,
}

impl FromStr for Program {
    type Err = ParseTraceError;

    /// Reads a trace, this project's or another's: lines that QEMU's reproducers have besides
    /// operations (`[R +0.1]` in front of them, answers, empty lines) are understood.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut steps = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let step = step(line).map_err(|why| ParseTraceError { number, why })?;
            match step {
                Some(Step::Op(Op::Endianness, _)) if line.starts_with(reset::BEFORE) => {}
                Some(Step::Op(Op::Endianness, _)) if line.starts_with(reset::BEHIND) => {
                    if steps.last().and_then(Step::as_op) == Some(&reset::CONTROL) {
                        steps.pop();
                    }
                    steps.push(Step::Reset);
                }
                other => steps.extend(other),
            }
        }
        Ok(Self { steps })
    }
}

/// A line of a trace; `None` where it does nothing.
fn step(line: &str) -> Result<Option<Step>, ParseOpError> {
    if let Some(command) = line.strip_prefix(MONITOR) {
        return Ok(Some(Step::Monitor(command.to_owned())));
    }
    // As `-qtest-log` prints them: what was read, and what was answered.
    let line = match line.strip_prefix("[R +").and_then(|it| it.split_once("] ")) {
        Some((_, line)) => line,
        None => line,
    };
    let line = line.trim();
    let is_answer = ["OK", "FAIL", "ERR", "[S +", "[I ", "IRQ ", "#", "EOF"]
        .iter()
        .any(|word| line.starts_with(word));
    if line.is_empty() || is_answer {
        return Ok(None);
    }
    let (op, label) = line.split_once(ABOUT).unwrap_or((line, ""));
    let label = label.trim().to_owned();
    Ok(Some(Step::Op(op.parse()?, Cow::Owned(label))))
}

/// A trace as a file: the command that runs it, in front of the steps.
#[must_use]
pub fn trace(program: &Program, command: &str) -> String {
    let mut text = String::new();
    for line in command.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let _ = write!(text, "{program}");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qtest::Width;

    use super::*;

    fn any_step() -> impl Strategy<Value = Step> {
        let label = prop::sample::select(vec!["", "nvme doorbell", SETUP]);
        let bytes = prop::collection::vec(any::<u8>(), 1..20);
        let op = prop_oneof![
            (any::<u16>(), any::<u16>()).prop_map(|(port, value)| Op::Out {
                width: Width::W,
                port,
                value: value.into(),
            }),
            any::<u64>().prop_map(|address| Op::Read {
                width: Width::Q,
                address
            }),
            (any::<u64>(), bytes).prop_map(|(address, bytes)| Op::WriteBlock { address, bytes }),
            (any::<u64>(), 1..9u64).prop_map(|(address, length)| Op::ReadBlock { address, length }),
            Just(Op::ClockStep { nanoseconds: None }),
            Just(Op::Endianness),
            Just(reset::CONTROL),
        ];
        prop_oneof![
            (op, label).prop_map(|(op, label)| Step::Op(op, Cow::Borrowed(label))),
            Just(Step::Reset),
            "[a-z][a-z0-9 ]{0,9}[a-z]".prop_map(Step::Monitor),
        ]
    }

    proptest! {
        #[test]
        fn a_program_is_read_back(steps in prop::collection::vec(any_step(), 0..12)) {
            let program = Program { steps };
            let text = trace(&program, "qemu -qtest stdio\n< trace");
            prop_assert_eq!(text.parse::<Program>(), Ok(program));
        }

        #[test]
        fn any_text_is_a_program_or_an_error(text in "(in|out|[bwlq #x0-9]|\n|OK|# |\\[R \\+|\\] ){0,40}") {
            let _ = text.parse::<Program>();
        }
    }

    #[test]
    fn a_trace_from_elsewhere_is_read() {
        let text = "[R +0.028] outl 0xcf8 0x80001010\n[S +0.029] OK\nOK\n\nwrite 0x0 0x2 0x0102\n";
        let program: Program = text.parse().unwrap();
        assert_eq!(
            program.to_string(),
            "outl 0xcf8 0x80001010\nwrite 0x0 0x2 0x0102\n"
        );
        let error = "inb 0x1\nhello\n".parse::<Program>().unwrap_err();
        assert_eq!(error.to_string(), "line 2: 'hello': an unknown operation");
    }
}
