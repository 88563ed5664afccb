//! Records what the tests of a run reach.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use coverage::record::{self, Code, Notes, Program, ProgramId};

use super::reached::{ProgramReached, Reached};
use super::store::Store;
use super::table::Table;
use crate::args::Detail;
use crate::build_id::build_id;
use crate::model::{Combo, Finished, Job, JobId, Kind};
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
    program: Program,
    table: Table,
    /// The blocks that are noted, by the numbers that they are noted by.
    noted: Vec<u32>,
}

/// Records a run.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    detail: Detail,
    library: PathBuf,
    tools: Vec<Tool>,
    /// What the tests that run now have noted, of each of `tools`.
    running: Mutex<HashMap<JobId, Vec<Notes>>>,
    /// What the user should know, a line each.
    notes: Vec<String>,
    /// Why programs were not recorded in tests, and in how many.
    obstacles: Mutex<BTreeMap<String, usize>>,
    /// What could not be written, first.
    trouble: Mutex<Option<String>>,
}

impl Recorder {
    /// Prepares to record so much of `programs`; what is found out is kept in `store`.
    ///
    /// # Errors
    ///
    /// None of the programs can be recorded, or files cannot be written.
    pub fn new(programs: &Programs, detail: Detail, store: Store) -> Result<Self> {
        let library = library().context("--coverage")?;
        store
            .create()
            .with_context(|| format!("cannot create {}", store.dir().display()))?;
        let mut recorder = Self {
            store,
            detail,
            library,
            tools: Vec::new(),
            running: Mutex::default(),
            notes: Vec::new(),
            obstacles: Mutex::default(),
            trouble: Mutex::default(),
        };
        for path in programs.paths() {
            if let Err(why) = recorder.add(path) {
                let path = path.display();
                recorder
                    .notes
                    .push(format!("{path} is not recorded: {why}"));
            }
        }
        if recorder.tools.is_empty() {
            bail!(
                "--coverage: nothing can be recorded: {}",
                recorder.notes.join("; ")
            );
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
        let obstacles = self
            .obstacles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        if self.tools.iter().any(|tool| tool.program.id() == id) {
            return Ok(());
        }
        let known = build_id(path).and_then(|build| self.store.table(&build));
        let table = match known {
            // It may lie elsewhere than when it was recorded.
            Some(table) => Table {
                path: path.to_owned(),
                ..table
            },
            None => {
                let mut table = Table::read(path).map_err(|why| format!("it {why}"))?;
                table.startup = self.startup(id, path, &table)?;
                self.store.put_table(&table).map_err(text)?;
                table
            }
        };
        let functions = table.functions.iter().map(|it| it.blocks.clone());
        let wanted = functions.flat_map(|blocks| match self.detail {
            Detail::Blocks => blocks,
            Detail::Functions => blocks.start..blocks.end.min(blocks.start + 1),
        });
        let noted: Vec<u32> = wanted
            .filter(|block| table.startup.binary_search(block).is_err())
            .collect();
        let program = program(id, &table, &noted).map_err(text)?;
        self.tools.push(Tool {
            program,
            table,
            noted,
        });
        Ok(())
    }

    /// The blocks that every start of a program reaches.
    fn startup(&self, id: ProgramId, path: &Path, table: &Table) -> Result<Vec<u32>, String> {
        let text = |error: io::Error| error.to_string();
        let all = 0..u32::try_from(table.blocks.len()).unwrap_or(u32::MAX);
        let program = program(id, table, &all.collect::<Vec<_>>()).map_err(text)?;
        let mut common: Option<Vec<u32>> = None;
        for question in QUESTIONS {
            let notes = Notes::new(&program).map_err(text)?;
            let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
            self.extend(&mut env, &record::value([(&program, &notes)]));
            ask_with(path, &[question], env, ANSWERS_WITHIN).map_err(|e| format!("{e:#}"))?;
            let noted = notes.read().map_err(text)?;
            match noted.obstacle {
                Some(obstacle) => return Err(obstacle.text().to_owned()),
                None if noted.processes == 0 => {
                    let what =
                        "it has not told of its blocks (is it a script, or runs as another user?)";
                    return Err(what.to_owned());
                }
                None => {}
            }
            let blocks = noted.reached.into_iter().map(|(block, _)| block);
            common = Some(match common {
                None => blocks.collect(),
                Some(before) => blocks
                    .filter(|it| before.binary_search(it).is_ok())
                    .collect(),
            });
        }
        Ok(common.unwrap_or_default())
    }

    /// Has the next try of a job recorded, whose environment is `env`. One that was recorded
    /// before is forgotten.
    pub fn begin(&self, job: &Job, env: &mut Vec<(OsString, OsString)>) {
        let notes = self.tools.iter().map(|tool| Notes::new(&tool.program));
        match notes.collect::<io::Result<Vec<Notes>>>() {
            Ok(notes) => {
                let programs = self.tools.iter().map(|tool| &tool.program);
                self.extend(env, &record::value(programs.zip(&notes)));
                self.running().insert(job.id, notes);
            }
            Err(error) => self.fail(&format!("{} is not recorded: {error}", job.test.name)),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, Vec<Notes>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the variables that have processes recorded to an environment.
    fn extend(&self, env: &mut Vec<(OsString, OsString)>, value: &str) {
        let mut change = |name: &str, change: &dyn Fn(&OsStr) -> OsString| match env
            .iter_mut()
            .find(|(known, _)| known == name)
        {
            Some((_, value)) => *value = change(value),
            None => env.push((name.into(), change(OsStr::new("")))),
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
        change(&name, &|_| value.into());
        change("LD_PRELOAD", &|old| joined(self.library.as_os_str(), old));
        // Its run-time library need not be the first then. The caller's word is the last.
        let option = OsStr::new("verify_asan_link_order=0");
        change("ASAN_OPTIONS", &|old| joined(option, old));
    }

    /// Keeps what a finished job has reached.
    pub fn finished(&self, finished: &Finished) {
        let job = &finished.job;
        let Some(notes) = self.running().remove(&job.id) else {
            return;
        };
        let tells = !matches!(
            Kind::from(&finished.verdict),
            Kind::NotRun | Kind::Interrupted
        );
        if let Some(outcome) = finished.outcome.as_ref().filter(|_| tells) {
            let at = outcome.start.duration_since(UNIX_EPOCH).unwrap_or_default();
            let reached = Reached {
                test: job.test.name.clone(),
                combo: Combo {
                    qemu: String::new(),
                    ..(*job.combo).clone()
                },
                at: at.as_secs(),
                wall_ms: u32::try_from(outcome.wall.as_millis()).unwrap_or(u32::MAX),
                programs: (self.tools.iter().zip(&notes))
                    .filter_map(|(tool, notes)| self.read(tool, notes))
                    .collect(),
            };
            if let Err(error) = self.store.put(&reached) {
                let dir = self.store.dir().display();
                self.fail(&format!("cannot write what tests reach to {dir}: {error}"));
            }
        }
    }

    fn read(&self, tool: &Tool, notes: &Notes) -> Option<ProgramReached> {
        let noted = notes.read().ok()?;
        if let Some(obstacle) = noted.obstacle {
            let (program, why) = (&tool.table.program, obstacle.text());
            let line = format!("not all processes of {program} were recorded: {why}");
            let mut obstacles = self
                .obstacles
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
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
            has_blocks: self.detail == Detail::Blocks,
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

/// A program of which these blocks are noted.
fn program(id: ProgramId, table: &Table, noted: &[u32]) -> io::Result<Program> {
    let blocks = noted.iter().filter_map(|block| {
        let block = table.blocks.get(*block as usize)?;
        Some((block.address, block.byte))
    });
    let blocks: Vec<(u32, u8)> = blocks.collect();
    let file = fs::read(&table.path)?;
    let code = table.code.as_ref();
    let code = code.and_then(|it| Code::of_segment(&file, it.file_offset, it.address, it.size));
    Program::new(id, &blocks, code)
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
