//! TAP version 13 on stdout, as the old runner writes it; differences go to
//! stderr.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::console::failure;
use super::rendered::Rendered;
use super::summary::Tally;
use super::{Sink, unless_gone};
use crate::diff::Paint;
use crate::model::{Event, Job, Kind, Verdict};
use crate::words;

/// Whether the lines with verdicts carry their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    /// `ok qcow2 001`, as in a QEMU tree.
    Off,
    /// `ok 7 qcow2 001`: seven verdicts so far.
    SoFar(usize),
}

impl Numbering {
    /// The text between `ok` and the test's name.
    fn next(&mut self) -> String {
        match self {
            Self::Off => String::new(),
            Self::SoFar(n) => {
                *n += 1;
                format!("{n} ")
            }
        }
    }
}

/// The TAP reporter.
pub(super) struct Tap {
    out: Box<dyn Write>,
    diffs: Box<dyn Write>,
    paint: Paint,
    tally: Tally,
    several_combos: bool,
    numbering: Numbering,
    flaky_passes: bool,
    trouble: Option<io::Error>,
}

impl Tap {
    pub(super) fn new(
        out: Box<dyn Write>,
        diffs: Box<dyn Write>,
        paint: Paint,
        numbering: Numbering,
        flaky_passes: bool,
    ) -> Self {
        Self {
            numbering,
            flaky_passes,
            out,
            diffs,
            paint,
            tally: Tally::default(),
            several_combos: false,
            trouble: None,
        }
    }

    fn write(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes());
        if let Err(e) = unless_gone(written.and_then(|()| self.out.flush())) {
            self.trouble.get_or_insert(e);
        }
    }

    /// `qcow2 030`; with several combinations, which one.
    fn title(&self, job: &Job) -> String {
        let name = words::name(job);
        if self.several_combos {
            // A `#` would begin a directive.
            format!("{} {name}", words::combo(&job.combo)).replace('#', ":")
        } else {
            format!("{} {name}", job.combo.format).replace('#', ":")
        }
    }

    fn finished(&mut self, rendered: &Rendered<'_>) {
        let finished = rendered.finished;
        let title = self.numbering.next() + &self.title(&finished.job);
        let mut text = match &finished.verdict {
            Verdict::Pass => format!("ok {title}\n"),
            Verdict::Flaky { .. } if self.flaky_passes => format!("ok {title}\n"),
            // It makes the run fail, so a harness must not count it as passed.
            Verdict::Fail(_) | Verdict::Flaky { .. } => format!("not ok {title}\n"),
            Verdict::KnownFail(_) => format!("not ok {title} # TODO {}\n", rendered.description),
            Verdict::NotRun(_) | Verdict::Interrupted => {
                format!("ok {title} # SKIP {}\n", rendered.description)
            }
        };
        match Kind::from(&finished.verdict) {
            Kind::NotRun | Kind::Interrupted | Kind::KnownFail => {}
            Kind::Flaky => {
                let _ = writeln!(text, "# flaky: {}", rendered.description);
            }
            _ if rendered.description.is_empty() => {}
            _ => {
                let _ = writeln!(text, "# {}", rendered.description);
            }
        }
        for line in finished.cases_not_run.iter().chain(&finished.notes) {
            let _ = writeln!(text, "# {}", words::one_line(line));
        }
        self.write(&text);
        if matches!(finished.verdict, Verdict::Fail(_) | Verdict::Flaky { .. }) {
            let text = failure(rendered, self.paint);
            let written = self.diffs.write_all(text.as_bytes());
            if let Err(e) = written.and_then(|()| self.diffs.flush()) {
                self.trouble.get_or_insert(e);
            }
        }
    }
}

impl Sink for Tap {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        self.tally.event(event);
        match event {
            Event::RunStarted {
                header,
                jobs,
                combos,
                shuffle,
                ..
            } => {
                self.several_combos = combos.len() > 1;
                let mut text = String::from("TAP version 13\n");
                text.push_str(&words::header(header, *shuffle, "# "));
                let _ = writeln!(text, "# \n1..{jobs}");
                self.write(&text);
            }
            Event::Started { job, .. } => {
                let text = format!("# running {}\n", self.title(job));
                self.write(&text);
            }
            Event::Slow { job, running, .. } => {
                let running = words::seconds(*running);
                let text = format!(
                    "# slow {}: still running after {running}\n",
                    self.title(job)
                );
                self.write(&text);
            }
            Event::WaitsForGdb {
                job,
                program,
                command,
            } => {
                let title = self.title(job);
                self.write(&format!(
                    "# {title} waits for gdb: {program}\n# {command}\n"
                ));
            }
            // Neither goes together with TAP on the same stream.
            Event::Debugging { .. } | Event::Output { .. } => {}
            Event::Finished(_) => {
                if let Some(rendered) = rendered {
                    self.finished(rendered);
                }
            }
            Event::StatusAsked { at } => {
                let text = format!("# {}\n", self.tally.status(*at));
                self.write(&text);
            }
            Event::Interrupting { running } => {
                let text = format!(
                    "# interrupted: stopping {}\n",
                    words::count(*running, "running test")
                );
                self.write(&text);
            }
            Event::RunFinished {
                not_reached,
                interrupted,
                ..
            } => {
                if *interrupted || !not_reached.is_empty() {
                    let late = words::count(not_reached.len(), "test");
                    let why = if *interrupted {
                        "interrupted"
                    } else {
                        "ended early"
                    };
                    self.write(&format!("Bail out! {why}, {late} not started\n"));
                }
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.trouble.take();
        let said = trouble.map(|e| format!("cannot write TAP: {e}"));
        said.into_iter().collect()
    }
}
