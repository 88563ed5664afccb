//! The thread that writes and reads the folder of the fleet, which may be on another machine, so
//! that no test waits for it. It writes new images of the queue into the folder of this
//! instance, and reads those of the others, which workers take between their own tests.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::afl_stats::FUZZER_STATS;
use super::fleet::{EntryName, Exchange, Fleet, Outgoing, OwnFolder, Siblings};
use super::shared::Shared;
use super::{Campaign, RunControl};
use crate::files::read_image;
use crate::input::recipe::Recipe;
use image_mutations::named_file::NamedFile;

/// How many images of others wait or run at a time: what a kill makes to be run again.
const WINDOW: usize = 64;

/// What writes and reads the folder.
#[derive(Debug)]
pub(super) struct Sync {
    fleet: Fleet,
    /// The queue of the work folder.
    work: PathBuf,
    own: OwnFolder,
    siblings: Siblings,
    /// Images that could not be written yet.
    unwritten: VecDeque<Outgoing>,
    outstanding: usize,
}

impl Sync {
    /// The instance of `fleet` whose campaign has `seed` and the work folder `work`.
    ///
    /// # Errors
    ///
    /// The folder belongs to another, or cannot be written.
    pub(super) fn open(fleet: &Fleet, work: &Path, seed: &str, command_line: &str) -> Result<Self> {
        let dir = fleet.dir.display();
        std::fs::create_dir_all(&fleet.dir).with_context(|| format!("cannot make '{dir}'"))?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(work).starts_with(real(&fleet.dir)) {
            bail!(
                "the work folder '{}' is in the folder of the fleet, '{dir}', where others would \
                 take it for an instance: give another TEST_DIR",
                work.display()
            );
        }
        Ok(Self {
            own: OwnFolder::open(&fleet.dir.join(&fleet.name), seed, command_line)?,
            siblings: Siblings::new(&fleet.dir, &fleet.name),
            work: work.to_owned(),
            unwritten: VecDeque::new(),
            outstanding: 0,
            fleet: fleet.clone(),
        })
    }

    /// What passes between it and the workers: first of all what an earlier run could not
    /// write of its queue.
    pub(super) fn exchange(&self, queue: &[(String, Recipe)]) -> Exchange {
        let mut exchange = Exchange::default();
        for (name, recipe) in queue {
            if origin(name).is_some_and(|origin| !self.own.has(origin)) {
                exchange.offer(name, recipe, (0, 0));
            }
        }
        exchange
    }

    /// Writes and reads for the first time, before any worker has begun.
    pub(super) fn begin(&mut self, campaign: &Campaign, shared: &Mutex<Shared>) {
        self.take_turn(campaign, shared, true, false);
    }

    /// Writes and reads until all workers are done.
    pub(super) fn run(
        mut self,
        campaign: &Campaign,
        shared: &Mutex<Shared>,
        control: &RunControl<'_>,
    ) {
        let mut due = Instant::now() + self.fleet.interval;
        loop {
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            // What is done before it is set is written in the last turn.
            let is_last = control.workers_done.load(Ordering::SeqCst);
            let is_due = Instant::now() >= due;
            self.take_turn(campaign, shared, is_due, is_last);
            if is_last {
                return;
            }
            if is_due {
                due = Instant::now() + self.fleet.interval;
            }
        }
    }

    /// Takes a turn, and logs where that fails. A folder that cannot be used now may be back at
    /// the next turn; what was found is in the work folder.
    fn take_turn(
        &mut self,
        campaign: &Campaign,
        shared: &Mutex<Shared>,
        is_due: bool,
        is_last: bool,
    ) {
        let done = self.turn(campaign, shared, is_due, is_last);
        if let Err(why) = done
            && let Ok(mut shared) = shared.lock()
        {
            // A full disk under the work folder is reported by the workers.
            let _ = shared.note(&format!("fleet: {why:#}"));
        }
    }

    /// Writes what is new and reads what others have.
    fn turn(
        &mut self,
        campaign: &Campaign,
        shared: &Mutex<Shared>,
        is_due: bool,
        is_last: bool,
    ) -> Result<()> {
        let (finished, outgoing) = {
            let Some(mut shared) = shared.lock().ok() else {
                return Ok(());
            };
            let Some(exchange) = &mut shared.exchange else {
                return Ok(());
            };
            exchange.take(is_due || is_last)
        };
        self.unwritten.extend(outgoing);
        self.outstanding -= finished.len().min(self.outstanding);
        for source in &finished {
            self.siblings.finish(source);
        }
        if is_due && !is_last {
            self.siblings.scan(&self.own);
        }
        // Nothing is run any more at the end.
        let room = if is_last {
            0
        } else {
            WINDOW - self.outstanding
        };
        let taken = self.siblings.take(room);
        self.outstanding += taken.len();
        let (mut written, mut result) = (0, Ok(()));
        while let Some(outgoing) = self.unwritten.pop_front() {
            match self.write(&outgoing) {
                Ok(done) => written += u64::from(done),
                Err(why) => {
                    self.unwritten.push_front(outgoing);
                    result = Err(why);
                    break;
                }
            }
        }
        if let Some(mut shared) = shared.lock().ok()
            && let Some(exchange) = &mut shared.exchange
        {
            exchange.add(taken);
            exchange.stats.written += written;
            exchange.stats.siblings = self.siblings.len();
            exchange.stats.passed_over = self.siblings.passed_over;
            let stats = exchange.stats;
            shared.stats.fleet = Some(stats);
        }
        result?;
        self.siblings.store(&self.own)?;
        if is_due || is_last {
            self.own.set_stats(&campaign.dir, FUZZER_STATS)?;
        }
        Ok(())
    }

    /// Writes an image of the queue for others; false where it is too long for that, or has
    /// gone.
    fn write(&mut self, outgoing: &Outgoing) -> Result<bool> {
        let path = self.work.join("queue").join(&outgoing.name);
        let (Some(origin), Ok(bytes)) = (origin(&outgoing.name), read_image(&path)) else {
            return Ok(false);
        };
        let image = NamedFile::new(&outgoing.name, &bytes);
        let Outgoing {
            made, operation, ..
        } = outgoing;
        self.own.add(&image, origin, *made, operation)?;
        Ok(true)
    }
}

/// The number of an entry in the queue of the work folder, by its name there.
fn origin(name: &str) -> Option<u32> {
    EntryName::parse(name).map(|entry| entry.id)
}
