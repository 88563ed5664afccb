//! Starts runs of one program on request and says how they ended.
//!
//! A run server is a small process that a controller talks to over a socket: it
//! gets an argument vector, an environment, a working directory and limits, starts
//! the program with them, waits, and answers with the status. It lives in one of two
//! places, which differ only in how the program is started:
//!
//! * inside the program itself, stopped before `main` ([`server::serve_by_fork`]): a run
//!   is a fork of the process, so that loading and linking are paid once;
//! * in a process of the controller's ([`server::serve_by_exec`]): a run is an `execve`.
//!
//! The server is a child subreaper, so that every process a run leaves behind becomes its
//! child and is found. Sandbox and name spaces are put around the server once and hold
//! for every run.
//!
//! Nothing here allocates or takes a lock: the second kind of server runs in the child of
//! a process with many threads, where both could wait for ever.

mod crash;
pub mod server;
pub mod sys;
pub mod wire;
