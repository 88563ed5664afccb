//! Small made-up values that tests of the verdict, the reports and the history
//! share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{Combo, Event, Exit, Finished, Job, JobId, Outcome, Start, Test, Verdict};

/// A moment all samples agree on.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

pub(crate) fn combo(format: &str) -> Combo {
    Combo {
        format: format.into(),
        protocol: "file".into(),
        cache: "writeback".into(),
        aio: "threads".into(),
        options: String::new(),
        qemu: String::new(),
    }
}

/// A run of these tests on qcow2 begins at this time.
pub(crate) fn run_started(tests: &[&str], seconds: u64) -> Event {
    Event::RunStarted {
        header: vec![("IMGFMT".into(), "<qcow2>".into())],
        jobs: tests.len(),
        combos: vec![Arc::new(combo("qcow2"))],
        tests: tests.iter().map(|&t| t.to_owned()).collect(),
        shuffle: None,
        at: at(seconds),
    }
}

pub(crate) fn test(name: &str) -> Test {
    Test {
        name: name.into(),
        source: PathBuf::from(format!("/src/{name}")),
        start: Start::Exec(PathBuf::from(format!("/src/{name}"))),
        cwd: PathBuf::from("/src"),
        golden_dir: PathBuf::from("/src"),
        groups: ["rw".to_owned()].into(),
        summary: format!("Tests {name}."),
        needs: Vec::new(),
        timeout: None,
        retries: 0,
    }
}

pub(crate) fn job(id: u32, name: &str, format: &str) -> Job {
    Job {
        id: JobId(id),
        test: Arc::new(test(name)),
        combo: Arc::new(combo(format)),
        repetition: 0,
        skip: None,
        known: None,
    }
}

pub(crate) fn outcome(name: &str) -> Outcome {
    Outcome {
        exit: Exit::Status(0),
        ended: None,
        output: PathBuf::from(format!("/scratch/qcow2-file-{name}/{name}.out.bad")),
        notrun: None,
        casenotrun: None,
        sanitizer_logs: Vec::new(),
        left_behind: Vec::new(),
        left_mounts: Vec::new(),
        cores: Vec::new(),
        stacks: None,
        scratch: PathBuf::from(format!("/scratch/qcow2-file-{name}")),
        start: at(0),
        wall: Duration::from_millis(1500),
        cpu: Duration::from_millis(700),
    }
}

pub(crate) fn finished(job: Job, verdict: Verdict) -> Finished {
    let outcome = match verdict {
        Verdict::NotRun(_) => None,
        _ => Some(outcome(&job.test.name)),
    };
    Finished {
        rerun: format!("./check -{} {}", job.combo.format, job.test.name),
        job,
        verdict,
        outcome,
        reference: None,
        mismatch: None,
        cases_not_run: Vec::new(),
        last: None,
        retries: None,
        notes: Vec::new(),
    }
}
