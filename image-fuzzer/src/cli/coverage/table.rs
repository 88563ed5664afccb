//! Coverage as tables.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::model::{Code, Count, CoveredProgram, SourceFile};
use crate::output::counted;

/// The most rows of a table, unless all are asked for.
const MAX_ROWS: usize = 60;

/// A table for each program.
pub(super) fn text(programs: &[CoveredProgram], is_whole: bool) -> String {
    let mut text = String::new();
    for program in programs {
        if !text.is_empty() {
            text.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", header(program));
        match &program.code {
            Err(why) => {
                let _ = writeln!(text, "no functions and source files: {why}");
            }
            Ok(code) if code.has_files => text.push_str(&files(code, is_whole)),
            Ok(code) => {
                let _ = writeln!(text, "{}", missing(code));
                text.push_str(&functions(code, is_whole));
            }
        }
    }
    text
}

/// What was reached of a program, in a line.
pub(super) fn header(program: &CoveredProgram) -> String {
    let path = program.file.path.display();
    let blocks = of(program.blocks, "blocks");
    let functions = program.code.as_ref().map_or_else(
        |_| String::new(),
        |code| format!(", {}", of(code.functions, "functions")),
    );
    format!("{path}: reached {blocks}{functions}")
}

/// `3 of 4 blocks (75 %)`.
pub(super) fn of(count: Count, things: &str) -> String {
    let Count { reached, all } = count;
    format!("{reached} of {all} {things} ({:.0} %)", count.percent())
}

/// What is not known of functions.
pub(super) fn missing_what(code: &Code) -> &'static str {
    if code.has_names {
        "source files"
    } else {
        "names of functions and source files"
    }
}

/// What there is to do where names or source files are not known.
pub(super) fn missing(code: &Code) -> String {
    let what = missing_what(code);
    match &code.install {
        Some(line) => format!("no {what}; to install them: {line}"),
        None => {
            format!("no {what}: there are no debug symbols; --debug-dir names a folder of them")
        }
    }
}

const HEADER: &str = "REACHED        BLOCKS   FUNCTIONS  FILE\n";

/// The table by source file.
fn files(code: &Code, is_whole: bool) -> String {
    let mut text = String::from(HEADER);
    let files = code.files.iter();
    let mut shown: Vec<&SourceFile> = files
        .filter(|it| is_whole || it.count().is_reached())
        .collect();
    let most = if is_whole { usize::MAX } else { MAX_ROWS };
    if shown.len() > most {
        // What tests hardly get to tells little of them.
        let mut sizes: Vec<usize> = shown.iter().map(|it| it.blocks().reached).collect();
        sizes.sort_unstable_by_key(|size| Reverse(*size));
        let least = sizes[most];
        shown.retain(|it| it.blocks().reached > least);
    }
    for file in &shown {
        text.push_str(&row(file.blocks(), Some(file.count()), &file.shown));
    }
    if code.files.len() > 1 {
        let blocks = Count::sum(code.files.iter().map(SourceFile::blocks));
        let functions = Count::sum(code.files.iter().map(SourceFile::count));
        let files = counted(code.files.len() as u64, "file");
        text.push_str(&row(blocks, Some(functions), &format!("({files})")));
    }
    let left_out = code.files.len() - shown.len();
    if left_out > 0 {
        let _ = writeln!(
            text,
            "not shown: {} of which less or nothing was reached (--all shows them)",
            counted(left_out as u64, "file"),
        );
    }
    text
}

/// The table by function, those first that have most blocks that were not reached.
fn functions(code: &Code, is_whole: bool) -> String {
    let mut rows: Vec<_> = code.files.iter().flat_map(|it| &it.functions).collect();
    rows.sort_by_key(|it| {
        let unreached = it.blocks.all - it.blocks.reached;
        (!it.blocks.is_reached(), Reverse(unreached), it.address)
    });
    let shown = if is_whole {
        rows.len()
    } else {
        rows.len().min(MAX_ROWS)
    };
    let mut text = HEADER.replace("FUNCTIONS  FILE", "         FUNCTION");
    for function in &rows[..shown] {
        text.push_str(&row(function.blocks, None, &function.name));
    }
    if shown < rows.len() {
        let more = counted((rows.len() - shown) as u64, "function");
        let _ = writeln!(text, "not shown: {more} (--all shows them)");
    }
    text
}

fn row(blocks: Count, functions: Option<Count>, name: &str) -> String {
    let fraction = |count: Count| format!("{}/{}", count.reached, count.all);
    let functions = functions.map_or_else(String::new, fraction);
    format!(
        "{:>5.0} % {:>13} {functions:>11}  {name}\n",
        blocks.percent(),
        fraction(blocks)
    )
}
