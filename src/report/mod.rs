//! Reporters: the output of a run for people, test harnesses and other tools.
//!
//! Each result is prepared once and handed to every report that was
//! asked for, so all say the same.

mod changes;
mod combos;
mod console;
mod html;
mod json;
mod junit;
mod live;
mod live_file;
mod matrix;
mod record;
mod rendered;
mod stream;
mod styles;
mod summary;
mod tap;
mod trace;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod sample;

use std::io::{self, IsTerminal};

use crate::args::{Color, LowArgs};
use crate::diff::Paint;
use crate::history::Previous;
use crate::model::{Event, Job, Reporter};
pub(crate) use html::escape;
pub use json::{Decoded, decode};
pub use record::{EVENTS, JOBS};
pub use rendered::Parts;
use rendered::Rendered;

/// What reports are told of a run besides its events.
#[derive(Debug, Clone, Default)]
pub struct RunInfo {
    /// Whether a flaky test is no failure.
    pub flaky_passes: bool,
    /// Whether the verdicts of TAP carry their numbers, which QEMU's runner leaves out.
    pub tap_numbers: bool,
    /// Which share of the jobs this run has, where it has not all.
    pub shard: Option<Shard>,
    /// Shards that belong to a merged run and of which there is no result, a line each.
    pub missing_shards: Vec<String>,
    /// Every job that is planned; the number of each is its position.
    pub plan: Vec<Job>,
}

/// A share of the jobs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Which share, from 1.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// How many jobs all of them have together.
    pub jobs: usize,
    /// Which jobs were shared out, and how: the same for all shards of one run.
    pub plan: String,
}

/// Whether what goes to stdout is coloured.
#[must_use]
pub fn paint(color: Color) -> Paint {
    paint_on(color, io::stdout().is_terminal())
}

/// Whether what goes to a stream is coloured; on a terminal the user may still have
/// asked all programs for no colour (`NO_COLOR`).
fn paint_on(color: Color, terminal: bool) -> Paint {
    let wanted = || std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match color {
        Color::On => Paint::Ansi,
        Color::Auto if terminal && wanted() => Paint::Ansi,
        Color::Off | Color::Auto => Paint::Plain,
    }
}

/// What came of writing to standard output: a closed pipe is not an error.
///
/// # Errors
///
/// It could not be written for another reason.
pub fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// One report. Like [`Reporter`], with each result prepared; results come in
/// `rendered` (and only there).
trait Sink {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>);
    fn finish(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// All reports of a run.
pub struct All {
    sinks: Vec<Box<dyn Sink>>,
}

impl All {
    /// Tells an event that happened earlier; of a result, `parts` are what was worked out
    /// of it then.
    pub fn replay(&mut self, event: &Event, parts: Option<Parts>) {
        let rendered = match (event, parts) {
            (Event::Finished(finished), Some(parts)) => Some(Rendered::stored(finished, parts)),
            _ => None,
        };
        for sink in &mut self.sinks {
            sink.event(event, rendered.as_ref());
        }
    }
}

impl Reporter for All {
    fn event(&mut self, event: &Event) {
        let rendered = match event {
            Event::Finished(finished) => Some(Rendered::new(finished)),
            _ => None,
        };
        for sink in &mut self.sinks {
            sink.event(event, rendered.as_ref());
        }
    }

    fn finish(&mut self) -> Vec<String> {
        self.sinks.iter_mut().flat_map(|s| s.finish()).collect()
    }
}

/// Makes the reports of a run that `args` ask for, the console (or TAP) among them.
/// `previous` is the previous run, for comparison. With `stream` the output of tests is shown as
/// it comes, and there is no live view.
///
/// # Errors
///
/// A file or directory that cannot be made, with its path.
pub fn build(
    args: &LowArgs,
    info: &RunInfo,
    previous: Previous,
    stream: bool,
) -> anyhow::Result<All> {
    let mut sinks = files(args, info, &previous)?;
    if args.tap {
        sinks.push(tap(args, info));
        return Ok(All { sinks });
    }
    let paint = paint(args.color);
    let smart = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    if smart && !stream && args.debugger.is_none() && io::stdout().is_terminal() {
        let screen = live::Live::new(previous.clone());
        let console = console::Console::new(screen, paint);
        sinks.push(Box::new(console.comparing(previous)));
    } else {
        sinks.push(Box::new(console::Console::new(
            console::Plain::new(Box::new(io::stdout())),
            paint,
        )));
    }
    Ok(All { sinks })
}

/// The same for a run of earlier: nothing is running that a live view could show.
///
/// # Errors
///
/// As for [`build`].
pub fn build_replay(args: &LowArgs, info: &RunInfo, previous: &Previous) -> anyhow::Result<All> {
    let mut sinks = files(args, info, previous)?;
    if args.tap {
        sinks.push(tap(args, info));
    } else {
        let screen = console::Plain {
            out: Box::new(io::stdout()),
            is_terminal: io::stdout().is_terminal(),
        };
        sinks.push(Box::new(console::Console::new(screen, paint(args.color))));
    }
    Ok(All { sinks })
}

/// The reports that are files. They come first: the last results are in them when the
/// console says the end.
fn files(
    args: &LowArgs,
    info: &RunInfo,
    previous: &Previous,
) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let encoder = || json::Encoder::new(info.clone(), previous.clone());
    if let Some(path) = &args.json {
        sinks.push(Box::new(json::Json::create(path, encoder())?));
    }
    if let Some(path) = &args.record {
        sinks.push(Box::new(record::Record::create(path, encoder())?));
    }
    if let Some(path) = &args.junit {
        let junit = junit::Junit::create(path, args.junit_failures_only)?;
        sinks.push(Box::new(junit));
    }
    if let Some(dir) = &args.html {
        sinks.push(Box::new(html::Html::create(dir, previous.clone())?));
    }
    if let Some(path) = &args.trace {
        sinks.push(Box::new(trace::Trace::create(path)?));
    }
    Ok(sinks)
}

fn tap(args: &LowArgs, info: &RunInfo) -> Box<dyn Sink> {
    let paint = paint_on(args.color, io::stderr().is_terminal());
    let (out, diffs) = (Box::new(io::stdout()), Box::new(io::stderr()));
    let numbering = if info.tap_numbers {
        tap::Numbering::SoFar(0)
    } else {
        tap::Numbering::Off
    };
    let flaky_passes = info.flaky_passes;
    Box::new(tap::Tap::new(out, diffs, paint, numbering, flaky_passes))
}
