//! The README of a finding: which fields are wrong, what the rule is, what happened.

use std::fmt::Write as _;

use image_formats::{Field, Value};

use super::{Example, Record, version_record};
use crate::commands::Command;
use crate::commands::encrypted::unlocked;
use crate::exec::trace::Trace;
use crate::input::guard::{Guard, GuardMode};
use crate::input::recipe::Edit;
use crate::oracle::end_word;

/// The explanation of an example in plain words.
pub(super) fn readme(example: &Example, record: &Record) -> String {
    let mut text = String::new();
    let program = example
        .recipe
        .commands
        .get(example.command())
        .map_or("the program", Command::program);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "# {}: {}\n",
        example.key.class,
        example.key.signature.title(&record.summary)
    );
    let _ = writeln!(
        text,
        "`{program}` {}: {}.\n",
        example.key.class.meaning(),
        record.summary
    );
    if let Some(line) = version_record::line(&record.versions) {
        let _ = writeln!(text, "{line}\n");
    }
    if !example.confirmed && example.minimised {
        text.push_str("Not reproducible: it depends on more than the image.\n\n");
    } else if example.hits_in_10 < 10 {
        let _ = writeln!(
            text,
            "Reproduced in {} of 10 runs: chance, such as the order of threads, affects it.\n",
            example.hits_in_10
        );
    }
    text.push_str("## What is wrong with the image\n\n");
    let defects = defects(example);
    if example.recipe.edits.is_empty() && defects.is_empty() {
        text.push_str("Nothing: the image is valid.\n");
    } else if example.recipe.edits.is_empty() {
        text.push_str("Nothing was changed in it: programs must handle it as it is.\n");
    }
    for mutation in &example.recipe.edits {
        let _ = writeln!(text, "* {}", describe(&mutation.edit, example));
    }
    let changed = example.changed_bytes();
    let _ = writeln!(
        text,
        "\n{} of its bytes {} from those of a valid image{}.\n",
        changed.len(),
        if changed.len() == 1 {
            "differs"
        } else {
            "differ"
        },
        places(&changed)
    );
    text.push_str(&defects);
    text.push_str("## What was run\n\n");
    let image = if example.recipe.fresh_copies {
        "each on a fresh copy of the image"
    } else {
        "one after another on the image"
    };
    let _ = writeln!(text, "In the folder of `{}`, {image}:\n", super::IMAGE);
    if let Some(guard) = example.recipe.guard {
        let _ = writeln!(text, "{}\n", guarded(guard));
    }
    text.push_str("```console\n");
    let around = Around::of(example, record);
    for ran in &example.outcome.ran {
        let Some(command) = example.recipe.commands.get(ran.index) else {
            continue;
        };
        let around = around.as_ref().filter(|_| ran.index == example.command());
        if let Some(before) = around.and_then(|around| around.before.as_ref()) {
            let _ = writeln!(text, "$ {}\n(exit 0)", typed(before));
        }
        let _ = writeln!(text, "$ {}", typed(command));
        let said = String::from_utf8_lossy(&ran.seen.stderr).into_owned();
        for line in said.lines().take(12) {
            let _ = writeln!(text, "{}", printable(line));
        }
        let _ = writeln!(text, "({})", end_word(&ran.seen.end));
        if let Some(Around {
            after,
            said,
            status,
            ..
        }) = around
        {
            let _ = writeln!(text, "$ {}\n{}\n({status})", typed(after), printable(said));
        }
    }
    text.push_str("```\n");
    if let Some(stack) = stack(example) {
        let _ = writeln!(text, "\n## Where it happened\n\n```\n{stack}```");
        text.push_str(
            &example
                .stack
                .as_ref()
                .map_or_else(String::new, Trace::notes),
        );
    }
    text.push_str(
        "\n## Reproduce\n\n\
         `./reproduce.sh` needs nothing but the program (`QEMU_IMG` and `QEMU_IO` name others).\n\
         `image-fuzzer reproduce` on this folder does the same from `recipe.json`.\n\
         `iotest` and `iotest.out` are a numbered test: copied as `iotests/cases/NNN` and\n\
         `goldens/NNN.out`, `./check -qcow2 NNN` runs it; in a QEMU tree both go into\n\
         `tests/qemu-iotests/tests`, under any name.\n",
    );
    let guarded = example.recipe.guard.is_some();
    if guarded {
        text.push_str(
            "\nThe script needs the guarding allocator too, `libguard.so` of image-fuzzer, which\n\
             `GUARD` names; without it, valgrind takes its place.\n",
        );
    }
    text.push_str(if guarded || !example.key.class.oracle().is_testable() {
        "The test only asks that the commands exit: use the script for this finding.\n"
    } else if example.hits_in_10 < 10 {
        "The test, like the script, runs the commands again and again, up to 800 times, and\n\
         fails once the finding shows: it takes long where the bug is fixed.\n"
    } else {
        "The test fails until the bug is fixed.\n"
    });
    text
}

