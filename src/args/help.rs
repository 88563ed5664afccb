//! The help, made from the options themselves.

use std::fmt::Write as _;

use super::commands::COMMANDS;
use super::flag::Flag;
use super::flags::SECTIONS;

/// How wide the pages are, in columns.
const WIDTH: usize = 80;
/// Where the texts of options begin.
const INDENT: usize = 26;

const USAGE: &str = "\
usage: check [options] [TEST ...]
       check [options] -- COMMAND [ARG ...]
";

/// What the program does, and examples, as the help has it.
pub const ABOUT: &str = "\
Runs numbered disk-image tests and compares what they print with golden outputs.
A test is a number (1 is 001), a range (001-005), a pattern ('00*'), a path
(iotests/cases/001.rs) or, in a QEMU tree, the name of a test in tests/.
Options and tests may be given in any order; long options may be abbreviated.

examples:
  check -qcow2                     every test, on qcow2 images
  check -qcow2 -g quick            those of group quick
  check -raw 001 030               these two, on raw images
  check -raw -g quick 001-009      those of the nine that are in group quick
  check --formats qcow2,raw -nbd   every test on both formats, over nbd
  check -qcow2 -n                  names of the tests that support qcow2
  check -qcow2 --bless 042         write what 042 prints as its reference
  check -qcow2 -- qemu-img info x  run a program as a test would
";

/// What the program reads besides its arguments, each part below a line that ends in a colon.
pub const MORE: &str = "\
environment:
  QEMU_PROG QEMU_IMG_PROG QEMU_IO_PROG QEMU_NBD_PROG QSD_PROG
                          the programs to test
  TEST_DIR                scratch directory; default ./scratch
  SOCK_DIR                directory for sockets; default a temporary one
  SAMPLE_IMG_DIR PYTHON PYTHONPATH MALLOC_PERTURB_
  QEMU_IMG_OPTIONS QEMU_NBD_OPTIONS GDB_OPTIONS VALGRIND_OPTS
  ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
                          passed to the tests
  QEMU_TEST_IO_SKIP       tests not to run: DRIVER:TEST or TEST words
  SOURCE_DATE_EPOCH       the time of the build that an archive tells
  QEMU_IOTESTS_REGEN      if set, output that differs replaces the reference
  CI                      if set, --bless and --review write nothing

files:
  groups/groups           the groups of this suite: 'NAME  meaning' lines
  group.local             adds tests to groups: 'TEST GROUP...' lines; in
                          groups/ or, in a QEMU tree, beside the tests; in
                          groups/ it also declares: 'group NAME  meaning';
                          known failures: 'fail TEST' lines, as for -X
  .config/check.toml      profiles: in the source directory, and below the home
                          directory as .config/check/check.toml
  TEST_DIR-history/       results of earlier runs, beside TEST_DIR
  TEST_DIR-archive/       archives that tests are run from, unpacked
  .last-elapsed-cache     how long tests took, in the current directory
";

/// The help: one line per option, or with `long` the complete text.
#[must_use]
pub fn help(long: bool) -> String {
    let mut page = String::from(USAGE);
    for command in COMMANDS {
        let _ = writeln!(page, "       check {} [options]", command.usage);
    }
    let _ = write!(page, "\n{ABOUT}\nCommands:\n");
    for command in COMMANDS {
        item(
            &mut page,
            command.usage,
            command.short,
            if long { command.long } else { "" },
        );
    }
    for (heading, flags) in SECTIONS {
        let _ = write!(page, "\n{heading}:\n");
        if flags.iter().all(|flag| flag.short.is_empty()) {
            words_only(&mut page, flags);
            continue;
        }
        for flag in *flags {
            item(
                &mut page,
                flag.usage,
                flag.short,
                if long { flag.long } else { "" },
            );
        }
    }
    page.push('\n');
    if long {
        page.push_str(MORE);
        page.push_str("\nexit status:\n");
        for (status, meaning) in crate::exit::MEANINGS {
            let _ = writeln!(page, "  {status:<5}{meaning}");
        }
    } else {
        page.push_str("--help prints more.\n");
    }
    page
}

/// Formats and protocols need no text: their words, filled into lines.
fn words_only(page: &mut String, flags: &[Flag]) {
    let words: Vec<_> = flags.iter().flat_map(Flag::words).collect();
    for line in wrap(&words.join(" "), WIDTH - 2) {
        let _ = writeln!(page, "  {line}");
    }
}

/// An option or a command: `title`, then its texts beside and below that.
fn item(page: &mut String, title: &str, short: &str, long: &str) {
    let mut lines = wrap(short, WIDTH - INDENT);
    lines.extend(wrap(long, WIDTH - INDENT));
    let mut lines = lines.iter();
    if title.len() + 4 > INDENT {
        let _ = writeln!(page, "  {title}");
    } else if let Some(first) = lines.next() {
        let _ = writeln!(page, "  {title:<width$}{first}", width = INDENT - 2);
    }
    for line in lines {
        let _ = writeln!(page, "{:INDENT$}{line}", "");
    }
}

/// Fills `text` into lines of at most `width` columns.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fit_and_name_every_option() {
        for page in [help(false), help(true)] {
            for line in page.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
            for word in crate::args::flags().flat_map(Flag::words) {
                assert!(page.contains(word), "{word}");
            }
        }
    }
}
