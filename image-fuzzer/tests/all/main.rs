//! The tests of the library and of the program: one program, so that they are linked once.
//! What looks at the process itself, its environment, its memory or its current folder, needs
//! a program of its own.

mod campaign;
mod cli;
mod coverage;
mod device;
mod encrypted;
mod exec;
mod faults;
mod fleet;
mod hangs;
mod interrupts;
mod merge;
mod planted;
mod poked;
mod probe;
mod programs;
mod readers;
mod recall;
mod seeds;
mod support;
mod sweep;
mod symbols;
mod versions;
