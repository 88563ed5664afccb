//! A suite of shell scripts in a directory of its own, and what came of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use check::golden;
use check::history::Past;
use check::model::{Combo, Event, Finished, Job, JobId, Reporter, Start, Test, Verdict};
use check::run::{Parallel, RunHost, Settings, Summary, run};
use childproc::Keeper;
use tempfile::TempDir;

/// A suite with one combination.
pub(crate) struct Suite {
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
    pub(crate) jobs: Vec<Job>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// What the host remembers, by the test's name.
    pub(crate) past: Vec<(&'static str, Past)>,
}

/// A run's events, and its summary.
pub(crate) struct Report {
    pub(crate) summary: Summary,
    pub(crate) events: Vec<Event>,
}

impl Suite {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(dir.path().join("scratch"), dir.path().join("sock"));
        settings.parallel = Parallel::Exactly(2);
        let path = std::env::var_os("PATH").unwrap();
        Self {
            dir,
            settings,
            jobs: Vec::new(),
            env: vec![("PATH".into(), path)],
            past: Vec::new(),
        }
    }

    /// Adds a test that is this shell script; `golden` is its reference.
    pub(crate) fn test(&mut self, name: &str, script: &str, golden: &str) -> &mut Job {
        let source = self.dir.path().join(name);
        fs::write(&source, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.dir.path().join(format!("{name}.out")), golden).unwrap();
        let test = Test {
            name: name.into(),
            start: Start::Exec(source.clone()),
            source,
            cwd: self.dir.path().into(),
            golden_dir: self.dir.path().into(),
            groups: BTreeSet::new(),
            summary: String::new(),
            needs: Vec::new(),
            retries: 0,
            timeout: None,
        };
        let combo = Combo {
            format: "raw".into(),
            protocol: "file".into(),
            cache: "writeback".into(),
            aio: "threads".into(),
            options: String::new(),
            qemu: String::new(),
        };
        self.jobs.push(Job {
            id: JobId(u32::try_from(self.jobs.len()).unwrap()),
            test: Arc::new(test),
            combo: Arc::new(combo),
            repetition: 0,
            skip: None,
            known: None,
        });
        self.jobs.last_mut().unwrap()
    }

    /// Changes the test added last.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Test)) {
        let job = self.jobs.last_mut().unwrap();
        change(Arc::get_mut(&mut job.test).unwrap());
    }

    /// The scratch directory of a test.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.settings.test_dir.join(format!("raw-file-{name}"))
    }

    pub(crate) fn run(&self) -> Report {
        self.run_while(|_, _| {})
    }

    /// Runs the suite, with `meanwhile` told of every event as it comes.
    pub(crate) fn run_while(
        &self,
        meanwhile: impl FnOnce(&Self, Receiver<Event>) + Send,
    ) -> Report {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = channel();
        let collector: Box<dyn Reporter> = Box::new(Collector {
            events: Arc::clone(&events),
            sender,
        });
        let keeper = Keeper::start().unwrap();
        let summary = std::thread::scope(|scope| {
            scope.spawn(|| meanwhile(self, receiver));
            let mut reporters = vec![collector];
            run(
                &keeper,
                &self.settings,
                self.jobs.clone(),
                self,
                &mut reporters,
            )
            .unwrap()
        });
        drop(keeper);
        let events = std::mem::take(&mut *events.lock().unwrap());
        Report { summary, events }
    }
}

impl RunHost for Suite {
    fn environment(
        &self,
        job: &Job,
        test_dir: &Path,
        sock_dir: &Path,
    ) -> Vec<(OsString, OsString)> {
        assert!(job.test.name != "panics", "on purpose");
        let mut env = self.env.clone();
        env.push(("TEST_DIR".into(), test_dir.into()));
        env.push(("SOCK_DIR".into(), sock_dir.into()));
        env.push(("NAME".into(), job.test.name.clone().into()));
        env
    }

    fn reference(&self, job: &Job) -> Option<PathBuf> {
        golden::find(&job.test, &job.combo, "")
    }

    fn past(&self, job: &Job) -> Option<Past> {
        let found = self.past.iter().find(|(name, _)| *name == job.test.name);
        found.map(|(_, past)| *past)
    }

    fn rerun(&self, job: &Job) -> String {
        format!("check {}", job.test.name)
    }

    fn finished(&self, finished: &mut Finished) {
        finished.notes.push("seen".to_owned());
    }
}

struct Collector {
    events: Arc<Mutex<Vec<Event>>>,
    sender: Sender<Event>,
}

impl Reporter for Collector {
    fn event(&mut self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        // Nobody may be listening.
        let _ = self.sender.send(event.clone());
    }
}

impl Report {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Finished> {
        self.events.iter().filter_map(|event| match event {
            Event::Finished(finished) => Some(&**finished),
            _ => None,
        })
    }

    pub(crate) fn of(&self, name: &str) -> &Finished {
        self.all().find(|f| f.job.test.name == name).unwrap()
    }

    pub(crate) fn verdict(&self, name: &str) -> &Verdict {
        &self.of(name).verdict
    }

    /// Names in the order in which they were started.
    pub(crate) fn started(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Started { job, .. } => Some(job.test.name.as_str()),
                _ => None,
            })
            .collect()
    }
}
