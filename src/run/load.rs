//! How many jobs to run at once, from what the machine is doing.
//!
//! Tests of disk images wait a lot: for timers, for the disk, for each other. So
//! the number that keeps the CPUs busy is found by looking: while
//! CPUs stand idle one more job is let in, and when more wants to run than
//! there are CPUs for, or memory runs short, there are fewer.

use std::fs;
use std::time::{Duration, Instant};

/// How long a look at the machine covers at least: CPU times are counted
/// in ticks of 10 ms.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The most jobs for each CPU.
const MOST_PER_CPU: usize = 4;

/// What was seen of the machine between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    /// CPUs that had nothing to do, on average.
    idle: f64,
    /// Processes that run or want to, at this moment.
    runnable: f64,
    /// Which part of the memory can still be had, 0..=1.
    memory_free: f64,
    /// Which part of the time everything waited for memory, 0..=1.
    memory_stall: f64,
    /// Which part of the time everything waited for disks, 0..=1.
    disk_stall: f64,
}

/// Says how many jobs may run.
#[derive(Debug)]
pub(super) struct Governor {
    cpus: f64,
    limit: usize,
    /// Runnable processes, smoothed: one look sees a single moment.
    runnable: f64,
    /// Those of them that are more than one for each job of ours, smoothed.
    others: f64,
    last: Option<(Instant, Times)>,
}

/// CPU time since the system started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    idle: u64,
    total: u64,
}

impl Governor {
    /// One for this machine.
    pub(super) fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self::for_cpus(cpus)
    }

    fn for_cpus(cpus: usize) -> Self {
        Self {
            cpus: cpus as f64,
            limit: cpus,
            runnable: 0.0,
            others: 0.0,
            last: None,
        }
    }

    /// How many jobs may run now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Looks at the machine, where the last look is long enough ago. `running`
    /// is how many jobs run.
    pub(super) fn look(&mut self, running: usize) {
        let now = Instant::now();
        if let Some((at, _)) = self.last
            && now - at < LOOK_EVERY
        {
            return;
        }
        let Some((times, runnable)) = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|stat| parse_stat(&stat))
        else {
            return;
        };
        if let Some((_, before)) = self.last {
            let total = times.total.saturating_sub(before.total).max(1) as f64;
            let idle = times.idle.saturating_sub(before.idle) as f64 / total;
            let seen = Seen {
                idle: idle * self.cpus,
                // We are one of them.
                runnable: runnable.saturating_sub(1) as f64,
                memory_free: memory_free().unwrap_or(1.0),
                memory_stall: stall("memory"),
                disk_stall: stall("io"),
            };
            self.decide(seen, running);
        }
        self.last = Some((now, times));
    }

    /// Changes the limit for what was seen.
    fn decide(&mut self, seen: Seen, running: usize) {
        let smooth = |old: f64, new: f64| 0.7 * old + 0.3 * new;
        self.runnable = smooth(self.runnable, seen.runnable);
        let others = (seen.runnable - running as f64).max(0.0);
        self.others = smooth(self.others, others);
        let short_of_memory = seen.memory_free < 0.05 || seen.memory_stall > 0.1;
        let crowded = self.runnable > 2.0 * self.cpus + 1.0;
        if short_of_memory || crowded {
            // What is started stays; the limit sinks with what ends. Jobs of ours
            // that are busy all at once are worth no less than one a CPU;
            // where others want the machine too, or memory is short, one is left.
            let ours_alone = self.others <= self.cpus;
            let least = if ours_alone && !short_of_memory {
                self.cpus as usize
            } else {
                1
            };
            self.limit = self.limit.min(running.saturating_sub(1)).max(least);
            return;
        }
        let room = seen.idle > 0.1 * self.cpus
            && seen.memory_free > 0.15
            && seen.disk_stall < 0.5
            && running >= self.limit;
        if room {
            // Each job let in takes a part of a CPU, or it would not help.
            let more = (seen.idle.floor() as usize).max(1);
            let most = self.cpus as usize * MOST_PER_CPU;
            self.limit = (self.limit + more).min(most.max(1));
        }
    }
}

