//! `reproduce.sh`: shows a finding again with nothing but a shell and the program.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use regex::Regex;

use super::{Example, IMAGE};
use crate::commands::encrypted::unlocked;
use crate::commands::{Command, quote};
use crate::oracle::{Class, data, metadata};
use crate::signature::Signature;

/// Writes a script that can be executed.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    crate::files::write_whole(path, text.as_bytes())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode)
        .with_context(|| format!("cannot write '{}'", path.display()))
}

/// What begins the script of a fault that does not show in every run: the script itself is
/// run many times. Many runs at once give the threads of each more ways to get in each other's
/// way. After `start`, `run` begins one, number `$run`; `judge` looks at what came of eight,
/// which are `$runs`; `none` is done where no run showed the fault.
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
        "# It does not show in every run: eight at a time are made until one shows it.\n\
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

/// How [`chance`] tells for `reproduce.sh` that the fault showed.
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
[ -z \"$shown\" ] || { echo \"shown in round $round\"; exit 0; }
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

/// The script for an example. It exits with 0 when the fault shows, with 1 when
/// it does not, with 2 when that cannot be told.
pub(super) fn reproduce(example: &Example) -> String {
    let files: Vec<String> = example.files.iter().map(|file| quote(&file.name)).collect();
    let again = if example.hits_in_10 < 10 {
        chance("", "sh \"$0\" once >/dev/null 2>&1", SHOWN, "exit 1\n")
    } else {
        String::new()
    };
    let mut text = format!(
        "#!/bin/sh\n\
         # Shows this fault again: {}\n\
         # Exits with 0 when it shows, with 1 when it does not, with 2 when that cannot be told.\n\
         # QEMU_IMG and QEMU_IO name the programs where they are not those in PATH; what holds\n\
         # blanks is quoted as for a shell: QEMU_IMG=\"'/a b/qemu-img'\".\n\
         {}\
         exec 3>&2\n\
         set -f\n\
         called=$(pwd) && here=$(cd \"$(dirname \"$0\")\" && pwd) || exit 2\n\
         {CLEAN}\
         work=$(mktemp -d) || exit 2\n\
         cd \"$work\" || exit 2\n\
         test_img={IMAGE}\n\
         {RUN}\
         fresh() {{\n    for file in {}; do cp --sparse=always \"$here/$file\" . || exit 2; done\n}}\n",
        comment(&example.key.to_string()),
        again,
        files.join(" ")
    );
    text.push_str(&helpers(example));
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

/// A text that stays inside a comment.
pub(super) fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
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

/// Variables and functions that the verdict needs.
fn helpers(example: &Example) -> String {
    let seconds = example.limits.wall.as_secs().max(1) * 6;
    let memory = example.limits.memory >> 10;
    match example.key.class {
        Class::Hang | Class::Slow => {
            format!("limit={seconds}\nbefore=\"timeout -k 1 $limit\"\n")
        }
        Class::Growth => format!(
            "before=\n\
             end_by=KILL\n\
             most_kib={memory}\nmost_disk_kib={}\nmost_printed={}\n",
            example.limits.disk_growth >> 10,
            example.limits.output
        ),
        // Without a limit.
        _ => "before='timeout -k 1 0'\n".to_owned(),
    }
}

/// The command that shows the fault, and how to tell that it did.
fn verdict(example: &Example, command: &Command) -> String {
    let line = line(command);
    let own = |command| self::line(&unlocked(&example.recipe.base, command));
    let check = own(metadata::check());
    match example.key.class {
        Class::Crash => crash(&line, &example.key.signature),
        Class::Sanitizer => format!(
            "{line} 2>report\nstatus=$?\n\
             cat report >&2\n\
             echo \"status $status\"\n\
             grep -q -e 'Sanitizer: ' -e 'runtime error: ' report{}\n",
            said(&example.key.signature.to_string())
        ),
        Class::Hang => format!(
            "{line}\nstatus=$?\n\
             echo \"status $status (124: still running after $limit s; 137: and ended by force)\"\n\
             [ \"$status\" -eq 124 ] || [ \"$status\" -eq 137 ]\n"
        ),
        Class::Slow => format!(
            "start=$(date +%s)\n\
             {line}\n\
             seconds=$(($(date +%s) - start))\n\
             echo \"$seconds s\"\n\
             [ \"$seconds\" -ge {} ]\n",
            example.limits.wall.as_secs()
        ),
        Class::Growth => format!(
            "peak=0\n\
             over() {{\n\
             \x20   now=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' \"/proc/$pid/status\" 2>/dev/null)\n\
             \x20   [ \"${{now:-0}}\" -gt \"$peak\" ] && peak=$now\n\
             \x20   disk=$(du -sk . | cut -f 1)\n\
             \x20   printed=$(wc -c <printed)\n\
             \x20   [ \"$peak\" -gt \"$most_kib\" ] || [ \"$disk\" -gt \"$most_disk_kib\" ] ||\n\
             \x20       [ \"$printed\" -gt \"$most_printed\" ]\n\
             }}\n\
             watch() {{\n\
             \x20   pid=$!\n\
             \x20   while kill -0 \"$pid\" 2>/dev/null; do\n\
             \x20       if over; then kill -KILL \"$pid\"; break; fi\n\
             \x20       sleep 0.1\n\
             \x20   done\n\
             }}\n\
             {line} >printed 2>&1\n\
             over\n\
             status=$?\n\
             echo \"memory $peak KiB, disk $disk KiB, output $printed bytes\"\n\
             exit \"$status\"\n"
        ),
        Class::Outside => format!(
            "# The image names a file or address that the command does not; strace shows\n\
             # the attempt to reach it. It need not be there.\n\
             command -v strace >/dev/null || {{ echo 'strace is needed' >&2; exit 2; }}\n\
             before=\"$before strace -f -e trace=open,openat,connect -o calls\"\n\
             {line}\n\
             grep -e canary -e 'connect(.*AF_INET' calls\n"
        ),
        Class::FalseRepair => format!(
            "{line} || {{ echo 'the repair reports failure'; exit 1; }}\n\
             {check}\n\
             status=$?\n\
             echo \"status $status (2: errors left, 3: leaks left)\"\n\
             [ \"$status\" -ge 2 ]\n"
        ),
        Class::MetadataDamage => format!(
            "{check} >/dev/null || {{ echo 'the image was not clean before'; exit 1; }}\n\
             {line} || {{ echo 'the command reports failure'; exit 1; }}\n\
             {check}\n\
             status=$?\n\
             echo \"status $status (2: errors, 3: leaks)\"\n\
             [ \"$status\" -ge 2 ]\n"
        ),
        Class::DataChange => format!(
            "{} || exit 1\n\
             {line} || {{ echo 'the command reports failure'; exit 1; }}\n\
             {}\n\
             [ $? -eq 1 ]\n",
            own(data::copy()),
            own(data::compare())
        ),
        Class::Disagreement => format!(
            "# OTHER_IMG is the qemu-img to compare with.\n\
             [ -n \"${{OTHER_IMG-}}\" ] || {{ echo 'OTHER_IMG names no program' >&2; exit 2; }}\n\
             {line} >one\n\
             echo \"status $?\" >>one\n\
             QEMU_IMG=$OTHER_IMG\n\
             {line} >other\n\
             echo \"status $?\" >>other\n\
             ! diff one other\n"
        ),
    }
}

/// The verdict on a signal: with the words of the group where the program had some,
/// else with the signal's number. The stack of one without words is not looked at,
/// since that takes more than a shell, and the script says so.
fn crash(line: &str, signature: &Signature) -> String {
    let ran = format!(
        "{line} 2>report\nstatus=$?\n\
         cat report >&2\n\
         echo \"status $status\"\n\
         # Above 128: a signal, 134 for a failed assertion.\n"
    );
    let (name, frames) = match signature {
        Signature::Signal { name, frames } => (name, frames),
        // The kind is our word, not the program's.
        Signature::Failure { text, .. } => {
            return format!("{ran}[ \"$status\" -gt 128 ]{}\n", said(text));
        }
        _ => return format!("{ran}[ \"$status\" -gt 128 ]\n"),
    };
    let note = frames.as_ref().map_or_else(String::new, |frames| {
        let text = format!("judged by the signal alone, not by where it came: {frames}");
        format!("echo {}\n", quote(&comment(&text)))
    });
    match name.parse::<Signal>() {
        Ok(signal) => format!("{ran}{note}[ \"$status\" -eq {} ]\n", 128 + signal as i32),
        Err(_) => format!("{ran}{note}[ \"$status\" -gt 128 ]\n"),
    }
}

/// Further conditions: every part of a group's name is in what the program printed.
/// Numbers are folded on both sides, as they differ from build to build.
fn said(site: &str) -> String {
    let parts = site.split(": ").flat_map(|part| part.split(" < "));
    parts
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let part = quote(&folded(&comment(part)));
            format!(
                " &&\n    sed 's/0x[0-9a-fA-F][0-9a-fA-F]*/N/g; s/[0-9][0-9]*/N/g' report | \
                 grep -F -e {part} >/dev/null"
            )
        })
        .collect()
}

