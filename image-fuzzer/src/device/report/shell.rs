//! Scripts that run a trace and say how the emulator ended.

use std::fmt::Write as _;

use crate::commands::quote;
use crate::device::InputLimits;
use crate::device::disk::DiskImage;
use crate::device::machine::FIRMWARE;
use crate::device::program::Program;
use crate::device::store::{Finding, TRACE};
use crate::exec::guard_library;
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
    say_end \"$answers\" \"$lines\"
    rm -f in out
}
";

/// The same for a trace with commands of the monitor, which has pipes of its own. Each line is
/// answered before the next is given.
const RUN_WITH_MONITOR: &str = "\
# Runs the trace; the emulator's own words are in the file 'err'. Lines that begin with
# '# monitor:' are given to the monitor, over the pipes mon.in and mon.out.
run() {
    rm -f in out mon.in mon.out
    mkfifo in out mon.in mon.out || exit 1
    trap '' PIPE
    \"$@\" -qtest stdio -chardev pipe,id=monitor,path=mon -mon chardev=monitor,mode=control \\
        <in >out 2>err &
    emulator=$!
    exec 3>in 4<out 5<>mon.in 6<>mon.out
    long=$(printf 'endianness %1100s' '')
    monitor '{\"execute\": \"qmp_capabilities\"}'
    answers=0
    lines=$(($(grep -c '' trace) + 4))
    while IFS= read -r line; do
        case $line in
            '# monitor: '*)
                command=${line#'# monitor: '}
                case $command in
                    '{'*) ;;
                    *)
                        command=${command//\\\\/\\\\\\\\}
                        command=${command//\\\"/\\\\\\\"}
                        command='{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"'$command'\"}}'
                        ;;
                esac
                monitor \"$command\" || break
                ;;
            *)
                printf '%s\\n' \"$line\" 2>/dev/null >&3
                IFS= read -r -t \"$seconds\" _ <&4 || break
                ;;
        esac
        answers=$((answers + 1))
    done < <(cat trace; printf '%s\\n' \"$long\" \"$long\" \"$long\" \"$long\")
    exec 3>&- 4<&- 5>&- 6<&-
    say_end \"$answers\" \"$lines\"
    rm -f in out mon.in mon.out
}

# Gives a command to the monitor and waits for its answer.
monitor() {
    printf '%s\\n' \"$1\" >&5
    left=$seconds
    while [ \"$left\" -gt 0 ]; do
        if IFS= read -r -t 1 answer <&6; then
            case $answer in
                '{\"return\"'*|'{\"error\"'*|*', \"return\": '*) return 0 ;;
            esac
        elif ended; then
            return 1
        else
            left=$((left - 1))
        fi
    done
    return 1
}
";

/// Says how the emulator ended, from the number of lines that were answered and that of all.
const END: &str = "\
say_end() {
    if [ \"$1\" -eq \"$2\" ]; then
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

/// The functions by which a script runs a trace.
fn functions(program: &Program) -> String {
    let run = match program.has_monitor() {
        true => RUN_WITH_MONITOR,
        false => RUN,
    };
    format!("{run}\n{END}")
}

fn words(finding: &Finding) -> String {
    let words: Vec<String> = finding.machine.args.iter().map(|it| quote(it)).collect();
    words.join(" ")
}

/// What an emulator is started by to run under the guarding allocator of a finding.
fn guard(finding: &Finding, text: &mut String) -> String {
    let Some(guard) = finding.guard else {
        return String::new();
    };
    let library = guard_library().map_or_else(|_| String::new(), |it| it.display().to_string());
    let _ = writeln!(
        text,
        "# GUARD names the library of the guarding allocator (libguard.so of image-fuzzer).\n\
         guard=${{GUARD:-{}}}",
        quote(&library)
    );
    let variables = guard.variables();
    let variables = variables.map(|(name, value)| format!("{name}={value} "));
    format!(
        "env LD_PRELOAD=\"$guard\" G_SLICE=always-malloc {}",
        variables.concat()
    )
}

/// The script that shows a finding: exit status 0 where it does.
pub(super) fn reproduce(finding: &Finding, program: &Program, image: Option<&DiskImage>) -> String {
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
         seconds={seconds}\n\n{}\n",
        comment(&finding.key.to_string()),
        comment(&finding.summary),
        quote(&finding.machine.program.to_string_lossy()),
        functions(program),
    );
    if let Some(image) = image {
        let firmware = finding.machine.args.iter().find(|it| *it == FIRMWARE);
        let names = firmware
            .map(String::as_str)
            .into_iter()
            .chain(image.names());
        let names: Vec<String> = names.map(quote).collect();
        let _ = writeln!(
            text,
            "# The emulator writes to the image, so it gets a copy.\n\
             work=$(mktemp -d) || exit 1\n\
             trap 'rm -rf \"$work\"' EXIT\n\
             cp {TRACE} {} \"$work\" && cd \"$work\" || exit 1\n",
            names.join(" ")
        );
    }
    let guard = guard(finding, &mut text);
    let _ = writeln!(text, "end=$(run {guard}\"$qemu\" {})", words(finding));
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

/// A numbered test for a suite of shell scripts, that of QEMU or this project's: its output is
/// [`GOLDEN`] where the finding is fixed.
pub(super) fn numbered(finding: &Finding, program: &Program, image: Option<&DiskImage>) -> String {
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
         here=$(cd \"$(dirname \"$0\")\" && pwd)\n\
         work=$(mktemp -d \"${{TEST_DIR:-/tmp}}/$seq.XXXXXX\") || exit 1\n\
         trap 'rm -rf \"$work\"' EXIT\n\
         cd \"$work\" || exit 1\n\n{}\n",
        comment(&finding.key.to_string()),
        quote(&finding.machine.program.to_string_lossy()),
        functions(program),
    );
    if finding.machine.args.iter().any(|it| it == FIRMWARE) {
        text.push_str(
            "# Firmware that stops the processor.\n\
             (head -c 65520 /dev/zero; printf '\\372\\364\\353\\375'; head -c 12 /dev/zero) >halt.bin\n",
        );
    }
    if let Some(image) = image.filter(|it| it.is_mutated()) {
        let names: Vec<String> = image.names().into_iter().map(quote).collect();
        let _ = writeln!(
            text,
            "# The image beside this test.\nfor name in {}; do cp \"$here/$name\" . || exit 1; done",
            names.join(" ")
        );
    } else if let Some(format) = &finding.machine.format {
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
        shown_by(emulator, signature, &program())
    }

    fn shown_by(emulator: &str, signature: &str, program: &Program) -> (String, Option<i32>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("emulator");
        fs::write(&path, format!("#!/bin/sh\n{emulator}")).unwrap();
        let mut finding = finding();
        finding.machine.program = path.clone();
        finding.key.signature = Signature::crash(signature);
        let text = reproduce(&finding, program, None);
        let text = text.replace("seconds=60", "seconds=1");
        fs::write(dir.path().join("reproduce.sh"), text).unwrap();
        fs::write(dir.path().join("trace"), program.to_string()).unwrap();
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

    /// An emulator that ends when `device_del` was given behind the second access.
    #[test]
    fn commands_of_the_monitor_are_given_in_their_place() {
        let emulator = "\
while [ $# -gt 0 ]; do case $1 in -chardev) mon=${2##*path=} ;; esac; shift; done
exec 5<>$mon.in 6<>$mon.out
echo '{\"QMP\": {}}' >&6
{ while read -r line; do
    echo '{\"event\": \"STOP\"}' >&6
    case $line in *'\"device_del a\\\"b\"'*) touch deleted ;; esac
    echo '{\"return\": {}}' >&6
done } <&5 &
while read -r line; do
    case $line in
        'outb 0x1'*) [ -e deleted ] && exit 9 ;;
        'outb 0x2'*) [ -e deleted ] && { kill $!; kill -SEGV $$; } ;;
    esac
    echo OK
done
sleep 100
";
        let trace = |text: &str| text.parse::<Program>().unwrap();
        let all = trace("outb 0x1 0x1\n# monitor: device_del a\"b\noutb 0x2 0x1\n");
        let ended = ("ended by signal 11".into(), Some(0));
        assert_eq!(shown_by(emulator, "SIGSEGV", &all), ended);
        let other = trace("outb 0x1 0x1\n# monitor: {\"execute\":\"stop\"}\noutb 0x2 0x1\n");
        let went_on = ("went on".into(), Some(3));
        assert_eq!(shown_by(emulator, "SIGSEGV", &other), went_on);
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
