//! The command line: every option as one item, and the parser.
//!
//! [`parse`] is pure: it knows words only. [`crate::plan`] checks them
//! against the tree and the machine.

mod commands;
mod conflicts;
mod expression;
mod flag;
mod flags;
mod help;
mod low;
mod parse;
mod parse_expression;
mod profiles;
mod values;

pub use commands::{Command, commands};
pub use expression::{Candidate, Expression, KINDS, Matcher, SLOW_SECS, Subject};
pub use flag::{Flag, Takes};
pub use flags::{FORMATS, PROTOCOLS, SECTIONS, flags};
pub use help::{ABOUT, MORE, help};
pub use low::{Action, Color, DEBUGGEES, Debuggee, Detail, LowArgs, Share};
pub use parse::{parse, parse_with};
pub use profiles::Profiles;
