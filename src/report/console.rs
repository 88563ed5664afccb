//! The console: the old runner's header, a line a test, each failure whole as soon
//! as it has happened, and the summary.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anstyle::Style;

use super::changes::Comparison;
use super::rendered::{Log, Rendered};
use super::stream::Stream;
use super::styles;
use super::summary::Tally;
use super::{Sink, unless_gone};
use crate::diff::Paint;
use crate::history::Previous;
use crate::model::{Event, Exit, Job, Kind, Verdict};
use crate::words;

/// Lines of a sanitizer's report or of stacks that are shown.
const LOG_LINES: usize = 60;
/// Lines of a failed test's output that are shown where there is no difference to
/// show.
const OUTPUT_LINES: usize = 20;

/// Where the console's text goes.
pub(super) trait Screen {
    /// Writes whole lines.
    fn write(&mut self, text: &str) -> io::Result<()>;
    /// How many columns there are; `None` where lines may have any length.
    fn columns(&self) -> Option<usize> {
        None
    }
    /// Is told of every event before anything is written for it.
    fn note(&mut self, _event: &Event, _tally: &Tally) {}
}

/// Text written as it comes: not to a live view.
pub(super) struct Plain {
    pub(super) out: Box<dyn Write>,
    /// Whether that is the terminal after all.
    pub(super) is_terminal: bool,
}

impl Plain {
    pub(super) fn new(out: Box<dyn Write>) -> Self {
        Self {
            out,
            is_terminal: false,
        }
    }
}

impl Screen for Plain {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn columns(&self) -> Option<usize> {
        self.is_terminal.then(terminal_columns).flatten()
    }
}

/// How many columns the terminal has.
pub(super) fn terminal_columns() -> Option<usize> {
    let (_, columns) = console::Term::stdout().size_checked()?;
    Some(usize::from(columns))
}

/// The console reporter.
pub(super) struct Console<S> {
    screen: S,
    paint: Paint,
    tally: Tally,
    name_width: usize,
    /// Width of the column of combinations; 0 where there is only one.
    combo_width: usize,
    /// What running tests print, where that is shown.
    stream: Stream,
    comparison: Comparison,
    trouble: Option<io::Error>,
}

impl<S: Screen> Console<S> {
    pub(super) fn new(screen: S, paint: Paint) -> Self {
        Self {
            screen,
            paint,
            tally: Tally::default(),
            name_width: 8,
            combo_width: 0,
            stream: Stream::default(),
            comparison: Comparison::default(),
            trouble: None,
        }
    }

    /// Tells in the end what has changed since an earlier run.
    pub(super) fn comparing(mut self, previous: Previous) -> Self {
        self.comparison = Comparison::new(previous);
        self
    }

    fn write(&mut self, text: &str) {
        if let Err(e) = unless_gone(self.screen.write(text)) {
            self.trouble.get_or_insert(e);
        }
    }

