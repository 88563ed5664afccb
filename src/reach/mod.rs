//! Which tests reach what of the programs under test.
//!
//! A [`Recorder`] notes, while tests run, which basic blocks of the programs each test
//! reaches, and after how long; no program is rebuilt for it (crate `coverage`). What was
//! noted is kept in a [`Store`] beside the history: a [`Table`] of each program, with names and
//! lines of its blocks, and a [`Reached`] of each test and combination. [`Recording`] is all
//! that a store has; [`Targets`] are places in the programs, asked for by name, file or line,
//! or found in a patch.

mod affected;
mod carry;
mod codec;
mod html;
mod patch;
mod paths;
mod reached;
mod recorder;
mod recording;
mod store;
mod table;
mod targets;
mod uses;

pub use affected::{Affected, affected, diff_of};
pub use html::{Suite, write as write_report};
pub use reached::{ProgramReached, Reached};
pub use recorder::Recorder;
pub use recording::{Candidate, FunctionKey, FunctionReached, Recording, TestReached};
pub use store::Store;
pub use table::{Block, Frame, Function, Inlined, Segment, Table};
pub use targets::{Target, Targets};
pub use uses::Source;
