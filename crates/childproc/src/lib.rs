//! Starts a program, bounds it, captures it, and ends all it started.
//!
//! A program may double fork, leave its session, close every descriptor and
//! ignore every signal it can: its processes are still found, because the
//! process above it is a *child subreaper* (prctl(2)) and adopts every orphan
//! below it. No root, no control group and no namespace is needed.
//!
//! There are two ways to use it:
//!
//! * [`become_subreaper`], [`descendants`] and [`end_all_children`] alone, for a
//!   worker process that starts programs in its own way;
//! * [`Keeper`]: a process that starts and supervises programs for a caller with
//!   many threads, and cleans up after a caller that has ended.
//!
//! Only Linux has subreapers, so this crate is for Linux.

mod child;
mod end;
mod exec;
mod fold;
mod idle;
mod keeper;
mod mounts;
mod proc;
mod spec;
mod stacks;
mod supervisor;
mod sys;
mod wire;

pub use child::Child;
pub use end::{How, LeftBehind, become_subreaper, end_all_children};
pub use fold::fold_stacks;
pub use keeper::{Keeper, Streams};
pub use mounts::{Mount, mounts_below, unmount};
pub use nix::sys::resource::Resource;
pub use proc::{Process, descendants};
pub use spec::{Done, Event, Limit, Spec};
pub use stacks::stacks;
pub use sys::{Status, allow_tracing};
