//! A numbered test for a finding: a script that carries its image, and its golden.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::BASE64;
use image_formats::ReadAt as _;

use super::Example;
use super::poked::{Change, PokedImage};
use super::script::{CLEAN, chance, of_qemu};
use crate::commands::adapted;
use crate::commands::{Command, quote};
use crate::files::write_whole;
use crate::oracle::shell::comment;
use crate::signature::REPORTS;
use image_mutations::named_file::NamedFile;

/// Writes `iotest` and `iotest.out` into a finding's folder.
pub(super) fn write(folder: &Path, example: &Example) -> Result<()> {
    super::script::write(&folder.join("iotest"), &test(example)?)?;
    write_whole(&folder.join("iotest.out"), golden(example).as_bytes())
}

/// The test: makes the image from its own text, runs the commands, and says of
/// each whether it ended as a program may.
fn test(example: &Example) -> Result<String> {
    let seconds = example.limits.wall.as_secs().max(1) * 6;
    let (group, again) = if example.hits_in_10 < 10 {
        let run = "bash \"$0\" once >\"$tries/$run\" 2>&1";
        let again = chance(TRIES, run, TOLD, "cat \"$tries/8\"\nexit\n");
        ("auto", again)
    } else {
        ("auto quick", String::new())
    };
    let (image_format, image) = (
        example.recipe.base.format(),
        example.recipe.base.image_name(),
    );
    let mut text = format!(
        "#!/usr/bin/env bash\n\
         # An image that once led to: {}\n\
         {}\
         #\n\
         # group: {group}\n\
         # supported_fmt: {image_format}\n\
         # supported_proto: file\n\
         # unsupported_imgopts: data_file\n\n\
         seq=$(basename \"$0\")\n\
         QEMU_IMG=${{QEMU_IMG:-${{QEMU_IMG_PROG:-qemu-img}}}}\n\
         QEMU_IO=${{QEMU_IO:-${{QEMU_IO_PROG:-qemu-io}}}}\n\
         {again}\
         {CLEAN}\
         work=$(mktemp -d \"${{TEST_DIR:-/tmp}}/$seq.XXXXXX\") || exit 1\n\
         cd \"$work\" || exit 1\n\
         test_img={image}\n\n\
         {}",
        comment(&example.key.to_string()),
        example
            .poked
            .as_ref()
            .map_or_else(String::new, |poked| about(poked, example)),
        runner(seconds)
    );
    if let Some(poked) = &example.poked {
        text.push_str(POKE);
        text.push_str("fresh() {\n");
        text.push_str(&made(poked));
    } else {
        text.push_str("fresh() {\n");
        for file in &example.files {
            text.push_str(&unpack(file)?);
        }
    }
    text.push_str("}\n\nfresh\n");
    let around = example.key.class.oracle().around(&example.key.signature);
    for (index, command) in example.recipe.commands.iter().enumerate() {
        if index > example.command() {
            break;
        }
        if index > 0 && example.recipe.fresh_copies {
            text.push_str("fresh\n");
        }
        let _ = writeln!(text, "\necho \"=== {} ===\"", index + 1);
        let line = test_line(command);
        let last = index == example.command();
        let around = around.as_ref().filter(|_| last);
        let before = around.filter(|around| around.is_needed);
        if let Some(before) = before.and_then(|around| around.before.clone()) {
            let _ = writeln!(text, "{}", own_line(example, before));
        }
        let _ = writeln!(text, "run {line}");
        if let Some(around) = around {
            let highest = around.highest_status;
            let _ = writeln!(text, "if [ \"$status\" -le {highest} ]; then");
            if let Some(after) = around.after.clone() {
                let _ = writeln!(text, "    {} >out 2>&1", own_line(example, after));
            }
            let _ = writeln!(text, "    {}\nfi", around.test);
        }
    }
    text.push_str("\necho \"*** done\"\n");
    Ok(text)
}

/// Where the test of an unreliable finding keeps what its runs print.
const TRIES: &str = "\
tries=$(mktemp -d \"${TEST_DIR:-/tmp}/$seq.XXXXXX\") || exit 1
trap 'rm -rf \"$tries\"' EXIT
";

/// How such a test tells that a run reproduced it: by a line that is not in the golden.
const TOLD: &str = "\
wait
for run in 1 2 3 4 5 6 7 8; do
    if grep -q -v -e '^=== ' -e '^exited$' -e '^[*]* done$' \"$tries/$run\"; then
        cat \"$tries/$run\"
        exit
    fi
done
";

