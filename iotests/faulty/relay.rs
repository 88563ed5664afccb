//! A process between a test and a tool that talk with each other.
//!
//! The process that the test started becomes the real tool, so that signals, the
//! process id and the exit status are the tool's own; a child of it stands in
//! between. Its standard input and output are those that the test gave, and its
//! standard error is a socket to the tool's.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::call::{Call, streams_are_joined};
use crate::io::{Asked, Swap};
use crate::qmp;

/// The word that makes this program the one in between.
pub(crate) const RELAY: &str = "--relay";

/// What `qemu-io` prints before it reads a command.
const PROMPT: &[u8] = b"qemu-io> ";

/// Starts the process in between and becomes the real tool. Returns only where
/// that cannot be.
pub(crate) fn between(call: &Call, fault: &str) -> Result<ExitCode> {
    let (tools, relays) = UnixStream::pair().context("cannot make a socket")?;
    let itself = std::env::current_exe().context("cannot find this program")?;
    Command::new(itself)
        .args([RELAY, fault, &call.tool])
        .stderr(OwnedFd::from(relays))
        .spawn()
        .context("cannot start the process in between")?;
    let mut tool = call.command(&call.tool, &call.args);
    let tools = OwnedFd::from(tools);
    let share = || tools.try_clone().context("cannot share a socket");
    tool.stdin(share()?);
    if call.tool == "qemu-io" {
        tool.stdout(share()?);
        if streams_are_joined() {
            tool.stderr(Stdio::from(share()?));
        }
    }
    Err(tool.exec()).context("cannot run the real tool")
}

/// The socket that is this process's standard error: to the tool.
fn to_tool() -> Result<UnixStream> {
    Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// What goes from the test to the tool, a line at a time, in a thread of its own;
/// at its end the tool is told so.
fn forward(mut tool: UnixStream, mut change: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock();
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // A tool that has ended says so by its status.
            if tool.write_all(&change(&line)).is_err() {
                break;
            }
            line.clear();
        }
        let _ = tool.shutdown(Shutdown::Write);
    });
}

/// Which swaps are under way, by the number of the command.
type Swaps = Arc<Mutex<HashMap<usize, Swap>>>;

/// Stands between a test and `qemu-io`.
pub(crate) fn io(fault: fn(&Asked<'_>) -> Option<Swap>) -> Result<()> {
    let tool = to_tool()?;
    let swaps = Swaps::default();
    let noted = Arc::clone(&swaps);
    let (mut number, mut writes) = (0, 0);
    forward(tool.try_clone()?, move |line| {
        let text = String::from_utf8_lossy(line);
        let asked = Asked {
            words: text.split_whitespace().collect(),
            writes,
        };
        number += 1;
        let swap = fault(&asked);
        writes += usize::from(asked.writes_pattern());
        let Some(swap) = swap else {
            return line.to_vec();
        };
        let command = format!("{}\n", swap.command);
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(number, swap);
        command.into_bytes()
    });
    back(tool, |prompts, line| {
        let swaps = swaps.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(swap) = swaps.get(&prompts) else {
            return line.to_vec();
        };
        let line = String::from_utf8_lossy(line);
        // Only the first that fits: the next would change what this one said.
        let fits = swap.said.iter().find(|(is, _)| line.contains(is.as_str()));
        fits.map_or_else(|| line.to_string(), |(is, to)| line.replacen(is, to, 1))
            .into_bytes()
    })
}

/// What `qemu-io` says, a line or a prompt at a time: `change` is given how many
/// prompts came before.
fn back(mut tool: UnixStream, change: impl Fn(usize, &[u8]) -> Vec<u8>) -> Result<()> {
    let mut out = std::io::stdout();
    let mut held: Vec<u8> = Vec::new();
    let mut prompts = 0;
    let mut chunk = [0; 1 << 16];
    loop {
        // A tool that ends without having read everything resets the socket.
        let got = tool.read(&mut chunk).unwrap_or(0);
        held.extend(&chunk[..got]);
        loop {
            let end = if held.starts_with(PROMPT) {
                prompts += 1;
                PROMPT.len()
            } else if let Some(at) = held.iter().position(|b| *b == b'\n') {
                at + 1
            } else {
                break;
            };
            let piece: Vec<u8> = held.drain(..end).collect();
            out.write_all(&change(prompts, &piece))?;
        }
        if got == 0 {
            out.write_all(&held)?;
            return Ok(());
        }
        out.flush()?;
    }
}

/// Stands between a test and a monitor, which is standard input and both ways.
pub(crate) fn qmp(fault: qmp::Fault) -> Result<()> {
    let tool = to_tool()?;
    let test = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // Who made the socket may have been waiting on many things at once.
    test.set_nonblocking(false)?;
    let test = Arc::new(Mutex::new(test));
    let answers = Arc::clone(&test);
    let mut seen = qmp::Seen::new();
    forward(tool.try_clone()?, move |line| {
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            return line.to_vec();
        };
        qmp::watch(&message, &mut seen);
        match (fault.command)(&mut message, &seen) {
            qmp::Way::On => format!("{message}\n").into_bytes(),
            qmp::Way::Back => {
                tell(&answers, &json!({"return": {}, "id": message["id"]}));
                Vec::new()
            }
        }
    });
    for line in BufReader::new(tool).split(b'\n').map_while(Result::ok) {
        if let Ok(mut message) = serde_json::from_slice(&line) {
            (fault.said)(&mut message);
            tell(&test, &message);
        }
    }
    Ok(())
}

/// Sends a message to the test; one that has gone needs none.
fn tell(test: &Mutex<UnixStream>, message: &Value) {
    let mut test = test.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = test.write_all(format!("{message}\r\n").as_bytes());
}