    fn line(&self, job: &Job, line: &TestLine<'_>) -> String {
        let name = words::name(job);
        let mut text = format!("{name:width$} ", width = self.name_width);
        if self.combo_width > 0 {
            let combo = self.tally.combos().name(&job.combo);
            let _ = write!(text, "{combo:width$} ", width = self.combo_width);
        }
        let before = text.chars().count();
        text.push_str(&self.paint.apply(line.style, line.word));
        let pad = 10usize.saturating_sub(line.word.len());
        let end = line
            .end
            .map(|at| format!("[{}]", words::time_of_day(at)))
            .unwrap_or_default();
        let took = line
            .took
            .map_or_else(|| "...".to_owned(), |t| format!("{:.1}s", t.as_secs_f64()));
        let last = line
            .last
            .map(|secs| format!(" (last: {secs:.1}s)"))
            .unwrap_or_default();
        let times = format!("[{}] {end:13}", words::time_of_day(line.start));
        let rest = match self.screen.columns() {
            // Where the columns would be broken in two, the clock is left out.
            Some(columns) if before + 11 + times.len() + 20 > columns => {
                format!("{took:5}{last} {}", line.description)
            }
            _ => format!("{times}{took:5} {last:14} {}", line.description),
        };
        let _ = write!(text, "{:pad$} {rest}", "");
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// Fits the columns to what is to come, and writes the header.
    fn started(&mut self, event: &Event) {
        let Event::RunStarted {
            header,
            jobs,
            combos,
            tests,
            shuffle,
            ..
        } = event
        else {
            return;
        };
        let widest = tests.iter().map(String::len).max().unwrap_or(6);
        self.name_width = widest + 2;
        let once = (tests.len() * combos.len()).max(1);
        if *jobs > once {
            // Repetitions stand behind the name: `030#12`.
            self.name_width += (jobs / once).to_string().len();
        }
        if combos.len() > 1 {
            let widths = self.tally.combos().all().map(|name| name.len());
            self.combo_width = widths.max().unwrap_or(0);
        }
        let mut text = words::header(header, *shuffle, "");
        text.push('\n');
        self.write(&text);
    }

    fn finished(&mut self, rendered: &Rendered<'_>) {
        let finished = rendered.finished;
        let kind = Kind::from(&finished.verdict);
        let now = rendered.at;
        let outcome = finished.outcome.as_ref();
        let mut text = self.line(
            &finished.job,
            &TestLine {
                word: words::kind(kind),
                style: styles::style(kind),
                start: outcome.map_or(now, |o| o.start),
                end: Some(outcome.map_or(now, |o| o.start + o.wall)),
                took: match kind {
                    Kind::NotRun | Kind::Interrupted => None,
                    _ => outcome.map(|o| o.wall),
                },
                last: finished.last,
                description: &rendered.description,
            },
        );
        for case in &finished.cases_not_run {
            let _ = writeln!(text, "    {}", words::one_line(case));
        }
        if matches!(finished.verdict, Verdict::Fail(_) | Verdict::Flaky { .. }) {
            text.push_str(&failure(rendered, self.paint));
        }
        for note in &finished.notes {
            let _ = writeln!(text, "    {}", words::one_line(note));
        }
        self.write(&text);
    }

    fn slow(&mut self, job: &Job, running: Duration, now: SystemTime) {
        let description = format!("still running after {}", words::seconds(running));
        let text = self.line(
            job,
            &TestLine {
                word: "slow",
                style: styles::NOT_RUN,
                start: now.checked_sub(running).unwrap_or(now),
                end: None,
                took: None,
                last: None,
                description: &description,
            },
        );
        self.write(&text);
    }
}

/// What stands in a test's line behind its name.
struct TestLine<'a> {
    word: &'a str,
    style: Style,
    start: SystemTime,
    end: Option<SystemTime>,
    took: Option<Duration>,
    last: Option<f64>,
    description: &'a str,
}

/// All details of a failure: the difference, sanitizer reports and stacks,
/// where the rest is, and how to run it again. Also used for TAP.
pub(super) fn failure(rendered: &Rendered<'_>, paint: Paint) -> String {
    let mut text = rendered.diff_text(paint).unwrap_or_default();
    let finished = rendered.finished;
    for log in &rendered.logs {
        let silent = rendered.diff.is_none();
        match (log.title.as_str(), &finished.verdict) {
            ("output", Verdict::Fail(_)) if silent => tail(&mut text, log),
            ("output", _) => {}
            _ => head(&mut text, log),
        }
    }
    if let Some(outcome) = &finished.outcome {
        for core in &outcome.cores {
            let _ = writeln!(text, "core file:   {}", words::path(core));
        }
        if !matches!(outcome.exit, Exit::NotStarted(_)) && rendered.output_kept {
            let _ = writeln!(text, "full output: {}", words::path(&outcome.output));
        }
    }
    if !finished.rerun.is_empty() {
        let _ = writeln!(text, "run again:   {}", finished.rerun);
    }
    text
}

/// The beginning of a log, between lines that say what it is.
fn head(text: &mut String, log: &Log) {
    let _ = writeln!(text, "{}: {}", log.title, words::path(&log.path));
    let mut lines = log.text.lines();
    for line in lines.by_ref().take(LOG_LINES) {
        let _ = writeln!(text, "    {line}");
    }
    let left = lines.count();
    if left > 0 || log.left_out > 0 {
        let _ = writeln!(text, "    ... more in the file");
    }
}

/// The last lines of a log.
fn tail(text: &mut String, log: &Log) {
    let lines: Vec<&str> = log.text.lines().collect();
    let from = lines.len().saturating_sub(OUTPUT_LINES);
    if from > 0 || log.left_out > 0 {
        let _ = writeln!(text, "the last lines of the output:");
    } else {
        let _ = writeln!(text, "the output:");
    }
    for line in &lines[from..] {
        let _ = writeln!(text, "    {line}");
    }
}