/// The shell function that runs a command for at most so many seconds.
fn runner(seconds: u64) -> String {
    let reports = REPORTS.map(|report| format!("-e \"{report}\"")).join(" ");
    format!(
        "# Runs a command and says how it ended; its own words depend on versions.\n\
         run() {{\n\
         \x20   # What the shell itself says of a signal has a number that changes.\n\
         \x20   running=yes\n\
         \x20   {{ timeout -k 1 {seconds} \"$@\" >out 2>&1 & wait \"$!\"; }} 2>/dev/null\n\
         \x20   status=$?\n\
         \x20   running=\n\
         \x20   if [ \"$status\" -eq 124 ]; then\n\
         \x20       echo \"hung\"\n\
         \x20   elif [ \"$status\" -gt 128 ]; then\n\
         \x20       echo \"ended by signal $((status - 128))\"\n\
         \x20   elif grep -q -e 'Sanitizer: ' -e 'runtime error: ' out; then\n\
         \x20       echo \"sanitizer report\"\n\
         \x20   elif grep -q {reports} out; then\n\
         \x20       echo \"crash report\"\n\
         \x20   else\n\
         \x20       echo \"exited\"\n\
         \x20   fi\n\
         }}\n\n"
    )
}

/// The shell function that changes bytes of a file.
const POKE: &str = "\
# Writes bytes, given as for printf's %b, at an offset of a file.
poke() {
    printf '%b' \"$3\" | dd of=\"$1\" bs=1 seek=\"$(($2))\" conv=notrunc status=none || exit 1
}

";

/// What the image is, for the top of the test.
fn about(poked: &PokedImage, example: &Example) -> String {
    let mut text = String::from("#\n# The image is what the commands in fresh() make");
    text.push_str(match poked.changes.as_slice() {
        [] => ", and valid.\n",
        _ => ", except for:\n",
    });
    for change in &poked.changes {
        let _ = match change {
            Change::Poke { comment: what, .. } => writeln!(text, "#   {}", comment(what)),
            Change::Length(bytes) => writeln!(text, "#   the file is {bytes} bytes long"),
        };
    }
    if !poked.changes.is_empty() {
        let version = example.version.as_deref().map(comment);
        let version = version.unwrap_or_else(|| "the tools it was found with".into());
        let _ = writeln!(text, "# The offsets are those of images made by {version}.");
    }
    text
}

/// The lines that make an image with QEMU's tools.
fn made(poked: &PokedImage) -> String {
    let mut text = String::new();
    for command in &poked.commands {
        let _ = writeln!(text, "    {} >/dev/null || exit 1", test_line(command));
    }
    for change in &poked.changes {
        let _ = match change {
            Change::Poke {
                offset,
                bytes,
                comment: what,
            } => {
                let (bytes, what) = (quote(&printf(bytes)), comment(what));
                writeln!(text, "    poke \"$test_img\" {offset:#x} {bytes}  # {what}")
            }
            Change::Length(bytes) => writeln!(text, "    truncate -s {bytes} \"$test_img\""),
        };
    }
    text
}

/// Bytes as `%b` of printf reads them: text as it is, all else in hexadecimal.
fn printf(bytes: &[u8]) -> String {
    let is_text = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'\\';
    if bytes.len() > 3 && bytes.iter().all(is_text) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// A command as the test runs it.
fn test_line(command: &Command) -> String {
    let shell = command.shell();
    match of_qemu(&shell) {
        Some(("qemu-img", rest)) => format!("$QEMU_IMG{rest}"),
        Some((_, rest)) => format!("$QEMU_IO{rest}"),
        None => shell,
    }
}

/// A command of the oracles as the test runs it.
fn own_line(example: &Example, command: Command) -> String {
    test_line(&adapted(&example.recipe.base, command))
}

/// What the test prints when nothing is wrong.
fn golden(example: &Example) -> String {
    let mut text = String::new();
    for index in 0..=example.command() {
        let _ = write!(text, "=== {} ===\nexited\n", index + 1);
    }
    text.push_str("*** done\n");
    text
}

/// The lines that make `file` again.
fn unpack(file: &NamedFile) -> Result<String> {
    let bytes = file.to_vec();
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), flate2::Compression::best());
    encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .context("cannot compress an image")
        .map(|packed| {
            let mut text = format!("    base64 -d <<'END' | gzip -dc >{}\n", file.name);
            for row in BASE64.encode(&packed).as_bytes().chunks(76) {
                text.push_str(&String::from_utf8_lossy(row));
                text.push('\n');
            }
            text.push_str("END\n");
            if file.len() != bytes.len() as u64 {
                let _ = writeln!(text, "    truncate -s {} {}", file.len(), file.name);
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shell once told of the signal too, with the number of the process.
    #[test]
    fn a_signal_is_told_in_the_same_words_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let told = |command: &str| {
            let text = format!("{}run sh -c '{command}'", runner(30));
            let mut shell = std::process::Command::new("bash");
            let done = shell.args(["-c", &text]).current_dir(&folder).output();
            let done = done.unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{command}");
            String::from_utf8(done.stdout).unwrap()
        };
        assert_eq!(told("kill -SEGV $$"), "ended by signal 11\n");
        assert_eq!(told("echo x: runtime error: y >&2"), "sanitizer report\n");
        assert_eq!(told("echo panic: x >&2; exit 2"), "crash report\n");
        assert_eq!(told("echo no >&2; exit 1"), "exited\n");
    }
}
