//! `reproduce.sh`: shows a finding again with nothing but a shell and the program.

use std::path::Path;

use anyhow::{Context, Result};

use super::Example;
use crate::commands::adapted;
use crate::commands::{Command, quote};
use crate::exec::guard_library;
use crate::oracle::Class;
use crate::oracle::shell::{Script, comment};

/// Writes a script that can be executed.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    crate::files::write_whole(path, text.as_bytes())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode)
        .with_context(|| format!("cannot write '{}'", path.display()))
}

/// What begins the script of a finding that not every run reproduces: the script itself is
/// run many times. Many runs at once give the threads of each more ways to get in each other's
/// way. After `start`, `run` begins one, number `$run`; `judge` looks at what came of eight,
/// which are `$runs`; `none` is done where no run reproduced it.
pub(super) fn chance(start: &str, run: &str, judge: &str, none: &str) -> String {
    let many = format!(
        "{start}\
         round=0\n\
         runs=\n\
         trap '\n\
         \x20   trap \"\" HUP INT TERM\n\
         \x20   for run in $runs \"${{!-}}\"; do\n\
         \x20       while kill \"$run\" 2>/dev/null; do sleep 0.1; done\n\
         \x20   done\n\
         \x20   exit 130\n\
         ' HUP INT TERM\n\
         while [ \"$round\" -lt 100 ]; do\n\
         \x20   round=$((round + 1))\n\
         \x20   runs=\n\
         \x20   for run in 1 2 3 4 5 6 7 8; do\n\
         \x20       {run} &\n\
         \x20       runs=\"$runs $!\"\n\
         \x20   done\n\
         {}\
         done\n\
         {none}",
        indented(judge)
    );
    format!(
        "# It is not reproduced by every run: eight at a time are made until one does.\n\
         if [ \"${{1-}}\" != once ]; then\n\
         {}\
         fi\n",
        indented(&many)
    )
}

/// Lines of a script inside a block.
fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

/// How [`chance`] tells for `reproduce.sh` that the finding was reproduced.
const SHOWN: &str = "\
shown=
failed=
for run in $runs; do
    wait \"$run\"
    case $? in
    0) shown=yes ;;
    2) failed=yes ;;
    esac
