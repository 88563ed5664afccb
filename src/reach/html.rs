//! One self-contained page: by file and function, which tests of which suite reach it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::recording::Recording;
use super::table::is_of_disk_images;
use crate::report::escape;
use crate::words;

/// How many tests are named for each function; those that reach the least else.
const TESTS_SHOWN: usize = 12;

/// A suite with its recording.
#[derive(Debug)]
pub struct Suite {
    /// What it is called: where its tests lie.
    pub name: String,
    /// What its tests have reached.
    pub recording: Recording,
}

/// What the suites have of a function.
#[derive(Default)]
struct Row {
    line: u32,
    /// For each suite the tests that reach it; `None` where its programs do not have it.
    tests: Vec<Option<Vec<usize>>>,
}

impl Row {
    /// How many suites reach it.
    fn reached(&self) -> usize {
        let tests = self.tests.iter().flatten();
        tests.filter(|tests| !tests.is_empty()).count()
    }
}

/// A file, with its functions by name.
type File = BTreeMap<String, Row>;

/// Writes the page `index.html` into `dir`, which is made where it is not there.
///
/// # Errors
///
/// It cannot be written.
pub fn write(dir: &Path, suites: &[Suite]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let page = page(suites);
    atomic_write::write(&dir.join("index.html"), |out| {
        out.write_all(page.as_bytes())
    })
}

/// The functions of all suites by file; those without a name are left out, and those of files
/// that only the emulator is made of.
fn files(suites: &[Suite]) -> BTreeMap<String, File> {
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    for (number, suite) in suites.iter().enumerate() {
        let recording = &suite.recording;
        let mut meant = vec![false; recording.functions.len()];
        for (table, program) in recording.tables.iter().enumerate() {
            for (function, it) in program.functions.iter().enumerate() {
                let is_meant = it.name.is_some()
                    && (program.is_whole || is_of_disk_images(program.file_of(it)));
                if let Some(at) = recording.number(table, function).filter(|_| is_meant) {
                    meant[at as usize] = true;
                }
            }
        }
        let tests = tests_of(recording);
        let all = recording.functions.iter().zip(tests).zip(meant);
        for ((function, tests), _) in all.filter(|(_, is_meant)| *is_meant) {
            let file = files.entry(function.file.clone()).or_default();
            let row = file.entry(function.name.clone()).or_default();
            row.line = function.line;
            row.tests.resize_with(suites.len(), || None);
            row.tests[number] = Some(tests);
        }
    }
    files
}

/// For each function the tests that reach it, by number: those that reach the least else first.
fn tests_of(recording: &Recording) -> Vec<Vec<usize>> {
    let mut tests = vec![Vec::new(); recording.functions.len()];
    let mut order: Vec<usize> = (0..recording.tests.len()).collect();
    order.sort_by_key(|test| recording.tests[*test].own);
    for test in order {
        for (function, _) in &recording.tests[test].functions {
            tests[*function as usize].push(test);
        }
    }
    tests
}

fn page(suites: &[Suite]) -> String {
    let files = files(suites);
    let mut out = String::new();
    let title = "Functions that tests reach";
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{}{}</style></head><body>\n<h1>{title}</h1>\n",
        include_str!("../report/html/style.css"),
        include_str!("reach.css"),
    );
    for (number, suite) in suites.iter().enumerate() {
        about(&mut out, suite, number, &files);
    }
    out.push_str(
        "<p class=\"filters\"><input type=\"search\" id=\"text\" placeholder=\"Filter files and \
         functions\" aria-label=\"Filter files and functions\"></p>\n",
    );
    // What is about disk images comes first, what the build makes last, and of these what has
    // most that no test reaches.
    let missing = |file: &File| file.values().filter(|row| row.reached() == 0).count();
    let mut sorted: Vec<(&String, &File)> = files.iter().collect();
    sorted.sort_by_key(|(name, file)| {
        let is_generated = name.is_empty() || name.starts_with('/');
        let place = (is_generated, !is_of_disk_images(name));
        (place, Reverse(missing(file)))
    });
    for (name, file) in sorted {
        write_file(&mut out, suites, name, file);
    }
    let _ = write!(
        out,
        "<script>\n{}</script>\n</body></html>\n",
        include_str!("reach.js")
    );
    out
}

