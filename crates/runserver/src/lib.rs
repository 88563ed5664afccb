//! Starts runs of one program on request and says how they ended.
//!
//! A run server is a small process that a controller talks to over a socket: it
//! receives arguments, an environment, a working directory and limits, starts the
//! program with them, waits, and replies with the status. There are three kinds, which
//! differ only in how the program is started:
//!
//! * a fork server inside the program, stopped before `main` ([`server::serve_by_fork`]): a
//!   run is a fork of the process, so that the program is loaded and linked once;
//! * the same, stopped at the program's first call of getopt(3) ([`late::Late`]), where that
//!   gives the same: its constructors and the start of `main` are done once too, for one
//!   number of arguments;
//! * a child of the controller ([`server::serve_by_exec`]): a run is an `execve`.
//!
//! The server is a child subreaper, so that every process that a run leaves behind becomes
//! its child and is found. The sandbox and namespaces of the server apply to every run.
//!
//! Nothing here allocates or takes a lock: the second kind of server runs in a forked child
//! of a process with many threads, where both could deadlock.

mod crash;
mod inherited;
pub mod late;
pub mod server;
pub mod sys;
pub mod wire;
