//! An image tool with one fault: runs the real tool and does one thing wrong.
//!
//! It is started by links `DIR/FAULT/TOOL`, and finds the real tools as
//! `DIR/real/TOOL`, so that it does not depend on environment variables. The fault
//! `none` changes nothing, but takes the same paths as faults.
//!
//! `faulty --list` prints the faults, a line each: name, tool, what it does.

mod call;
mod img;
mod io;
mod qmp;
mod relay;
mod vm;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use call::Call;

/// What the emulator's link is called, whatever machine it is for.
const EMULATOR: &str = "qemu-system";

/// What a fault does, by where it is placed between test and tool.
#[derive(Clone, Copy)]
enum Act {
    /// Runs one subcommand of `qemu-img` differently; an empty name is all of them.
    Img(&'static str, fn(&Call) -> Result<ExitCode>),
    /// Gives `qemu-io` another command.
    Io(fn(&io::IoCommand<'_>) -> Option<io::Replacement>),
    /// Changes messages between a monitor and its client.
    Qmp(qmp::Fault),
    /// Drops a word from the command line of `qemu-nbd`.
    Nbd(fn(&str) -> bool),
    /// Changes a word of the command line of the emulator.
    Vm(fn(&str) -> String),
    /// Nothing.
    Nothing,
}

/// One fault.
struct Fault {
    name: &'static str,
    what: &'static str,
    act: Act,
}

const fn fault(name: &'static str, what: &'static str, act: Act) -> Fault {
    Fault { name, what, act }
}

/// All faults.
#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    fault("write-lost", "the second write of a process is not done", Act::Io(io::lose_second_write)),
    fault("write-misplaced", "the first write of a process goes 512 bytes too far", Act::Io(io::misplace_first_write)),
    fault("zero-lost", "write -z changes nothing", Act::Io(io::lose_zeroes)),
    fault("discard-lost", "discard does nothing", Act::Io(io::lose_discards)),
    fault("create-short", "a new image is 512 bytes too small", Act::Img("create", img::create_short)),
    fault("resize-short", "a resized image is 512 bytes too small", Act::Img("resize", img::resize_short)),
    fault("convert-truncated", "the last 64 KiB of a converted image are zeroes", Act::Img("convert", img::convert_truncated)),
    fault("convert-uncompressed", "convert -c does not compress", Act::Img("convert", img::convert_uncompressed)),
    fault("commit-lost", "commit does nothing", Act::Img("commit", call::without_effect)),
    fault("rebase-unsafe", "rebase changes the name and copies nothing", Act::Img("rebase", img::rebase_unsafe)),
    fault("apply-lost", "snapshot -a does nothing", Act::Img("snapshot", |c| img::without_effect_of(c, &["-a"]))),
    fault("delete-lost", "snapshot -d does nothing", Act::Img("snapshot", |c| img::without_effect_of(c, &["-d"]))),
    fault("bitmap-stale", "bitmap --clear and --merge do nothing", Act::Img("bitmap", |c| img::without_effect_of(c, &["--clear", "--merge"]))),
    fault("amend-lost", "amend does nothing", Act::Img("amend", call::without_effect)),
    fault("check-clean", "check finds no errors", Act::Img("check", img::check_clean)),
    fault("repair-lost", "check -r reports repairs that it does not do", Act::Img("check", |c| img::without_effect_of(c, &["-r"]))),
    fault("compare-equal", "compare reports any two images as identical", Act::Img("compare", img::compare_equal)),
    fault("map-all-data", "map reports everything as data", Act::Img("map", img::map_all_data)),
    fault("info-short", "info reports a size 512 bytes too small", Act::Img("info", img::info_short)),
    fault("measure-little", "measure reports 64 KiB too few", Act::Img("measure", img::measure_little)),
    fault("error-succeeds", "errors exit with 0", Act::Img("", img::error_succeeds)),
    fault("success-fails", "convert exits with 1 after success", Act::Img("convert", img::success_fails)),
    fault("stream-empty", "a stream job completes and has copied nothing", Act::Qmp(qmp::STREAM_EMPTY)),
    fault("mirror-empty", "a mirror job is ready and has copied nothing", Act::Qmp(qmp::MIRROR_EMPTY)),
    fault("job-error-hidden", "a job that failed is reported as completed", Act::Qmp(qmp::JOB_ERROR_HIDDEN)),
    fault("qmp-error-succeeds", "a QMP command that failed is answered as a success", Act::Qmp(qmp::ERROR_SUCCEEDS)),
    fault("qmp-bitmap-stale", "a node's bitmaps are not cleared and not merged", Act::Qmp(qmp::BITMAP_STALE)),
    fault("nbd-writable", "qemu-nbd -r exports for writing too", Act::Nbd(|word| word == "-r" || word == "--read-only")),
    fault("flush-lost", "a flush of the emulator is reported and not done", Act::Vm(vm::lose_flushes)),
    fault("none", "nothing: the control", Act::Nothing),
];

impl Act {
    fn tool(self) -> &'static str {
        match self {
            Self::Img(..) => "qemu-img",
            Self::Io(_) => "qemu-io",
            Self::Qmp(_) => "qemu-storage-daemon",
            Self::Nbd(_) => "qemu-nbd",
            Self::Vm(_) => EMULATOR,
            Self::Nothing => "all",
        }
    }
}

fn find(name: &str) -> Result<&'static Fault> {
    let found = FAULTS.iter().find(|f| f.name == name);
    found.with_context(|| format!("there is no fault '{name}'; `faulty --list` lists them"))
}