/// What a suite is and how much it reaches.
fn about(out: &mut String, suite: &Suite, number: usize, files: &BTreeMap<String, File>) {
    let rows = || files.values().flat_map(File::values);
    let of_suite = |row: &&Row| row.tests[number].is_some();
    let all = rows().filter(of_suite).count();
    let reached = rows().filter(|row| is_reached(row, number)).count();
    let recording = &suite.recording;
    let mut programs: Vec<&str> = recording
        .tables
        .iter()
        .map(|it| it.program.as_str())
        .collect();
    programs.dedup();
    let _ = writeln!(
        out,
        "<p><b>{}</b>: {}, which reach {reached} of {all} named functions in {}.</p>",
        escape(&suite.name),
        words::count(recording.tests.len(), "result"),
        escape(&programs.join(", ")),
    );
}

fn is_reached(row: &Row, suite: usize) -> bool {
    row.tests[suite]
        .as_ref()
        .is_some_and(|tests| !tests.is_empty())
}

fn write_file(out: &mut String, suites: &[Suite], name: &str, file: &File) {
    let name = match name {
        "" => "file not known",
        name => name,
    };
    let _ = write!(
        out,
        "<details class=\"result file\"><summary><code>{}</code>",
        escape(name)
    );
    for (number, suite) in suites.iter().enumerate() {
        let all = file
            .values()
            .filter(|row| row.tests[number].is_some())
            .count();
        if all == 0 {
            continue;
        }
        let reached = file.values().filter(|row| is_reached(row, number)).count();
        let _ = write!(
            out,
            " <span class=\"share\" title=\"{}\"><meter max=\"{all}\" value=\"{reached}\"></meter> \
             {reached} of {all}</span>",
            escape(&suite.name)
        );
    }
    out.push_str("</summary>\n<table class=\"functions\"><thead><tr><th>Function</th>");
    for suite in suites {
        let _ = write!(out, "<th>{}</th>", escape(&suite.name));
    }
    out.push_str("</tr></thead><tbody>\n");
    let mut rows: Vec<(&String, &Row)> = file.iter().collect();
    rows.sort_by_key(|(_, row)| (row.reached(), row.line));
    for (name, row) in rows {
        let class = if row.reached() == 0 {
            " class=\"none\""
        } else {
            ""
        };
        let line = match row.line {
            0 => String::new(),
            line => format!(" <span class=\"dim\">{line}</span>"),
        };
        let _ = write!(
            out,
            "<tr{class}><th><code>{}</code>{line}</th>",
            escape(name)
        );
        for (number, suite) in suites.iter().enumerate() {
            let tests = row.tests[number].as_deref();
            let _ = write!(out, "<td data-suite=\"{}\">", escape(&suite.name));
            out.push_str(&cell(&suite.recording, tests));
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></details>\n");
}

/// The tests that reach a function.
fn cell(recording: &Recording, tests: Option<&[usize]>) -> String {
    let Some(tests) = tests else {
        return "<span class=\"dim\">not in its programs</span>".to_owned();
    };
    let mut names: Vec<&str> = Vec::new();
    for test in tests {
        let name = recording.tests[*test].reached.test.as_str();
        // Combinations of a test are one.
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > TESTS_SHOWN {
            break;
        }
    }
    if names.is_empty() {
        return "<b class=\"fail\">no test</b>".to_owned();
    }
    let more = tests.len() > TESTS_SHOWN && names.len() > TESTS_SHOWN;
    names.truncate(TESTS_SHOWN);
    let mut text = escape(&names.join(" "));
    if more {
        let _ = write!(
            text,
            " <span class=\"dim\">of {}</span>",
            words::count(tests.len(), "result")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::recording;
    use super::*;

    #[test]
    fn suites_stand_side_by_side_with_what_none_reaches_first() {
        let mut second = recording();
        second.tests.clear();
        let mut first = recording();
        first.tests.truncate(1);
        let suites = [("ours", first), ("<theirs>", second)];
        let suites = suites.map(|(name, recording)| Suite {
            name: name.to_owned(),
            recording,
        });
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("report"), &suites).unwrap();
        let page = std::fs::read_to_string(dir.path().join("report/index.html")).unwrap();
        assert!(
            page.ends_with("</html>\n") && page.contains("&lt;theirs&gt;"),
            "{page}"
        );
        assert!(!page.contains("http"), "the page stands alone");
        let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}: {page}"));
        assert!(at("<code>rare</code>") < at("<code>main</code>"));
        assert!(page.contains("2 of 3</span>") && page.contains("0 of 3</span>"));
        let row = "<tr class=\"none\"><th><code>rare</code> <span class=\"dim\">50</span></th>\
                   <td data-suite=\"ours\"><b class=\"fail\">no test</b></td>";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("<td data-suite=\"ours\">001</td>"), "{page}");
    }
}
