//! Coverage as a self-contained page.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::path::Path;

use super::super::curves::{curve, curves};
use super::super::html::escape;
use super::Coverage;
use super::lines::UnreachedLines;
use super::model::{Code, Count, CoveredFunction, CoveredProgram, SourceFile};
use super::table::{missing_what, of};
use crate::campaign::{BlockLog, Moment, moments};
use crate::input::recipe::FUZZER;
use crate::output::counted;

/// The most functions of a program without source files, unless all are asked for.
const MAX_FUNCTIONS: usize = 500;

/// The page on the work folder `dir`.
pub(super) fn page(coverage: &Coverage, dir: &Path, is_whole: bool) -> String {
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>image-fuzzer: coverage</title>\n<style>\n{}{}</style></head><body>\n\
         <h1>image-fuzzer: coverage</h1>\n<p>Basic blocks that the tests in <code>{}</code> \
         reached, by {FUZZER}.</p>\n",
        include_str!("../report/style.css"),
        include_str!("coverage.css"),
        escape(&dir.display().to_string())
    );
    text.push_str(&over_time(&coverage.log, &moments(dir)));
    text.push_str(
        "<div class=\"filters\"><input type=\"search\" id=\"text\" \
         placeholder=\"Filter by file or function\" aria-label=\"Filter by file or function\"> \
         <span class=\"dim\" id=\"shown\"></span></div>\n",
    );
    for program in &coverage.programs {
        text.push_str(&section(program, is_whole));
    }
    text.push_str("<script>\n");
    text.push_str(include_str!("filter.js"));
    text.push_str("</script></body></html>\n");
    text
}

/// Blocks, groups of findings and images over the time of the campaign.
fn over_time(log: &BlockLog, moments: &[Moment]) -> String {
    let end = moments.last().map_or(0.0, |it| it.seconds);
    let number = |count: usize| count as f64;
    let firsts = log.reached.iter().enumerate();
    let blocks = firsts
        .map(|(index, first)| (first.seconds, number(index + 1)))
        .chain([(end, number(log.reached.len()))]);
    let mut figures = vec![curve("blocks", blocks)];
    if moments.len() > 1 {
        let groups = |it: &Moment| it.groups as f64;
        let images = |it: &Moment| it.images as f64;
        let over =
            |value: fn(&Moment) -> f64| moments.iter().map(move |it| (it.seconds, value(it)));
        figures.push(curve("groups", over(groups)));
        figures.push(curve("images", over(images)));
    }
    curves(&figures)
}

/// What was reached of one program.
fn section(program: &CoveredProgram, is_whole: bool) -> String {
    let mut text = format!(
        "<h2>{}</h2>\n<p>{}",
        escape(&program.file.path.display().to_string()),
        of(program.blocks, "blocks")
    );
    // Writing to a string cannot fail.
    match &program.code {
        Err(why) => {
            let _ = writeln!(
                text,
                ". No functions and source files: {}.</p>",
                escape(why)
            );
        }
        Ok(code) => {
            let _ = writeln!(text, ", {}</p>", of(code.functions, "functions"));
            match code.has_files {
                true => text.push_str(&with_files(code)),
                false => text.push_str(&without_files(code, is_whole)),
            }
        }
    }
    text
}

/// The source files of a program, those behind a click of which nothing was reached.
fn with_files(code: &Code) -> String {
    let files = code.files.iter();
    let (reached, others): (Vec<_>, Vec<_>) = files.partition(|it| it.count().is_reached());
    let is_open = code.files.len() == 1;
    let all = |files: Vec<&SourceFile>| -> String {
        let files = files.into_iter();
        files.map(|it| file(it, is_open, usize::MAX)).collect()
    };
    let mut text = all(reached);
    if !others.is_empty() {
        let count = counted(others.len() as u64, "file");
        let open = if text.is_empty() { " open" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<details class=\"others\"{open}><summary>{count} of which nothing was reached\
             </summary>\n{}</details>",
            all(others)
        );
    }
    text
}

/// The functions of a program whose source files are not known.
fn without_files(code: &Code, is_whole: bool) -> String {
    let most = if is_whole { usize::MAX } else { MAX_FUNCTIONS };
    let files = code.files.iter().map(|it| file(it, true, most));
    let what = missing_what(code);
    let how = code.install.as_ref().map_or_else(String::new, |line| {
        format!(" To install them: <code>{}</code>", escape(line))
    });
    format!("<p>No {what}.{how}</p>\n{}", files.collect::<String>())
}

/// A file with at most so many of its functions.
fn file(file: &SourceFile, is_open: bool, most: usize) -> String {
    let mut functions: Vec<&CoveredFunction> = file.functions.iter().collect();
    // What was not reached comes first; of that, what is largest.
    functions.sort_by_key(|it| {
        let unreached = it.blocks.all - it.blocks.reached;
        (it.blocks.is_reached(), Reverse(unreached), it.address)
    });
    let left_out = functions.len().saturating_sub(most);
    functions.truncate(most);
    let rows: String = functions.iter().map(|it| function(it)).collect();
    let names = functions.iter().map(|it| it.name.to_lowercase());
    let words = format!(
        "{} {}",
        file.shown.to_lowercase(),
        names.collect::<Vec<_>>().join(" ")
    );
    let more = match left_out {
        0 => String::new(),
        more => format!(
            "<p class=\"dim\">{} not shown; --all shows them.</p>\n",
            counted(more as u64, "function")
        ),
    };
    let count = file.count();
    format!(
        "<details class=\"file\" data-text=\"{}\"{}><summary>{}<code>{}</code> \
         <span class=\"dim\">{}/{} blocks, {}/{} functions</span></summary>\n\
         <table class=\"functions\">\n{rows}</table>\n{more}</details>\n",
        escape(&words),
        if is_open { " open" } else { "" },
        share("span", file.blocks()),
        escape(&file.shown),
        file.blocks().reached,
        file.blocks().all,
        count.reached,
        count.all,
    )
}

fn function(function: &CoveredFunction) -> String {
    let line = function
        .line
        .map_or_else(String::new, |it| format!("{it} "));
    let lines = UnreachedLines::of(&function.lines).text();
    format!(
        "<tr>{}<td class=\"name\"><span class=\"dim\">{line}</span><code>{}</code></td>\
         <td class=\"count\">{}/{}</td><td class=\"lines\">{lines}</td></tr>\n",
        share("td", function.blocks),
        escape(&function.name),
        function.blocks.reached,
        function.blocks.all,
    )
}

/// A bar with the share that was reached, in an element of this name.
fn share(element: &str, count: Count) -> String {
    let percent = count.percent();
    format!(
        "<{element} class=\"share\"><span><i style=\"width:{percent:.0}%\"></i></span>\
         <b>{percent:.0} %</b></{element}>"
    )
}