/// Reads CPU times and the number of runnable processes.
fn parse_stat(stat: &str) -> Option<(Times, u64)> {
    let cpu = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = cpu
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // Fields: user, nice, system, idle, iowait, irq, softirq, steal, and guest
    // times that user and nice hold already.
    let times = Times {
        idle: ticks.get(3)? + ticks.get(4)?,
        total: ticks.iter().take(8).sum(),
    };
    let runnable = stat
        .lines()
        .find_map(|line| line.strip_prefix("procs_running "))?;
    Some((times, runnable.trim().parse().ok()?))
}

/// Which part of the memory can still be had.
fn memory_free() -> Option<f64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(field("MemAvailable:")? / field("MemTotal:")?.max(1.0))
}

/// Which part of the last 10 s every process waited for a resource; 0 where the
/// kernel does not say (`/proc/pressure`).
fn stall(resource: &str) -> f64 {
    fs::read_to_string(format!("/proc/pressure/{resource}"))
        .ok()
        .and_then(|text| parse_stall(&text))
        .unwrap_or(0.0)
}

fn parse_stall(text: &str) -> Option<f64> {
    let full = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let percent = full
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("avg10="))?;
    Some(percent.parse::<f64>().ok()? / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Seen = Seen {
        idle: 0.0,
        runnable: 2.0,
        memory_free: 0.8,
        memory_stall: 0.0,
        disk_stall: 0.0,
    };

    fn after(seen: Seen, looks: usize) -> usize {
        let mut governor = Governor::for_cpus(2);
        for _ in 0..looks {
            governor.decide(seen, governor.limit());
        }
        governor.limit()
    }

    #[test]
    fn busy_cpus_get_no_more_jobs() {
        assert_eq!(after(CALM, 50), 2);
    }

    #[test]
    fn idle_cpus_get_more_jobs_up_to_a_limit() {
        let idle = Seen { idle: 1.5, ..CALM };
        assert_eq!(after(idle, 1), 3);
        assert_eq!(after(idle, 50), 8);
    }

    #[test]
    fn nothing_is_let_in_for_jobs_that_do_not_wait_to_start() {
        let mut governor = Governor::for_cpus(2);
        governor.decide(Seen { idle: 2.0, ..CALM }, 1);
        assert_eq!(governor.limit(), 2);
    }

    #[test]
    fn busy_jobs_are_at_least_one_per_cpu() {
        let mut governor = Governor::for_cpus(2);
        governor.limit = 8;
        let busy = |running: usize| Seen {
            runnable: running as f64 + 1.0,
            ..CALM
        };
        for _ in 0..20 {
            governor.decide(busy(8), 8);
        }
        assert_eq!(governor.limit(), 7);
        for running in (2..8).rev() {
            governor.decide(busy(running), running);
        }
        assert_eq!(governor.limit(), 2);
    }

    #[test]
    fn a_machine_that_is_loaded_or_short_of_memory_gets_fewer() {
        let loaded = Seen {
            runnable: 20.0,
            ..CALM
        };
        assert_eq!(after(loaded, 10), 1);
        let full = Seen {
            idle: 1.5,
            memory_free: 0.02,
            ..CALM
        };
        assert_eq!(after(full, 10), 1);
        let tight = Seen {
            idle: 1.5,
            memory_free: 0.1,
            ..CALM
        };
        assert_eq!(after(tight, 10), 2);
        let waiting_for_disks = Seen {
            idle: 1.5,
            disk_stall: 0.9,
            ..CALM
        };
        assert_eq!(after(waiting_for_disks, 10), 2);
    }

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 2\nprocs_running 3\n";
        let times = Times {
            idle: 80,
            total: 100,
        };
        assert_eq!(parse_stat(stat), Some((times, 3)));
        assert_eq!(parse_stat("cpu 1 2\n"), None);
        let pressure = "some avg10=9.00 avg60=1 total=1\nfull avg10=25.00 avg60=1 total=1\n";
        assert_eq!(parse_stall(pressure), Some(0.25));
        assert!(parse_stat(&fs::read_to_string("/proc/stat").unwrap()).is_some());
        assert!(memory_free().is_some_and(|free| free > 0.0 && free <= 1.0));
    }
}
