//! A finding on the page.

use std::fmt::Write as _;
use std::path::Path;

use super::super::html::{escape, reference, with_code};
use super::{Row, hex};
use crate::commands::quote;
use crate::finding::{Change, Record};
use crate::oracle::{Class, Severity};
use crate::output::counted;

/// The files of a finding that a card links to, where they are there.
const FILES: [&str; 6] = [
    "README.md",
    "reproduce.sh",
    "recipe.json",
    "finding.json",
    "iotest",
    "iotest.out",
];

/// The card of the finding `row`, number `index`, on a page in `folder`.
pub(super) fn card(row: &Row, index: usize, folder: &Path, is_open: bool) -> String {
    let record = &row.record;
    let class = record.key.class;
    let mut text = format!(
        "<details class=\"finding\" id=\"f{index}\" data-kind=\"{class}\" data-text=\"{}\"{}>\
         <summary><span class=\"{}\">{class}</span> <b>{}</b></summary>\n",
        words(row),
        if is_open { " open" } else { "" },
        severity(class),
        escape(&row.title()),
    );
    text.push_str(&top(row));
    if record.steps.is_empty() {
        // A folder of an earlier version.
        text.push_str(&command(&record.command));
        text.push_str(&file("Explanation", &row.folder.join("README.md")));
    } else {
        text.push_str(&changes(record));
        text.push_str(&run(record));
    }
    text.push_str("<h3>Reproduce</h3>\n");
    let script = std::path::absolute(row.folder.join("reproduce.sh")).unwrap_or_default();
    text.push_str(&command(&quote(&script.to_string_lossy())));
    text.push_str(&file("reproduce.sh", &script));
    text.push_str(&links(&row.folder, folder));
    text.push_str("</details>\n");
    text
}

/// What the filter looks for words in.
pub(super) fn words(row: &Row) -> String {
    let record = &row.record;
    let mut text = format!("{} {} {}", record.key.class, row.title(), record.command);
    for change in &record.changes {
        let _ = write!(text, " {} {}", change.path, change.words);
    }
    escape(&text.to_lowercase())
}

/// How bad a class is, as a class of the style sheet.
pub(super) fn severity(class: Class) -> &'static str {
    match class.severity() {
        Severity::Memory => "memory",
        Severity::Data => "data",
        Severity::Crash => "crash",
        Severity::Hang => "hang",
        Severity::Excess => "excess",
        Severity::Refusal => "refusal",
    }
}

/// What happened, with which version, and how often.
fn top(row: &Row) -> String {
    let record = &row.record;
    let mut notes = vec![
        counted(row.hits as u64, "hit"),
        counted(record.edits as u64, "edit"),
        format!("{} changed", counted(record.bytes as u64, "byte")),
    ];
    if record.hits_in_10 < 10 {
        notes.push(format!("reproduced in {} of 10 runs", record.hits_in_10));
    }
    let change = row.change.map_or("", |change| change.word());
    let more = [change, row.state()].into_iter().map(str::to_owned);
    notes.extend(more.filter(|note| !note.is_empty()));
    let version = record.seen_with();
    let version = version.map_or_else(String::new, |it| format!(" {it}"));
    format!(
        "<p>The program {}: {}.{}</p>\n<p class=\"dim\">{}</p>\n",
        record.key.class.meaning(),
        escape(&record.summary),
        escape(&version),
        escape(&notes.join(", "))
    )
}

/// What is wrong with the image.
fn changes(record: &Record) -> String {
    let mut text = String::from("<h3>What is wrong with the image</h3>\n");
    if record.changes.is_empty() {
        text.push_str("<p>Nothing was changed in it.</p>\n");
    }
    for one in &record.changes {
        text.push_str(&change(one));
    }
    if !record.defects.is_empty() {
        let count = record.defects.len() + record.more_defects;
        let rules = counted(count as u64, "broken rule");
        let _ = write!(text, "<details><summary>{rules}</summary><ul>");
        for defect in &record.defects {
            let _ = write!(text, "<li>{}</li>", escape(defect));
        }
        if record.more_defects > 0 {
            let _ = write!(text, "<li>and {} more</li>", record.more_defects);
        }
        text.push_str("</ul></details>\n");
    }
    text
}

/// One change: words, rule, bytes.
fn change(change: &Change) -> String {
    let mut text = format!(
        "<div class=\"change\"><p>{}.</p>\n",
        with_code(&change.words)
    );
    let (rule, section) = (escape(&change.rule), escape(&change.section));
    let rule = match (rule.is_empty(), section.is_empty()) {
        (false, false) => format!("Rule: {rule} (specification, section '{section}')"),
        (false, true) => format!("Rule: {rule}"),
        (true, false) => format!("Specification, section '{section}'"),
        (true, true) => String::new(),
    };
    if !rule.is_empty() {
        let _ = writeln!(text, "<p class=\"dim\">{rule}.</p>");
    }
    text.push_str(&hex::table(change));
    text.push_str("</div>\n");
    text
}

/// The command that shows the finding, all output, the stack.
fn run(record: &Record) -> String {
    let mut text = String::from("<h3>Command</h3>\n");
    if let Some(guard) = &record.guard {
        let _ = writeln!(text, "<p>{}</p>", escape(guard));
    }
    for step in record.steps.iter().filter(|step| step.shows) {
        text.push_str(&command(&step.command));
    }
    text.push_str("<h3>Output</h3>\n<pre class=\"output\">");
    for step in &record.steps {
        if record.steps.len() > 1 {
            let _ = writeln!(text, "$ {}", escape(&step.command));
        }
        for line in &step.output {
            let _ = writeln!(text, "{}", escape(line));
        }
        let _ = writeln!(text, "<span class=\"dim\">({})</span>", escape(&step.end));
    }
    text.push_str("</pre>\n");
    if !record.stack.is_empty() {
        let stack = escape(&record.stack.join("\n"));
        let _ = writeln!(text, "<h3>Stack</h3>\n<pre>{stack}</pre>");
    }
    if let Some(trace) = &record.trace {
        let ids = trace.build_ids().unwrap_or_default();
        let _ = writeln!(text, "<p class=\"dim\">{}</p>", escape(&ids));
        if let Some(install) = &trace.install {
            text.push_str(
                "<p>The debug symbols of this build were not found. To install them:</p>\n",
            );
            text.push_str(&command(install));
        }
    }
    text
}

/// A command with a button that copies it.
fn command(line: &str) -> String {
    format!(
        "<div class=\"command\"><pre><code>{}</code></pre>\
         <button type=\"button\" class=\"copy\">Copy</button></div>\n",
        escape(line)
    )
}

/// The text of a file of a finding, to be opened; a folder that somebody cleaned may lack it.
fn file(title: &str, path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if text.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>{title}</summary><pre>{}</pre></details>\n",
        escape(&text)
    )
}

/// The files of the finding in `folder`, from a page in `page`.
fn links(folder: &Path, page: &Path) -> String {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let link = |path: &Path, name: &str| {
        let to = reference(path, page);
        format!("<a href=\"{to}\">{name}</a>")
    };
    let image = crate::finding::image_in(&folder);
    let image = image
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let names = FILES.iter().map(ToString::to_string).chain(image);
    let files = names.map(|name| (folder.join(&name), name));
    let files = files.filter(|(path, _)| path.exists());
    let mut links: Vec<String> = files.map(|(path, name)| link(&path, &name)).collect();
    links.push(link(&folder, "folder"));
    format!("<h3>Files</h3>\n<p>{}</p>\n", links.join(", "))
}
