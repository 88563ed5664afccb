//! The README of a finding: which fields are wrong, what the rule is, what happened.

use std::fmt::Write as _;
use std::sync::Arc;

use image_formats::Format;

use super::transcript::printable;
use super::{Change, Example, Record};
use crate::commands::Command;
use crate::exec::trace::Trace;
use crate::input::guard::{Guard, GuardMode};

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
    if let Some(line) = record.seen_with() {
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
    let imported = example.recipe.base.imported();
    if imported.is_some() {
        let _ = writeln!(text, "{}", told_of_import(example));
    } else if example.recipe.edits.is_empty() && record.defects.is_empty() {
        text.push_str("Nothing: the image is valid.\n");
    } else if example.recipe.edits.is_empty() {
        text.push_str("Nothing was changed in it: programs must handle it as it is.\n");
    }
    for change in &record.changes {
        let _ = writeln!(text, "* {}", told(change));
    }
    let changed = example.changed_bytes();
    let _ = writeln!(
        text,
        "\n{} of its bytes {} from those of {}{}.\n",
        changed.len(),
        if changed.len() == 1 {
            "differs"
        } else {
            "differ"
        },
        match imported {
            Some(_) => "the image that it was made from",
            None => "a valid image",
        },
        places(&changed)
    );
    text.push_str(&broken_rules(record));
    text.push_str("## What was run\n\n");
    let image = if example.recipe.fresh_copies {
        "each on a fresh copy of the image"
    } else {
        "one after another on the image"
    };
    let _ = writeln!(
        text,
        "In the folder of `{}`, {image}:\n",
        example.recipe.base.image_name()
    );
    if let Some(guard) = &record.guard {
        let _ = writeln!(text, "{guard}\n");
    }
    text.push_str("```console\n");
    for step in &record.steps {
        let _ = writeln!(text, "$ {}", step.command);
        for line in &step.output {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "({})", step.end);
    }
    text.push_str("```\n");
    if !record.stack.is_empty() {
        let stack = record.stack.join("\n");
        let _ = writeln!(text, "\n## Where it happened\n\n```\n{stack}\n```");
        let notes = record.trace.as_ref().map(Trace::notes);
        text.push_str(&notes.unwrap_or_default());
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

/// Where an image comes from that was made elsewhere.
fn told_of_import(example: &Example) -> String {
    let format = match example.recipe.base.format() {
        Format::Raw => "no known format".to_owned(),
        format => format!("format {format}"),
    };
    let edits = if example.recipe.edits.is_empty() {
        "nothing was changed in it but what minimising cut off and cleared"
    } else {
        "these changes were made to it"
    };
    format!("It was made elsewhere, by another fuzzer or program, and is of {format}; {edits}.\n")
}

/// What a guard does, in words.
pub(super) fn guarded(guard: Guard) -> String {
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

/// One change: what it is, the rule, where that is defined.
fn told(change: &Change) -> String {
    let mut text = change.words.clone();
    if !change.rule.is_empty() {
        let _ = write!(text, ". The rule: {}", change.rule);
    }
    if !change.section.is_empty() {
        let _ = write!(text, " (specification: {})", change.section);
    }
    text
}

/// The rules of the format that the image breaks, which follow from the edits; an image
/// without any may have what readers are to leave alone.
fn broken_rules(record: &Record) -> String {
    if record.defects.is_empty() {
        return String::new();
    }
    let mut text = if record.edits == 0 {
        "What `image-fuzzer show` reports about it:\n\n"
    } else {
        "The rules that it breaks, as `image-fuzzer show` lists them:\n\n"
    }
    .to_owned();
    for defect in &record.defects {
        let _ = writeln!(text, "* {defect}");
    }
    if record.more_defects > 0 {
        let _ = writeln!(text, "* and {} more", record.more_defects);
    }
    text.push('\n');
    text
}

/// The first of the rules that the image breaks, and how many more there are.
pub(super) fn defects(example: &Example) -> (Vec<String>, usize) {
    let file = example.files.first();
    let format = example.recipe.base.format();
    let image =
        file.and_then(|file| image_formats::AnyImage::open(Arc::new(file.clone()), format).ok());
    // Reading from memory does not fail.
    let defects = image.and_then(|image| image.defects().ok());
    let defects = defects.unwrap_or_default();
    let told = defects.iter().take(MAX_DEFECTS).map(ToString::to_string);
    (told.collect(), defects.len().saturating_sub(MAX_DEFECTS))
}

/// The most broken rules that are listed: one mutation can break many.
const MAX_DEFECTS: usize = 8;

/// Where the changed bytes are, when they are few.
fn places(changed: &[u64]) -> String {
    if changed.is_empty() || changed.len() > 16 {
        return String::new();
    }
    let places: Vec<String> = changed.iter().map(|at| format!("{at:#x}")).collect();
    format!(", at {}", places.join(", "))
}

/// The stack or the sanitizer's report, where there is one, a frame a line.
pub(super) fn stack(example: &Example) -> Vec<String> {
    if let Some(stack) = &example.stack {
        return stack.to_string().lines().map(printable).collect();
    }
    let ran = example.outcome.ran.last();
    let report = ran.and_then(|ran| ran.seen.sanitizer.as_deref());
    let report = String::from_utf8_lossy(report.unwrap_or_default());
    report.lines().take(40).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use image_formats::qcow2::{Backing, Spec};

    use super::super::folder::record;
    use super::super::test_examples::{edited, recipe};
    use super::*;
    use image_mutations::edit::{Edit, Extension, Hex, Number};

    /// Of a changed extension once only the length was told.
    #[test]
    fn a_changed_extension_is_told_by_what_it_says() {
        let mut recipe = recipe(&["qemu-img", "info", "$test_img"]);
        recipe.base.qcow2_mut().unwrap().image = Spec {
            backing: Some(Backing {
                name: "backing.img".into(),
                format: Some("raw".into()),
            }),
            ..Spec::default()
        };
        let extension = |magic, data: &[u8]| Extension {
            magic: Number(magic),
            length: Number(data.len() as u64),
            data: Hex(data.to_vec()),
        };
        let list = vec![extension(0xe279_2aca, b"blkdebug"), extension(0, b"")];
        let example = edited(recipe, vec![Edit::Extensions { list }]);
        let readme = readme(&example, &record(&example));
        let line = "* the backing file format extension (0xe2792aca) says 'blkdebug'; \
                    the valid image says 'raw'";
        assert!(readme.contains(line), "{readme}");
    }
}