/// What a guard does, in words.
fn guarded(guard: Guard) -> String {
    let mode = match guard.mode {
        GuardMode::Ends => "blocks of memory end before an inaccessible page",
        GuardMode::Starts => "blocks of memory begin after an inaccessible page",
        GuardMode::All => "all blocks of memory end before an inaccessible page",
    };
    let fill = if guard.compare {
        format!("{:#04x}, and again with {:#04x}", guard.fill, !guard.fill)
    } else {
        format!("{:#04x}", guard.fill)
    };
    format!("Under the guarding allocator: {mode}, and fresh memory is filled with {fill}.")
}

/// What was run around a command to see a finding that the command itself does not show.
struct Around {
    before: Option<Command>,
    after: Command,
    /// The complaint of the command behind it.
    said: String,
    /// What its exit status means.
    status: &'static str,
}

impl Around {
    fn of(example: &Example, record: &Record) -> Option<Self> {
        example.violation()?;
        let around = example.key.class.oracle().around()?;
        let base = &example.recipe.base;
        // The summary ends with what was said.
        let said = record.summary.split_once(": ");
        Some(Self {
            before: around.before.map(|command| unlocked(base, command)),
            after: unlocked(base, around.after?),
            status: around.status,
            said: said.map_or_else(String::new, |(_, said)| said.to_owned()),
        })
    }
}

/// A command as it is typed in the folder of the image.
fn typed(command: &Command) -> String {
    let line = command.shell().replace("\"$test_img\"", super::IMAGE);
    line.replace("$test_img", super::IMAGE)
}

/// The rules of the format that the image breaks, which follow from the edits; an image
/// without any may have what readers are to leave alone.
fn defects(example: &Example) -> String {
    let Some(file) = example.files.first() else {
        return String::new();
    };
    // Reading from memory does not fail.
    let decoded = image_formats::qcow2::Image::decode(std::sync::Arc::new(file.clone()));
    let defects = decoded.map(|(_, defects)| defects).unwrap_or_default();
    if defects.is_empty() {
        return String::new();
    }
    let mut text = if example.recipe.edits.is_empty() {
        "What `image-fuzzer show` reports about it:\n\n"
    } else {
        "The rules that it breaks, as `image-fuzzer show` lists them:\n\n"
    }
    .to_owned();
    for defect in defects.iter().take(MOST_DEFECTS) {
        let _ = writeln!(text, "* {defect}");
    }
    if defects.len() > MOST_DEFECTS {
        let _ = writeln!(text, "* and {} more", defects.len() - MOST_DEFECTS);
    }
    text.push('\n');
    text
}

/// The most broken rules that are listed: one mutation can break many.
const MOST_DEFECTS: usize = 8;