/// Runs a tool with a fault.
fn run_tool(act: Act, fault: &str, call: &Call) -> Result<ExitCode> {
    match (act, call.tool.as_str()) {
        (Act::Img(command, run), "qemu-img")
            if command.is_empty() || call.args.first().is_some_and(|a| a == command) =>
        {
            run(call)
        }
        (Act::Nbd(dropped), "qemu-nbd") => {
            let kept = call.args.iter().filter(|a| !dropped(a)).cloned();
            Err(call.exec(&kept.collect::<Vec<_>>()))
        }
        (Act::Vm(change), EMULATOR) => {
            let changed: Vec<String> = call.args.iter().map(|a| change(a)).collect();
            Err(call.exec(&changed))
        }
        (Act::Io(_) | Act::Nothing, "qemu-io") if call.reads_commands() => {
            relay::start(call, fault)
        }
        (Act::Qmp(_) | Act::Nothing, "qemu-storage-daemon") if call.has_monitor() => {
            relay::start(call, fault)
        }
        _ => Err(call.exec(&call.args)),
    }
}

fn run() -> Result<ExitCode> {
    let mut words = std::env::args();
    let zero = words.next().unwrap_or_default();
    let args: Vec<String> = words.collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            for f in FAULTS {
                println!("{} {} {}", f.name, f.act.tool(), f.what);
            }
            return Ok(ExitCode::SUCCESS);
        }
        [relay::RELAY, name, tool] => {
            match (find(name)?.act, tool) {
                (Act::Io(swap), _) => relay::io(swap)?,
                (Act::Qmp(fault), _) => relay::qmp(fault)?,
                (Act::Nothing, "qemu-io") => relay::io(|_| None)?,
                (Act::Nothing, _) => relay::qmp(qmp::NONE)?,
                (Act::Img(..) | Act::Nbd(_) | Act::Vm(_), _) => bail!("{name} needs no relay"),
            }
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let call = Call::new(Path::new(&zero), args)?;
    let fault = find(&call.fault)?;
    run_tool(fault.act, fault.name, &call)
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("faulty: {error:#}");
            // Not a status of an image tool, so that no test expects it.
            ExitCode::from(125)
        }
    }
}