impl<S: Screen> Sink for Console<S> {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        self.tally.event(event);
        self.comparison.event(event);
        self.screen.note(event, &self.tally);
        if !matches!(event, Event::Output { .. } | Event::Started { .. }) {
            let rest = self.stream.finish();
            self.write(&rest);
        }
        match event {
            Event::RunStarted { .. } => self.started(event),
            Event::Started { .. } => {}
            Event::Slow { job, running, at } => self.slow(job, *running, *at),
            Event::WaitsForGdb {
                job,
                program,
                command,
            } => {
                // The command stands alone, so that a line is what is pasted.
                let name = words::name(job);
                self.write(&format!("{name}: waits for gdb: {program}\n{command}\n"));
            }
            Event::Debugging { job, program } => {
                let name = words::name(job);
                self.write(&format!(
                    "{name}: in gdb (quit kills it, detach lets it go on): {program}\n"
                ));
            }
            Event::Output { bytes, .. } => {
                let text = self.stream.push(bytes);
                self.write(&text);
            }
            Event::Finished(_) => {
                if let Some(rendered) = rendered {
                    self.finished(rendered);
                }
            }
            Event::StatusAsked { at } => {
                let text = self.tally.status(*at);
                self.write(&format!("{text}\n"));
            }
            Event::Interrupting { running } => self.write(&format!(
                "Interrupted: stopping {}; press Ctrl-C again to kill them\n",
                words::count(*running, "running test")
            )),
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            } => {
                if let Some(at) = self.comparison.at() {
                    let changes = self.comparison.changes();
                    let text = changes.text(at, self.tally.combos());
                    self.write(&format!("\n{text}"));
                }
                let text = self
                    .tally
                    .summary(not_reached, *interrupted, *wall, self.paint);
                self.write(&text);
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.trouble.take();
        let said = trouble.map(|e| format!("cannot write to standard output: {e}"));
        said.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Failure, Finished};
    use crate::report::sample;

    /// A terminal that keeps what is written to it.
    struct Narrow(usize, Vec<u8>);

    impl Screen for Narrow {
        fn write(&mut self, text: &str) -> io::Result<()> {
            self.1.write_all(text.as_bytes())
        }

        fn columns(&self) -> Option<usize> {
            Some(self.0)
        }
    }

    #[test]
    fn the_clock_is_left_out_where_a_line_would_be_broken() {
        let shown_on = |columns: usize| {
            let mut console = Console::new(Narrow(columns, Vec::new()), Paint::Ansi);
            let event = sample::run_started(&["030"], 0);
            console.event(&event, None);
            console.screen.1.clear();
            let mut finished = sample::finished(sample::job(0, "030", "qcow2"), Verdict::Pass);
            finished.last = Some(12.5);
            let rendered = Rendered::new(&finished);
            let event = Event::Finished(Box::new(finished.clone()));
            console.event(&event, Some(&rendered));
            String::from_utf8(console.screen.1).unwrap()
        };
        let narrow = shown_on(40);
        assert!(narrow.ends_with("1.5s  (last: 12.5s)\n"), "{narrow}");
        assert!(!narrow.contains("] "), "{narrow}");
        let wide = shown_on(80);
        assert!(wide.ends_with("]   1.5s   (last: 12.5s)\n"), "{wide}");
    }

    fn failed(dir: &std::path::Path, failure: Failure, output: &str) -> Finished {
        let job = sample::job(0, "030", "qcow2");
        let mut finished = sample::finished(job, Verdict::Fail(vec![failure]));
        if let Some(outcome) = &mut finished.outcome {
            outcome.output = dir.join("030.out.bad");
            std::fs::write(&outcome.output, output).unwrap();
        }
        finished
    }

    #[test]
    fn a_sanitizers_report_is_shown_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = failed(dir.path(), Failure::Sanitizer, "fine\n");
        let log = dir.path().join("030.out.asan.7");
        let report: String = (0..100).map(|n| format!("#{n} in qcow2_open\n")).collect();
        std::fs::write(&log, report).unwrap();
        let outcome = f.outcome.as_mut().unwrap();
        outcome.sanitizer_logs = vec![log.clone()];
        outcome.cores = vec![dir.path().join("030.core.7")];
        let text = failure(&Rendered::new(&f), Paint::Plain);
        assert!(text.starts_with(&format!("sanitizer report: {}\n", log.display())));
        assert!(text.contains("    #59 in qcow2_open\n    ... more in the file\n"));
        assert!(!text.contains("#60"), "{text}");
        assert!(text.contains("core file:   "), "{text}");
        assert!(
            text.ends_with("run again:   ./check -qcow2 030\n"),
            "{text}"
        );
    }

    #[test]
    fn without_a_difference_the_outputs_end_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let output: String = (0..100).map(|n| format!("step {n}\n")).collect();
        let f = failed(dir.path(), Failure::Signal(11), &output);
        let text = failure(&Rendered::new(&f), Paint::Plain);
        let wanted = "the last lines of the output:\n    step 80\n";
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.contains("    step 99\nfull output: "), "{text}");
    }
}