/// One edit in words: the field, its value before and after, the rule.
fn describe(edit: &Edit, example: &Example) -> String {
    let field = |path: &str| example.prepared.image.field(path).ok();
    match edit {
        Edit::Set { path, value } => field(path).map_or_else(
            || format!("`{path}` is {:#x}", value.0),
            |field| set_field(&field, &show(value.0)),
        ),
        Edit::Text { path, text } => field(path).map_or_else(
            || format!("`{path}` is {text:?}"),
            |field| set_field(&field, &format!("{text:?}")),
        ),
        Edit::Bytes { at, bytes } => {
            let shown: String = bytes
                .0
                .iter()
                .take(24)
                .map(|b| format!("{b:02x} "))
                .collect();
            let more = if bytes.0.len() > 24 { "…" } else { "" };
            let text = std::str::from_utf8(&bytes.0).unwrap_or_default();
            let text = if text.len() > 3 && text.chars().all(|c| c.is_ascii_graphic()) {
                format!(" (`{text}`)")
            } else {
                String::new()
            };
            format!(
                "the {} bytes at {} ({}) are {}{more}{text}",
                bytes.0.len(),
                show(at.0),
                owner(example, at.0),
                shown.trim_end()
            )
        }
        Edit::Extensions { list } => {
            let parts: Vec<String> = list
                .iter()
                .take(12)
                .map(|ext| {
                    let name = image_formats::qcow2::records::extension_name(ext.magic.0 as u32);
                    format!("{name} ({:#x}, length {})", ext.magic.0, show(ext.length.0))
                })
                .collect();
            let more = list.len().saturating_sub(12);
            let more = if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            };
            format!("the header extensions are: {}{more}", parts.join(", "))
        }
        Edit::Length { bytes } => format!(
            "the file is {} bytes long and not {}",
            show(bytes.0),
            show(example.prepared.map.file_len)
        ),
    }
}

/// A field's change, with its place and rule.
fn set_field(field: &Field, value: &str) -> String {
    let before = match &field.value {
        Value::Uint(number) => show(*number),
        other => other.to_string(),
    };
    let mut text = format!(
        "`{}` (at byte {:#x}) is {value}, where the valid image has {before}",
        field.path, field.offset
    );
    if !field.rule.is_empty() {
        let _ = write!(text, ". The rule: {}", field.rule);
    }
    if !field.section.is_empty() {
        let _ = write!(text, " (specification: {})", field.section);
    }
    text
}

/// The field that byte `at` belongs to.
fn owner(example: &Example, at: u64) -> String {
    let fields = example.prepared.map.fields();
    let inside = |field: &&Field| {
        let width = field.width_bits.div_ceil(8);
        field.offset <= at && at - field.offset < width
    };
    fields
        .iter()
        .filter(inside)
        .min_by_key(|field| field.width_bits)
        .map_or_else(
            || "no field".to_owned(),
            |field| format!("`{}`", field.path),
        )
}

/// A number as people read it: decimal, and hexadecimal where that says more.
fn show(number: u64) -> String {
    if number < 1024 {
        number.to_string()
    } else {
        format!("{number:#x} ({number})")
    }
}

/// Where the changed bytes are, when they are few.
fn places(changed: &[u64]) -> String {
    if changed.is_empty() || changed.len() > 16 {
        return String::new();
    }
    let places: Vec<String> = changed.iter().map(|at| format!("{at:#x}")).collect();
    format!(", at {}", places.join(", "))
}

/// A line of a program's output as text.
fn printable(line: &str) -> String {
    let clean: String = line
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .take(300)
        .collect();
    clean
}

/// The stack or the sanitizer's report, where there is one.
fn stack(example: &Example) -> Option<String> {
    if let Some(stack) = &example.stack {
        return Some(stack.to_string());
    }
    let ran = example.outcome.ran.last()?;
    let report = String::from_utf8_lossy(ran.seen.sanitizer.as_deref()?).into_owned();
    let lines: Vec<String> = report.lines().take(40).map(printable).collect();
    Some(lines.join("\n") + "\n")
}
