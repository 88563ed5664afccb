//! Records what the tests of a run reach.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use coverage::record::{self, ProgramId};

use super::store::{ProgramReached, Reached, Store};
use super::table::Table;
use crate::build_id::build_id;
use crate::model::{Finished, Job, Kind};
use crate::programs::{Programs, ask_with};

/// The library that is loaded into all processes of a test.
const LIBRARY: &str = "libpreload.so";

/// How long a program may take to tell its version or its help.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// What programs are asked to find out what every start reaches: what all of these do.
const QUESTIONS: [&str; 2] = ["--version", "--help"];

/// A program that is recorded.
#[derive(Debug)]
struct Tool {
    id: ProgramId,
    table: Table,
    /// The blocks that are noted, by the numbers that they are noted by.
    noted: Vec<u32>,
}

/// Records a run.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    /// Where the files are that the programs share with this one.
    run: tempfile::TempDir,
    library: PathBuf,
    tools: Vec<Tool>,
    /// What the user should know, a line each.
    notes: Vec<String>,
    /// Why programs were not recorded in tests, and in how many.
    obstacles: Mutex<BTreeMap<String, usize>>,
    /// What could not be written, first.
    trouble: Mutex<Option<String>>,
}

impl Recorder {
    /// Prepares to record `programs`, with files below `dir` for as long as it lasts; what is
    /// found out is kept in `store`.
    ///
    /// # Errors
    ///
    /// None of the programs can be recorded, or files cannot be written.
    pub fn new(programs: &Programs, store: Store, dir: &Path) -> Result<Self> {
        let library = library().context("--coverage")?;
        store
            .create()
            .with_context(|| format!("cannot create {}", store.dir().display()))?;
        let run = tempfile::Builder::new().prefix(".coverage-").tempdir_in(dir);
        let mut recorder = Self {
            run: run.with_context(|| format!("cannot create a directory in {}", dir.display()))?,
            store,
            library,
            tools: Vec::new(),
            notes: Vec::new(),
            obstacles: Mutex::default(),
            trouble: Mutex::default(),
        };
        for path in programs.paths() {
            if let Err(why) = recorder.add(path) {
                let path = path.display();
                recorder.notes.push(format!("{path} is not recorded: {why}"));
            }
        }
        if recorder.tools.is_empty() {
            bail!("--coverage: nothing can be recorded: {}", recorder.notes.join("; "));
        }
        let tables: Vec<&Table> = recorder.tools.iter().map(|tool| &tool.table).collect();
        recorder
            .store
            .replace_builds(&tables)
            .with_context(|| format!("cannot change {}", recorder.store.dir().display()))?;
        Ok(recorder)
    }

