//! What no test reached: functions, and lines of functions that were reached in part.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::lines::UnreachedLines;
use super::model::{Code, Count, CoveredFunction, CoveredProgram};
use super::table::missing;
use crate::output::counted;

/// The most lines, unless all are asked for.
const MAX_LINES: usize = 200;

/// A function, which several programs may have.
struct Shared<'a> {
    file: &'a str,
    function: &'a CoveredFunction,
    /// Whether some program reached all of it.
    is_whole: bool,
    /// The blocks of the program that reached most of it.
    best: Count,
    lines: BTreeMap<u32, Count>,
}

/// A line for each function that was not reached, or not all of it, by file and line; and what
/// there is to say besides. What one program reaches of a source file is not listed for
/// another.
pub(super) fn text(programs: &[CoveredProgram], is_whole: bool) -> (String, Vec<String>) {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let mut known: BTreeMap<(&str, u32, &str), Shared<'_>> = BTreeMap::new();
    for program in programs {
        let name = program.name();
        match &program.code {
            Err(why) => notes.push(format!("functions of {name} are not listed: {why}")),
            Ok(code) if code.has_files => collect(code, &mut known),
            Ok(code) => {
                notes.push(format!("{name}: {}", missing(code)));
                lines.extend(without_files(code));
            }
        }
    }
    let with_files = known.values().filter(|it| !it.is_whole).map(Shared::line);
    let lines: Vec<String> = with_files.chain(lines).collect();
    let shown = if is_whole {
        lines.len()
    } else {
        lines.len().min(MAX_LINES)
    };
    let mut text = String::new();
    for line in &lines[..shown] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    if shown < lines.len() {
        let more = counted((lines.len() - shown) as u64, "function");
        notes.push(format!(
            "{more} more; --all lists them, a pattern selects files"
        ));
    }
    (text, notes)
}

/// Takes in the functions of a program whose source files are known.
fn collect<'a>(code: &'a Code, known: &mut BTreeMap<(&'a str, u32, &'a str), Shared<'a>>) {
    for file in &code.files {
        for function in &file.functions {
            let key = (&*file.shown, function.line.unwrap_or(0), &*function.name);
            let shared = known.entry(key).or_insert(Shared {
                file: &file.shown,
                function,
                is_whole: false,
                best: Count::default(),
                lines: BTreeMap::new(),
            });
            shared.add(function);
        }
    }
}

fn without_files(code: &Code) -> impl Iterator<Item = String> {
    let functions = code.files.iter().flat_map(|it| &it.functions);
    let mut functions: Vec<_> = functions.filter(|it| !it.blocks.is_whole()).collect();
    // Without names the size of what was not reached is all that tells them apart.
    functions.sort_by_key(|it| (Reverse(it.blocks.all - it.blocks.reached), it.address));
    let functions = functions.into_iter();
    functions.map(|it| format!("{}: {}", it.name, state(it.blocks)))
}

fn state(blocks: Count) -> String {
    let Count { reached, all } = blocks;
    match reached {
        0 => format!("not reached ({})", counted(all as u64, "block")),
        _ => format!("{reached} of {all} blocks reached"),
    }
}

impl Shared<'_> {
    fn add(&mut self, function: &CoveredFunction) {
        self.is_whole |= function.blocks.is_whole();
        if function.blocks.percent() > self.best.percent() || self.best.all == 0 {
            self.best = function.blocks;
        }
        for (line, count) in &function.lines {
            // Of a line, too, the program counts that reached most of it.
            let known = self.lines.entry(*line).or_insert(*count);
            if count.percent() > known.percent() {
                *known = *count;
            }
        }
    }

    fn line(&self) -> String {
        let line = self.function.line.unwrap_or(0);
        let mut text = format!(
            "{}:{line}: {}: {}",
            self.file,
            self.function.name,
            state(self.best)
        );
        let unreached = UnreachedLines::of(&self.lines).text();
        if !unreached.is_empty() {
            text.push_str("; ");
            text.push_str(&unreached);
        }
        text
    }
}
