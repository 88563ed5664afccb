//! Scripts that run a trace and say how the emulator ended.

use std::fmt::Write as _;

use crate::commands::quote;
use crate::device::InputLimits;
use crate::device::machine::FIRMWARE;
use crate::device::program::Program;
use crate::device::store::{Finding, TRACE};
use crate::oracle::Class;
use crate::oracle::shell::comment;
use crate::signature::Signature;

/// What the numbered test prints where the finding is not shown.
pub(super) const GOLDEN: &str = "went on\n*** done\n";

/// How long an emulator may take for a trace, in seconds, on a slow machine.
const SECONDS: u64 = 60;

/// Runs the trace in the file `trace` on an emulator: the answers are counted, since an emulator
/// goes on where its standard input ends.
const RUN: &str = "\
# Runs the trace; the emulator's own words are in the file 'err'.
run() {
    rm -f in out
    mkfifo in out || exit 1
    \"$@\" -qtest stdio <in >out 2>err &
    emulator=$!
    # Lines that are longer than what the emulator reads at once let it do what devices put off.
    long=$(printf 'endianness %1100s' '')
    { cat trace; printf '%s\\n' \"$long\" \"$long\" \"$long\" \"$long\"; } >in &
    # An answer to each line, or the end of the emulator.
    lines=$(($(grep -c '' trace) + 4))
    answers=$(timeout -k 1 \"$seconds\" head -n \"$lines\" <out | grep -c '')
    if [ \"$answers\" -eq \"$lines\" ]; then
        kill -9 \"$emulator\" 2>/dev/null
        { wait \"$emulator\"; } 2>/dev/null
        echo 'went on'
    elif kill -0 \"$emulator\" 2>/dev/null && ! ended; then
        kill -9 \"$emulator\"
        { wait \"$emulator\"; } 2>/dev/null
        echo 'hung'
    else
        { wait \"$emulator\"; } 2>/dev/null
        status=$?
        if [ \"$status\" -gt 128 ]; then
            echo \"ended by signal $((status - 128))\"
        else
            echo \"exited with $status\"
        fi
    fi
    kill %% 2>/dev/null
    rm -f in out
}

# Whether the emulator has ended: a dead process is a zombie until
# it is waited for.
ended() {
    case $(cut -d ')' -f 2 \"/proc/$emulator/stat\" 2>/dev/null) in
        ''|' Z'*|' X'*) return 0 ;;
        *) return 1 ;;
    esac
}
";

fn words(finding: &Finding) -> String {
    let words: Vec<String> = finding.machine.args.iter().map(|it| quote(it)).collect();
    words.join(" ")
}

/// The script that shows a finding: exit status 0 where it does.
pub(super) fn reproduce(finding: &Finding, program: &Program) -> String {
    // A hang takes longer than an input may; one that ends at last is one, too.
    let seconds = match finding.key.class {
        Class::Hang => InputLimits::default().time.as_secs(),
        _ => SECONDS,
    };
    let mut text = format!(
        "#!/usr/bin/env bash\n# {}\n# {}\n#\n# usage: [QEMU_PROG=EMULATOR] ./reproduce.sh\n#\n\
         # Exit status: 0 reproduced, 3 not reproduced.\n\n\
         cd \"$(dirname \"$0\")\" || exit 1\n\
         qemu=${{QEMU_PROG:-{}}}\n\
         seconds={seconds}\n\n{RUN}\n",
        comment(&finding.key.to_string()),
        comment(&finding.summary),
        quote(&finding.machine.program.to_string_lossy()),
    );
    if has_monitor(program) {
        text.push_str(
            "# The trace has commands of the monitor, which only image-fuzzer gives in their place.\n\
             exec image-fuzzer reproduce .\n",
        );
        return text;
    }
    let _ = writeln!(text, "end=$(run \"$qemu\" {})", words(finding));
    text.push_str("cat err >&2\necho \"$end\"\n");
    let condition = match (finding.key.class, &finding.key.signature) {
        (Class::Hang, _) => "[ \"$end\" = hung ]".to_owned(),
        (_, Signature::Failure { text, .. }) => match longest_part(text) {
            "" => "[ \"$end\" != 'went on' ]".to_owned(),
            part => format!("grep -q -F -e {} err", quote(part)),
        },
        _ => "[ \"$end\" != 'went on' ]".to_owned(),
    };
    let _ = writeln!(text, "{condition} || exit 3");
    text
}

/// The longest part of a signature that a program prints as it is: numbers are taken out of it,
/// and file, function and text are joined.
fn longest_part(text: &str) -> &str {
    let parts = text.split(": ").flat_map(|it| it.split(" N"));
    let parts = parts.flat_map(|it| it.split("xN"));
    parts.max_by_key(|it| it.len()).unwrap_or("").trim()
}

/// Whether a trace has what standard input cannot give.
fn has_monitor(program: &Program) -> bool {
    use crate::device::program::Step;
    program
        .steps
        .iter()
        .any(|it| matches!(it, Step::Monitor(_)))
}

/// A numbered test for a suite of shell scripts, that of QEMU or this project's: its output is
/// [`GOLDEN`] where the finding is fixed.
pub(super) fn numbered(finding: &Finding, program: &Program) -> String {
    let mut text = format!(
        "#!/usr/bin/env bash\n\
         # A guest that once led to: {}\n\
         #\n\
         # group: auto quick\n\
         # supported_fmt: raw\n\
         # supported_proto: file\n\n\
         seq=$(basename \"$0\")\n\
         qemu=${{QEMU:-${{QEMU_PROG:-{}}}}}\n\
         seconds={SECONDS}\n\
         work=$(mktemp -d \"${{TEST_DIR:-/tmp}}/$seq.XXXXXX\") || exit 1\n\
         trap 'rm -rf \"$work\"' EXIT\n\
         cd \"$work\" || exit 1\n\n{RUN}\n",
        comment(&finding.key.to_string()),
        quote(&finding.machine.program.to_string_lossy()),
    );
    if finding.machine.args.iter().any(|it| it == FIRMWARE) {
        text.push_str(
            "# Firmware that stops the processor.\n\
             (head -c 65520 /dev/zero; printf '\\372\\364\\353\\375'; head -c 12 /dev/zero) >halt.bin\n",
        );
    }
    if let Some(format) = &finding.machine.format {
        let _ = writeln!(
            text,
            "${{QEMU_IMG:-${{QEMU_IMG_PROG:-qemu-img}}}} create -q -f {format} disk.img {} || exit 1",
            finding.machine.disk_size
        );
    }
    let _ = writeln!(text, "cat >{TRACE} <<'EOF'\n{program}EOF");
    let _ = writeln!(text, "run $qemu {}", words(finding));
    text.push_str("echo '*** done'\n");
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::super::tests::{finding, program};
    use super::*;

    /// What the script says of an emulator, which is a shell script.
    fn shown(emulator: &str, signature: &str) -> (String, Option<i32>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("emulator");
        fs::write(&path, format!("#!/bin/sh\n{emulator}")).unwrap();
        let mut finding = finding();
        finding.machine.program = path.clone();
        finding.key.signature = Signature::crash(signature);
        let text = reproduce(&finding, &program());
        let text = text.replace("seconds=60", "seconds=1");
        fs::write(dir.path().join("reproduce.sh"), text).unwrap();
        fs::write(dir.path().join("trace"), program().to_string()).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, permissions).unwrap();
        let done = Command::new("bash")
            .arg(dir.path().join("reproduce.sh"))
            .env("QEMU_PROG", &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        (said, done.status.code())
    }

    #[test]
    fn a_script_says_how_the_emulator_ended() {
        let answers = "while read -r line; do echo OK; done\nsleep 100\n";
        assert_eq!(shown(answers, "SIGABRT"), ("went on".into(), Some(3)));
        let dies = "read -r line; echo 'x.c:7: lsi_do_dma: Assertion' >&2; kill -ABRT $$\n";
        let words = "assertion: x.c: lsi_do_dma";
        assert_eq!(shown(dies, words), ("ended by signal 6".into(), Some(0)));
        let other = "assertion: x.c: another_function";
        assert_eq!(shown(dies, other), ("ended by signal 6".into(), Some(3)));
        let exits = "read -r line; exit 2\n";
        assert_eq!(shown(exits, "SIGSEGV"), ("exited with 2".into(), Some(0)));
    }

    #[test]
    fn a_signature_is_found_in_what_was_printed() {
        assert_eq!(
            longest_part("lsi53c895a.c: lsi_do_dma: size > N"),
            "lsi53c895a.c"
        );
        assert_eq!(longest_part(""), "");
    }
}