/// A text with all numbers replaced by `N`, as the script's `sed` does it.
fn folded(text: &str) -> String {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("0x[0-9a-fA-F]+|[0-9]+").expect("a valid expression"));
    NUMBER.replace_all(text, "N").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit status of the verdict on a shell command.
    fn judged(body: &str, site: &str) -> Option<i32> {
        let dir = tempfile::tempdir().unwrap();
        let text = crash(&format!("sh -c {}", quote(body)), &Signature::crash(site));
        let done = std::process::Command::new("sh")
            .args(["-c", &text])
            .current_dir(dir.path())
            .output();
        done.unwrap().status.code()
    }

    #[test]
    fn a_crash_is_judged_by_its_words() {
        let site = "assertion: qcow2-cluster.c: handle_dependencies: old_end > N";
        let dies = |text: &str| format!("echo \"{text}\" >&2; kill -ABRT $$");
        let words = "x: ../block/qcow2-cluster.c:11: handle_dependencies: Assertion old_end > 0x1f";
        assert_eq!(judged(&dies(words), site), Some(0));
        let other = words.replace("handle_dependencies", "another_function");
        assert_eq!(judged(&dies(&other), site), Some(1));
        assert_eq!(judged(&format!("echo '{words}' >&2"), site), Some(1));
    }

    #[test]
    fn a_crash_without_words_is_judged_by_its_signal() {
        let site = "SIGSEGV in get_refcount < it's";
        assert_eq!(judged("kill -SEGV $$", site), Some(0));
        assert_eq!(judged("kill -ABRT $$", site), Some(1));
    }

    #[test]
    fn a_report_is_judged_by_its_frames() {
        let text = "==1==ERROR: AddressSanitizer: SEGV on\n #0 0x5 in fill_l2 /a/x.c:3\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("report"), text).unwrap();
        let shows = |site| {
            let script = format!("true{}", said(site));
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script]).current_dir(dir.path());
            shell.status().unwrap().success()
        };
        assert!(shows("SEGV: fill_l2"));
        assert!(!shows("SEGV: fill_l2 < main"));
    }
}