done
[ -z \"$shown\" ] || { echo \"reproduced in round $round\"; exit 0; }
# One more says why.
[ -z \"$failed\" ] || exec sh \"$0\" once
";

/// What takes the folder `$work` away at the end, however that comes. Many shells do what
/// they are to do at their exit neither at a signal nor, before that, while a program runs
/// that they wait for: so a program runs in the background, with `running` set. One that has
/// just been started may miss a signal, and gets another.
pub(super) const CLEAN: &str = "\
work=
running=
clean() {
    if [ -n \"$running\" ]; then
        while kill -s \"${end_by:-TERM}\" \"${!-}\" 2>/dev/null; do sleep 0.1; done
        # What timeout(1) had no time to take note of is in its group.
        kill -s KILL -- \"-${!-}\" 2>/dev/null
    fi
    [ -z \"$work\" ] || rm -rf \"$work\"
}
trap clean EXIT
# A second signal does not cut that short.
trap 'trap \"\" HUP INT TERM; exit 129' HUP
trap 'trap \"\" HUP INT TERM; exit 130' INT
trap 'trap \"\" HUP INT TERM; exit 143' TERM
";

/// How the script runs a program, which is not in the folder that the script works in where
/// its name is relative. `before` are words that go before it; `timeout` ends with all that
/// it started. The programs of QEMU are words for a shell, as for the fuzzer.
const RUN: &str = "\
watch() { :; }
cannot() {
    echo \"reproduce.sh: cannot run '$1'\" >&3
    exit 2
}
run() {
    case $1 in
    /*) ;;
    */*)
        program=$called/$1
        shift
        set -- \"$program\" \"$@\"
        ;;
    esac
    case $1 in
    */*) [ -f \"$1\" ] && [ -x \"$1\" ] || cannot \"$1\" ;;
    *) command -v \"$1\" >/dev/null || cannot \"$1\" ;;
    esac
    running=yes
    $before \"$@\" 3>&- &
    watch
    wait \"$!\"
    ended=$?
    running=
    case $ended in
    126 | 127) cannot \"$*\" ;;
    esac
    return \"$ended\"
}
qemu_img() { eval \"run ${QEMU_IMG:-qemu-img}\" '\"$@\"'; }
qemu_io() { eval \"run ${QEMU_IO:-qemu-io}\" '\"$@\"'; }
";

/// The script for an example. It exits with 0 when it reproduces the finding, with 1 when
/// it does not, with 2 when that cannot be told.
pub(super) fn reproduce(example: &Example) -> String {
    let files: Vec<String> = example.files.iter().map(|file| quote(&file.name)).collect();
    let again = if example.hits_in_10 < 10 {
        chance("", "sh \"$0\" once >/dev/null 2>&1", SHOWN, "exit 1\n")
    } else {
        String::new()
    };
    let image = example.recipe.base.image_name();
    let mut text = format!(
        "#!/bin/sh\n\
         # Reproduces: {}\n\
         # Exit status: 0 reproduced, 1 not reproduced, 2 cannot tell.\n\
         # QEMU_IMG and QEMU_IO name other programs than those in PATH; blanks are quoted\n\
         # as for a shell: QEMU_IMG=\"'/a b/qemu-img'\".\n\
         {}\
         exec 3>&2\n\
         set -f\n\
         called=$(pwd) && here=$(cd \"$(dirname \"$0\")\" && pwd) || exit 2\n\
         {CLEAN}\
         work=$(mktemp -d) || exit 2\n\
         cd \"$work\" || exit 2\n\
         test_img={image}\n\
         {RUN}\
         fresh() {{\n    for file in {}; do cp --sparse=always \"$here/$file\" . || exit 2; done\n}}\n",
        comment(&example.key.to_string()),
        again,
        files.join(" ")
    );
    for (variable, options) in &example.sanitizers {
        let options = quote(options);
        text.push_str(&format!("export {variable}={options}\n"));
    }
    text.push_str(&example.key.class.oracle().variables(&example.limits));
    text.push_str(&format!("ulimit -n {}\n", example.limits.open_files));
    text.push_str(&guard(example));
    text.push_str("fresh\n");
    for (index, command) in example.recipe.commands.iter().enumerate() {
        if index > example.command() {
            break;
        }
        if index > 0 && example.recipe.fresh_copies {
            text.push_str("fresh\n");
        }
        if index == example.command() {
            text.push_str(&verdict(example, command));
        } else {
            text.push_str(&format!("{}\n", line(command)));
        }
    }
    text
}

/// What runs the programs under the guarding allocator of the recipe, where it has one; under
/// valgrind where there is none. Findings about time and memory are judged without.
fn guard(example: &Example) -> String {
    let class = example.key.class;
    let Some(guard) = example.recipe.guard else {
        return String::new();
    };
    if example.key.is_of_time() || class == Class::ResourceUse {
        return String::new();
    }
    let own = guard_library().map_or_else(|_| String::new(), |path| path.display().to_string());
    format!(
        "# GUARD names the library of the guarding allocator (libguard.so of image-fuzzer).\n\
         own_guard={}\n\
         : \"${{GUARD:=$own_guard}}\"\n\
         case $GUARD in\n/*) ;;\n*) GUARD=$called/$GUARD ;;\nesac\n\
         plain=$before\n\
         guard() {{\n\
         \x20   before=\"$plain env LD_PRELOAD=$GUARD G_SLICE=always-malloc\"\n\
         \x20   before=\"$before IMAGE_FUZZER_GUARD={} IMAGE_FUZZER_GUARD_FILL=$1\"\n\
         }}\n\
         other_fill() {{ guard {:02x}; }}\n\
         if [ -f \"$GUARD\" ]; then\n\
         \x20   guard {:02x}\n\
         elif command -v valgrind >/dev/null; then\n\
         \x20   before=\"$plain valgrind -q\"\n\
         else\n\
         \x20   echo 'reproduce.sh: neither GUARD nor valgrind is there' >&2\n\
         \x20   exit 2\n\
         fi\n",
        quote(&own),
        guard.mode.word(),
        guard.complement().fill,
        guard.fill,
    )
}

/// A command as the script runs it.
fn line(command: &Command) -> String {
    let shell = command.shell();
    match of_qemu(&shell) {
        Some((name, rest)) => format!("{}{rest}", name.replace('-', "_")),
        None => format!("run {shell}"),
    }
}

/// The program of QEMU that a line of a shell begins with, and the rest of the line.
pub(super) fn of_qemu(shell: &str) -> Option<(&str, &str)> {
    let (name, rest) = shell.split_at(shell.find(' ').unwrap_or(shell.len()));
    ["qemu-img", "qemu-io"]
        .contains(&name)
        .then_some((name, rest))
}

/// The command that shows the finding, and how to tell that it did.
fn verdict(example: &Example, command: &Command) -> String {
    example.key.class.oracle().verdict(&Script {
        line: &line(command),
        signature: &example.key.signature,
        summary: example
            .violation()
            .map_or("", |violation| &violation.summary),
        limits: &example.limits,
        own: &|command| line(&adapted(&example.recipe.base, command)),
    })
}

#[cfg(test)]
mod tests;
