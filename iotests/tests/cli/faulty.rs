//! Every fault of `faulty` changes what the real tool does: the same shell lines run
//! with it and with the control, and differ in their output.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is there at first, and short names: `$F` has the faults, `$R` the real
/// tools; `x` is full of data, `z` an overlay of it, `e` empty.
const SETUP: &str = r#"
io() { i=$1; shift; printf '%s\n' "$@" | $F/qemu-io -f qcow2 $i | grep -v ' ops; '; }
put() { $R/qemu-io -f qcow2 -c "write -P $2 0 128k" $1 >/dev/null; }
sum() { $R/qemu-img convert -O raw $1 flat && cksum <flat; }
leak() { dd if=/dev/zero of=x bs=8 seek=32768 count=1 conv=notrunc 2>/dev/null; }
$R/qemu-img create -q -f qcow2 x 1M; $R/qemu-io -f qcow2 -c 'write -P 1 0 1M' x >/dev/null
$R/qemu-img create -q -f qcow2 -b x -F qcow2 z; $R/qemu-img create -q -f qcow2 e 1M
"#;

/// For each fault what shows it.
const SHOWN: &[(&str, &str)] = &[
    (
        "write-lost",
        "io x 'write -P 2 0 4k' 'write -P 3 4k 4k'; sum x",
    ),
    ("write-misplaced", "io x 'write -P 2 0 4k'; sum x"),
    ("zero-lost", "io x 'write -z 0 64k'; sum x"),
    ("discard-lost", "io x 'discard 0 64k'; sum x"),
    (
        "create-short",
        "$F/qemu-img create -f qcow2 n 1M; $R/qemu-img info n",
    ),
    (
        "resize-short",
        "$F/qemu-img resize x 2M; $R/qemu-img info x | grep virtual",
    ),
    (
        "convert-truncated",
        "$F/qemu-img convert -O qcow2 x n; sum n",
    ),
    (
        "convert-uncompressed",
        "$F/qemu-img convert -c -O qcow2 x n; wc -c <n",
    ),
    ("commit-lost", "put z 4; $F/qemu-img commit z; sum x"),
    (
        "rebase-unsafe",
        "$F/qemu-img rebase -f qcow2 -b e -F qcow2 z; sum z",
    ),
    (
        "apply-lost",
        "$R/qemu-img snapshot -c s x; put x 5; $F/qemu-img snapshot -a s x; sum x",
    ),
    (
        "delete-lost",
        "$R/qemu-img snapshot -c s x; $F/qemu-img snapshot -d s x; $R/qemu-img snapshot -l x | wc -l",
    ),
    (
        "bitmap-stale",
        "$R/qemu-img bitmap --add x b; put x 6; $F/qemu-img bitmap --clear x b; cksum <x",
    ),
    (
        "amend-lost",
        "$F/qemu-img amend -f qcow2 -o compat=0.10 x; $R/qemu-img info x | grep compat",
    ),
    ("check-clean", "leak; $F/qemu-img check x; echo $?"),
    (
        "repair-lost",
        "leak; $F/qemu-img check -r leaks x; $R/qemu-img check x; echo $?",
    ),
    ("compare-equal", "$F/qemu-img compare x e; echo $?"),
    (
        "map-all-data",
        "$F/qemu-img map --output=json e | grep -c 'zero.*true'",
    ),
    ("info-short", "$F/qemu-img info x | grep virtual"),
    ("measure-little", "$F/qemu-img measure -O qcow2 x"),
    ("error-succeeds", "$F/qemu-img info nothing; echo $?"),
    ("success-fails", "$F/qemu-img convert -O qcow2 x n; echo $?"),
    (
        "nbd-writable",
        "$F/qemu-nbd --fork -r -f qcow2 -k $PWD/sock x; \
      $R/qemu-io -f raw -c 'write -P 7 0 4k' \"nbd+unix:///?socket=$PWD/sock\" >log 2>&1; echo $?",
    ),
    (
        "flush-lost",
        "printf '%s\\n' '{\"execute\":\"qmp_capabilities\"}' '{\"execute\":\"query-named-block-nodes\"}' \
      '{\"execute\":\"quit\"}' | $F/qemu-system -nodefaults -display none -machine none -qmp stdio \
      -blockdev '{\"driver\":\"qcow2\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\",\"filename\":\"x\"}}' \
      | grep -o '\"no-flush\": [a-z]*'",
    ),
];

