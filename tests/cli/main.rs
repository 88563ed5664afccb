//! The `check` program as a user meets it: command lines on small suites, what
//! they print and what they leave.

mod archive;
mod arguments;
mod command;
mod coverage;
mod debugging;
mod dry_run;
mod fixture;
mod install;
mod launcher;
mod options;
mod ours;
mod pages;
mod places;
mod readme;
mod results;
mod running;
mod scripts;
mod trace;
mod versions;