    /// What the user should know before the run, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the user should know after the run, a line each.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner);
        let tests = |count: usize| crate::words::count(count, "test");
        let lines = obstacles
            .iter()
            .map(|(what, &count)| format!("{what} (in {})", tests(count)));
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        lines.chain(trouble.clone()).collect()
    }

    fn add(&mut self, path: &Path) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let id = ProgramId::of(path).map_err(text)?;
        if self.tools.iter().any(|tool| tool.id == id) {
            return Ok(());
        }
        let known = build_id(path).and_then(|build| self.store.table(&build));
        let table = match known {
            Some(table) => table,
            None => {
                let mut table = Table::read(path).map_err(|why| format!("it {why}"))?;
                table.startup = self.startup(id, path, &table)?;
                self.store.put_table(&table).map_err(text)?;
                table
            }
        };
        let count = u32::try_from(table.blocks.len()).unwrap_or(u32::MAX);
        let noted: Vec<u32> = (0..count)
            .filter(|block| table.startup.binary_search(block).is_err())
            .collect();
        self.write_blocks(id, &table, &noted).map_err(text)?;
        self.tools.push(Tool { id, table, noted });
        Ok(())
    }

    fn write_blocks(&self, id: ProgramId, table: &Table, noted: &[u32]) -> io::Result<()> {
        let blocks = noted.iter().filter_map(|block| {
            let block = table.blocks.get(*block as usize)?;
            Some((block.address, block.byte))
        });
        let blocks: Vec<(u32, u8)> = blocks.collect();
        record::write_blocks(self.run.path(), id, &blocks)
    }

    /// The blocks that every start of a program reaches.
    fn startup(&self, id: ProgramId, path: &Path, table: &Table) -> Result<Vec<u32>, String> {
        let text = |error: io::Error| error.to_string();
        let count = table.blocks.len();
        let all: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        self.write_blocks(id, table, &all).map_err(text)?;
        let mut common: Option<Vec<u32>> = None;
        for question in QUESTIONS {
            let dir = tempfile::tempdir_in(self.run.path()).map_err(text)?;
            record::create_notes(dir.path(), id, count).map_err(text)?;
            let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
            self.extend(&mut env, dir.path());
            ask_with(path, &[question], env, ANSWERS_WITHIN).map_err(|e| format!("{e:#}"))?;
            let noted = record::read_notes(dir.path(), id, count).map_err(text)?;
            match noted.obstacle {
                Some(obstacle) => return Err(obstacle.text().to_owned()),
                None if noted.processes == 0 => {
                    return Err("no library can be loaded into it (LD_PRELOAD)".to_owned());
                }
                None => {}
            }
            let blocks = noted.reached.into_iter().map(|(block, _)| block);
            common = Some(match common {
                None => blocks.collect(),
                Some(before) => blocks.filter(|it| before.binary_search(it).is_ok()).collect(),
            });
        }
        Ok(common.unwrap_or_default())
    }

    /// The folder of a job.
    fn dir(&self, job: &Job) -> PathBuf {
        self.run.path().join(job.id.0.to_string())
    }

    /// Has the next try of a job recorded, whose environment is `env`. One that was recorded
    /// before is forgotten.
    pub fn begin(&self, job: &Job, env: &mut Vec<(OsString, OsString)>) {
        let dir = self.dir(job);
        let made = fs::create_dir(&dir).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
        let notes = |tool: &Tool| record::create_notes(&dir, tool.id, tool.noted.len());
        match made.and_then(|()| self.tools.iter().try_for_each(notes)) {
            Ok(()) => self.extend(env, &dir),
            Err(error) => self.fail(&format!("{} is not recorded: {error}", job.test.name)),
        }
    }

    /// Adds the variables that have processes recorded to an environment.
    fn extend(&self, env: &mut Vec<(OsString, OsString)>, dir: &Path) {
        let mut change = |name: &str, change: &dyn Fn(&OsStr) -> OsString| {
            match env.iter_mut().find(|(known, _)| known == name) {
                Some((_, value)) => *value = change(value),
                None => env.push((name.into(), change(OsStr::new("")))),
            }
        };
        let joined = |first: &OsStr, second: &OsStr| {
            let mut both = first.to_owned();
            if !first.is_empty() && !second.is_empty() {
                both.push(":");
            }
            both.push(second);
            both
        };
        let name = OsStr::from_bytes(record::ENV.to_bytes()).to_string_lossy();
        change(&name, &|_| dir.into());
        change("LD_PRELOAD", &|old| joined(self.library.as_os_str(), old));
        // Its run-time library need not be the first then. The caller's word is the last.
        let option = OsStr::new("verify_asan_link_order=0");
        change("ASAN_OPTIONS", &|old| joined(option, old));
    }

    /// Keeps what a finished job has reached.
    pub fn finished(&self, finished: &Finished) {
        let (job, dir) = (&finished.job, self.dir(&finished.job));
        if !dir.exists() {
            return;
        }
        let tells = !matches!(Kind::from(&finished.verdict), Kind::NotRun | Kind::Interrupted);
        if let Some(outcome) = finished.outcome.as_ref().filter(|_| tells) {
            let at = outcome.start.duration_since(UNIX_EPOCH).unwrap_or_default();
            let reached = Reached {
                test: job.test.name.clone(),
                combo: (*job.combo).clone(),
                at: at.as_secs(),
                wall_ms: u32::try_from(outcome.wall.as_millis()).unwrap_or(u32::MAX),
                programs: self.tools.iter().filter_map(|it| self.read(it, &dir)).collect(),
            };
            if let Err(error) = self.store.put(&reached) {
                let dir = self.store.dir().display();
                self.fail(&format!("cannot write what tests reach to {dir}: {error}"));
            }
        }
        // What cannot be removed goes with the folder of the run.
        let _ = fs::remove_dir_all(dir);
    }

    fn read(&self, tool: &Tool, dir: &Path) -> Option<ProgramReached> {
        let noted = record::read_notes(dir, tool.id, tool.noted.len()).ok()?;
        if let Some(obstacle) = noted.obstacle {
            let line = format!("{} was not recorded: {}", tool.table.program, obstacle.text());
            let mut obstacles = self.obstacles.lock().unwrap_or_else(PoisonError::into_inner);
            *obstacles.entry(line).or_default() += 1;
        }
        if noted.processes == 0 {
            return None;
        }
        let reached = noted.reached.into_iter();
        let (blocks, times_ms) = reached
            .filter_map(|(number, time)| Some((*tool.noted.get(number as usize)?, time)))
            .unzip();
        Some(ProgramReached {
            build: tool.table.build.clone(),
            first_ms: noted.first_ms,
            blocks,
            times_ms,
        })
    }

    fn fail(&self, trouble: &str) {
        let mut first = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| trouble.to_owned());
    }
}

/// The library, which the build puts beside this program or into `deps` there. The newest is
/// taken: another may be left from an earlier build.
fn library() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot determine the path of this program")?;
    let folders = own.ancestors().skip(1).take(2);
    let files = folders.flat_map(|dir| [dir.join(LIBRARY), dir.join("deps").join(LIBRARY)]);
    let files = files.filter(|file| file.is_file());
    let newest = files.max_by_key(|file| fs::metadata(file).and_then(|meta| meta.modified()).ok());
    newest.with_context(|| {
        let dir = own.parent().unwrap_or(Path::new("/")).display();
        format!("no {LIBRARY} in {dir}; build it with: cargo build -p check")
    })
}