/// Commands for a storage daemon, the text in its last line of interest, and what
/// shows the fault afterwards, besides that line.
const QMP: &[(&str, &[&str], &str, &str)] = &[
    (
        "stream-empty",
        &[
            r#"{"execute":"blockdev-add","arguments":{"node-name":"b","driver":"qcow2","read-only":true,"file":{"driver":"file","filename":"x"}}}"#,
            r#"{"execute":"blockdev-add","arguments":{"node-name":"t","driver":"qcow2","backing":"b","file":{"driver":"file","filename":"z"}}}"#,
            r#"{"execute":"block-stream","arguments":{"job-id":"j","device":"t"}}"#,
        ],
        "BLOCK_JOB_COMPLETED",
        "$R/qemu-img info z | grep -c backing",
    ),
    (
        "mirror-empty",
        &[
            r#"{"execute":"blockdev-add","arguments":{"node-name":"x","driver":"qcow2","file":{"driver":"file","filename":"x"}}}"#,
            r#"{"execute":"blockdev-add","arguments":{"node-name":"e","driver":"qcow2","file":{"driver":"file","filename":"e"}}}"#,
            r#"{"execute":"blockdev-mirror","arguments":{"job-id":"j","device":"x","target":"e","sync":"full"}}"#,
        ],
        "BLOCK_JOB_READY",
        "sum e",
    ),
    (
        "job-error-hidden",
        &[
            r#"{"execute":"blockdev-add","arguments":{"node-name":"b","driver":"qcow2","read-only":true,"file":{"driver":"blkdebug","inject-error":[{"event":"read_aio"}],"image":{"driver":"file","filename":"x"}}}}"#,
            r#"{"execute":"blockdev-add","arguments":{"node-name":"t","driver":"qcow2","backing":"b","file":{"driver":"file","filename":"z"}}}"#,
            r#"{"execute":"block-stream","arguments":{"job-id":"j","device":"t"}}"#,
        ],
        "BLOCK_JOB_COMPLETED",
        "true",
    ),
    (
        "qmp-error-succeeds",
        &[r#"{"execute":"none-such","id":7}"#],
        "\"id\":7",
        "true",
    ),
    (
        "qmp-bitmap-stale",
        &[
            r#"{"execute":"block-dirty-bitmap-clear","arguments":{"node":"none","name":"b"},"id":7}"#,
        ],
        "\"id\":7",
        "true",
    ),
];

/// Runs shell lines in `dir` with the tools of `fault`.
fn shell(top: &Path, fault: &str, dir: &Path, lines: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", lines])
        .current_dir(dir)
        .env("LC_ALL", "C")
        .env("F", top.join(fault))
        .env("R", top.join("real"))
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// Sends `lines` to a daemon; returns the first line with `end` in it.
fn daemon(top: &Path, fault: &str, dir: &Path, lines: &[&str], end: &str) -> String {
    let (mut ours, theirs) = UnixStream::pair().expect("a socket");
    let mut child = Command::new(top.join(fault).join("qemu-storage-daemon"))
        .args([
            "--chardev",
            "socket,id=mon,fd=0",
            "--monitor",
            "chardev=mon",
        ])
        .current_dir(dir)
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .expect("a daemon");
    let mut answers = BufReader::new(ours.try_clone().expect("a socket")).lines();
    writeln!(ours, r#"{{"execute":"qmp_capabilities"}}"#).expect("it listens");
    for line in lines {
        writeln!(ours, "{line}").expect("it listens");
    }
    let found = answers.find_map(|l| {
        l.ok()
            .filter(|l| l.contains(end) || l.contains(&end.replace(':', ": ")))
    });
    writeln!(ours, r#"{{"execute":"quit"}}"#).expect("it listens");
    assert!(child.wait().expect("it ends").success());
    let found = found.unwrap_or_else(|| panic!("{fault}: no {end}"));
    let value: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    format!(
        "{} {} {}",
        value["data"]["error"], value["error"], value["return"]
    )
}

/// The output of one fault's lines with the tools of `fault`.
fn output(top: &Path, name: &str, fault: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    if let Some((_, lines)) = SHOWN.iter().find(|(n, _)| *n == name) {
        return shell(top, fault, dir, &format!("{SETUP}{lines}"));
    }
    let commands = QMP.iter().find(|(n, ..)| *n == name);
    let (_, lines, end, after) = commands.unwrap_or_else(|| panic!("nothing shows fault {name}"));
    shell(top, fault, dir, SETUP);
    let answers = daemon(top, fault, dir, lines, end);
    let functions = SETUP.split("$R/qemu-img create").next().unwrap_or_default();
    answers + "\n" + &shell(top, fault, dir, &format!("{functions}{after}"))
}

#[test]
fn every_fault_changes_what_the_real_tool_does() {
    if !super::has_tools() {
        return;
    }
    let top = tempfile::tempdir().expect("a folder");
    let top = top.path();
    let faulty = env!("CARGO_BIN_EXE_faulty");
    let list = Command::new(faulty).arg("--list").output().expect("a list");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = list.lines().filter_map(|l| l.split(' ').next());
    let link = |fault: &str, tool: &str, to: &Path| {
        fs::create_dir_all(top.join(fault)).expect("a folder");
        symlink(to, top.join(fault).join(tool)).expect("a link");
    };
    let mut count = 0;
    let emulator = format!("qemu-system-{}", std::env::consts::ARCH);
    let mut lacks_emulator = false;
    for tool in [
        "qemu-img",
        "qemu-io",
        "qemu-nbd",
        "qemu-storage-daemon",
        "qemu-system",
    ] {
        let program = if tool == "qemu-system" {
            &emulator
        } else {
            tool
        };
        match which::which(program) {
            Ok(real) => link("real", tool, &real),
            Err(_) if tool == "qemu-system" => {
                eprintln!("{program} is not installed: its faults are not tried");
                lacks_emulator = true;
                continue;
            }
            Err(_) => {
                eprintln!("{tool} is not installed: no fault is tried");
                return;
            }
        }
        names.clone().for_each(|f| link(f, tool, Path::new(faulty)));
    }
    let of_emulator: Vec<&str> = list
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some("qemu-system"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    for name in names.filter(|n| *n != "none") {
        if lacks_emulator && of_emulator.contains(&name) {
            continue;
        }
        let expected = output(top, name, "none");
        assert_eq!(
            expected,
            output(top, name, "real"),
            "{name}: the control changes something"
        );
        assert_ne!(expected, output(top, name, name), "{name} changes nothing");
        count += 1;
    }
    assert!(count >= 12, "only {count} faults");
}
