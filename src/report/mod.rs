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
mod rendered;
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
use crate::model::{Event, Reporter};
use rendered::Rendered;

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
struct All {
    sinks: Vec<Box<dyn Sink>>,
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

/// Makes the reporters that `args` ask for, the console (or TAP) among them. With
/// `tap_numbers` the verdicts of TAP carry their numbers, which the old runner leaves out;
/// `previous` is the previous run, for comparison.
///
/// # Errors
///
/// A file or directory that cannot be made, with its path.
pub fn build(
    args: &LowArgs,
    tap_numbers: bool,
    previous: Previous,
) -> anyhow::Result<Vec<Box<dyn Reporter>>> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    // Files first: the last results are in them when the console says the end.
    if let Some(path) = &args.json {
        sinks.push(Box::new(json::Json::create(path)?));
    }
    if let Some(path) = &args.junit {
        sinks.push(Box::new(junit::Junit::create(path)?));
    }
    if let Some(dir) = &args.html {
        sinks.push(Box::new(html::Html::create(dir, previous.clone())?));
    }
    if let Some(path) = &args.trace {
        sinks.push(Box::new(trace::Trace::create(path)?));
    }
    if args.tap {
        let paint = paint_on(args.color, io::stderr().is_terminal());
        let (out, diffs) = (Box::new(io::stdout()), Box::new(io::stderr()));
        let numbering = if tap_numbers {
            tap::Numbering::SoFar(0)
        } else {
            tap::Numbering::Off
        };
        sinks.push(Box::new(tap::Tap::new(
            out,
            diffs,
            paint,
            numbering,
            args.flaky_passes,
        )));
    } else {
        let paint = paint(args.color);
        let smart = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if smart && args.debugger.is_none() && io::stdout().is_terminal() {
            let screen = live::Live::new(previous.clone());
            let console = console::Console::new(screen, paint);
            sinks.push(Box::new(console.comparing(previous)));
        } else {
            sinks.push(Box::new(console::Console::new(
                console::Plain(Box::new(io::stdout())),
                paint,
            )));
        }
    }
    Ok(vec![Box::new(All { sinks })])
}
