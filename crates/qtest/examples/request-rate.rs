//! How many requests a second each path of the graph carries out: 1000 reads of 4 KiB one
//! after the other, the same with writes that wait for the next read, and with eight requests on
//! their way at once as well. Of ten hundreds the fastest counts, since other work on the machine
//! makes the others slower; `lines` are those of the protocol for a read.
//!
//! `cargo run --release -p qtest --example request-rate [PART OF A PATH]`

#[path = "../tests/stock/emulator.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod emulator;

use std::time::{Duration, Instant};

use emulator::{Machine, emulator};
use qtest::block::{self, Disk, Request};
use qtest::graph::{self, Path};
use qtest::{Guest, Result};

const SIZE: u64 = 1440 << 10;
const BLOCK: u64 = 4096;
const ROUNDS: u64 = 10;
const REQUESTS: u64 = 100;
const AT_ONCE: usize = 8;

fn main() -> Result<()> {
    let part = std::env::args().nth(1).unwrap_or_default();
    let Some(emulator) = emulator() else {
        eprintln!("there is no emulator");
        std::process::exit(1);
    };
    let (paths, _) = graph::paths(graph::BLOCK, &emulator);
    println!(
        "{:>8} {:>8} {:>8} {:>6}  path",
        "one", "posted", "eight", "lines"
    );
    for path in paths.iter().filter(|path| path.to_string().contains(&part)) {
        measure(path)?;
    }
    Ok(())
}

fn measure(path: &Path) -> Result<()> {
    let mut machine = Machine::of(path, SIZE);
    let mut disk = machine.disk(path);
    let (disk, guest) = (disk.as_mut(), &mut machine.guest);
    let before = guest.client().lines();
    let one = fastest(disk, guest, 1)?;
    let lines = (guest.client().lines() - before) / REQUESTS / ROUNDS;
    guest.set_posted(true)?;
    let posted = fastest(disk, guest, 1)?;
    let depth = disk.features().depth.min(AT_ONCE);
    let many = if depth > 1 {
        format!("{:.0}", fastest(disk, guest, depth)?)
    } else {
        "-".to_owned()
    };
    println!("{one:8.0} {posted:8.0} {many:>8} {lines:6}  {path}");
    Ok(())
}

/// Requests a second, in the fastest round.
fn fastest(disk: &mut dyn Disk, guest: &mut Guest, at_once: usize) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        best = best.min(reads(disk, guest, at_once)?.as_secs_f64());
    }
    Ok(REQUESTS as f64 / best)
}

/// Reads with so many requests on their way at once; how long it took.
fn reads(disk: &mut dyn Disk, guest: &mut Guest, at_once: usize) -> Result<Duration> {
    let length = u32::try_from(BLOCK).unwrap_or(u32::MAX);
    let buffer = guest.buffer(&[length], BLOCK)?;
    let start = Instant::now();
    let (mut started, mut ended, mut running) = (0, 0, 0);
    while ended < REQUESTS {
        while running < at_once && started < REQUESTS {
            let offset = started * 7 % (SIZE / BLOCK) * BLOCK;
            let buffer = buffer.clone();
            disk.submit(guest, 0, &Request::Read { offset, buffer })?;
            started += 1;
            running += 1;
        }
        for (_, status) in disk.poll(guest)? {
            block::done(disk.name(), &status)?;
            ended += 1;
            running -= 1;
        }
    }
    let time = start.elapsed();
    guest.free_buffer(&buffer);
    Ok(time)
}
