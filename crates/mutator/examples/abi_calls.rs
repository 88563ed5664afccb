//! Calls the library as engines do, on hostile bytes, and says what that takes:
//! `abi_calls LIBRARY CALLS`. `scripts/mutator-abi` runs it.
//!
//! Each line of output but the last is about memory; the last has a hash of all outputs, which
//! is the same for every build of the library.

// Calling a loaded function needs it.
#![allow(unsafe_code)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;

use common::{AflMutator, Inputs, Loaded};

/// What was seen in all calls.
struct Calls<'a> {
    library: &'a Loaded,
    afl: AflMutator<'a>,
    inputs: Inputs,
    made: u64,
    hash: u64,
    /// CPU time of the longest call, in nanoseconds.
    longest: u64,
}

impl Calls<'_> {
    /// One call, the output of which must not be longer than `max_size`.
    fn call(&mut self, max_size: usize, call: impl FnOnce(&mut Self) -> Vec<u8>) -> Vec<u8> {
        let start = cpu_ns();
        let output = call(self);
        self.longest = self.longest.max(cpu_ns() - start);
        assert!(output.len() <= max_size, "{} > {max_size}", output.len());
        for byte in &output {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.made += 1;
        output
    }

    /// Calls on one input and another.
    fn round(&mut self, number: u64) {
        let (input, other) = (self.inputs.next(), self.inputs.next());
        let size = [input.len(), input.len() / 2, 1 << 20, 4096, 1][number as usize % 5];
        for _ in 0..4 {
            let mutated = self.call(size, |it| it.afl.fuzz(&input, Some(&other), size));
            let len = mutated.len();
            let ran = self.call(len, |it| it.afl.post_process(&mutated));
            assert_eq!(ran.len(), len);
            self.call(100, |it| it.afl.describe(100).into_bytes());
            self.call(size, |it| it.afl.fuzz_and_run(&input, size));
            self.call(4, |it| it.afl.fuzz_count(&input).to_le_bytes().to_vec());
            if number.is_multiple_of(16) {
                assert!(!self.afl.queue_new_entry());
            }
        }
        let seed = number as u32;
        let short = &input[..input.len().min(size)];
        self.call(size, |it| it.library.libfuzzer_mutate(short, size, seed));
        self.call(size, |it| {
            it.library.libfuzzer_cross_over(short, &other, size, seed)
        });
        if number.is_multiple_of(64) {
            self.trim(&input, number);
        }
    }

    fn trim(&mut self, input: &[u8], number: u64) {
        let steps = self.afl.init_trim(input);
        let mut index = 0;
        while index < steps {
            self.call(input.len(), |it| it.afl.trim());
            index = self
                .afl
                .post_trim((number / 64 + self.made).is_multiple_of(3));
        }
    }
}

/// CPU time of this process in nanoseconds, which other work of the machine does not add to.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let time = stat.split(' ').next().and_then(|time| time.parse().ok());
    time.unwrap_or(0)
}

/// Memory of this process in KiB.
fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [library, count] = words.as_slice() else {
        eprintln!("usage: abi_calls LIBRARY CALLS");
        return ExitCode::from(2);
    };
    let Ok(count) = count.parse::<u64>() else {
        eprintln!("abi_calls: '{count}' is not a number");
        return ExitCode::from(2);
    };
    let library = Loaded::at(Path::new(library));
    assert_eq!(AflMutator::none(&library).fuzz(b"ab", None, 1), b"a");
    assert_ne!(dictionary_len(&library), 0);
    let mut calls = Calls {
        afl: AflMutator::new(&library, 1),
        library: &library,
        inputs: Inputs::new(1),
        made: 0,
        hash: 0xcbf2_9ce4_8422_2325,
        longest: 0,
    };
    let mut next_line = count / 10;
    for round in 0.. {
        if calls.made >= count {
            break;
        }
        calls.round(round);
        if calls.made >= next_line {
            println!("{} calls, {} KiB resident", calls.made, resident_kib());
            next_line += count / 10 + 1;
        }
    }
    eprintln!(
        "{:.0} s of CPU time, the longest call took {} ms of it",
        cpu_ns() as f64 / 1e9,
        calls.longest / 1_000_000
    );
    println!("{} calls, outputs {:016x}", calls.made, calls.hash);
    drop(calls);
    // Engines do not unload it either, and a sanitizer takes what statics of an unloaded library
    // own for lost: 8 KB, made once.
    std::mem::forget(library);
    ExitCode::SUCCESS
}

/// The length of a dictionary.
fn dictionary_len(library: &Loaded) -> usize {
    let dictionary = library.dictionary();
    // SAFETY: the name ends with a zero, and there is no buffer.
    unsafe { dictionary(c"qcow2".as_ptr(), std::ptr::null_mut(), 0) }
}
