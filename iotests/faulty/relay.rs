//! A relay process between a test and a tool that exchange messages.
//!
//! The process that the test started becomes the real tool, so that signals, the
//! process id and the exit status are the tool's own; its child is the relay. The relay's standard input and output are those that
//! the test gave, and its standard error is a socket to the tool's.

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
use crate::io::{IoCommand, Replacement};
use crate::qmp;

/// The argument that makes this program the relay.
pub(crate) const RELAY: &str = "--relay";

/// What `qemu-io` prints before it reads a command.
const PROMPT: &[u8] = b"qemu-io> ";

/// Starts the relay and becomes the real tool. Returns only on an error.
pub(crate) fn start(call: &Call, fault: &str) -> Result<ExitCode> {
    let (tools, relays) = UnixStream::pair().context("failed to make a socket")?;
    let itself = std::env::current_exe().context("failed to find this program")?;
    Command::new(itself)
        .args([RELAY, fault, &call.tool])
        .stderr(OwnedFd::from(relays))
        .spawn()
        .context("failed to start the relay")?;
    let mut tool = call.command(&call.tool, &call.args);
    let tools = OwnedFd::from(tools);
    let share = || tools.try_clone().context("failed to share a socket");
    tool.stdin(share()?);
    if call.tool == "qemu-io" {
        tool.stdout(share()?);
        if streams_are_joined() {
            tool.stderr(Stdio::from(share()?));
        }
    }
    Err(tool.exec()).context("failed to run the real tool")
}

/// The socket that is this process's standard error: to the tool.
fn to_tool() -> Result<UnixStream> {
    Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// What goes from the test to the tool, a line at a time, in a thread of its own;
/// at its end the socket is shut down.
fn relay_input(mut tool: UnixStream, mut change: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock();
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // The status of a tool that has ended is seen by the test.
            if tool.write_all(&change(&line)).is_err() {
                break;
            }
            line.clear();
        }
        let _ = tool.shutdown(Shutdown::Write);
    });
}

/// The replacements in effect, by the number of the command.
type Replacements = Arc<Mutex<HashMap<usize, Replacement>>>;

/// Relays between a test and `qemu-io`.
pub(crate) fn io(fault: fn(&IoCommand<'_>) -> Option<Replacement>) -> Result<()> {
    let tool = to_tool()?;
    let replacements = Replacements::default();
    let added = Arc::clone(&replacements);
    let (mut number, mut writes) = (0, 0);
    relay_input(tool.try_clone()?, move |line| {
        let text = String::from_utf8_lossy(line);
        let io_command = IoCommand {
            words: text.split_whitespace().collect(),
            writes,
        };
        number += 1;
        let replacement = fault(&io_command);
        writes += usize::from(io_command.writes_pattern());
        let Some(replacement) = replacement else {
            return line.to_vec();
        };
        let command = format!("{}\n", replacement.command);
        let mut added = added.lock().unwrap_or_else(PoisonError::into_inner);
        added.insert(number, replacement);
        command.into_bytes()
    });
    relay_output(tool, |prompts, line| {
        let replacements = replacements.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(replacement) = replacements.get(&prompts) else {
            return line.to_vec();
        };
        let line = String::from_utf8_lossy(line);
        // Only the first that fits: the next could change what this one put in.
        let fits = replacement
            .output
            .iter()
            .find(|(is, _)| line.contains(is.as_str()));
        fits.map_or_else(|| line.to_string(), |(is, to)| line.replacen(is, to, 1))
            .into_bytes()
    })
}

/// Relays the output of `qemu-io`, a line or a prompt at a time: `change` gets how
/// many prompts came before.
fn relay_output(mut tool: UnixStream, change: impl Fn(usize, &[u8]) -> Vec<u8>) -> Result<()> {
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

/// Relays between a test and a monitor, whose socket is standard input.
pub(crate) fn qmp(fault: qmp::Fault) -> Result<()> {
    let tool = to_tool()?;
    let test = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // The test may have made the socket non-blocking.
    test.set_nonblocking(false)?;
    let test = Arc::new(Mutex::new(test));
    let answers = Arc::clone(&test);
    let mut seen = qmp::Seen::new();
    relay_input(tool.try_clone()?, move |line| {
        let Ok(mut message) = serde_json::from_slice::<Value>(line) else {
            return line.to_vec();
        };
        qmp::note_backing(&message, &mut seen);
        match (fault.command)(&mut message, &seen) {
            qmp::Route::Forward => format!("{message}\n").into_bytes(),
            qmp::Route::Answer => {
                send(&answers, &json!({"return": {}, "id": message["id"]}));
                Vec::new()
            }
        }
    });
    for line in BufReader::new(tool).split(b'\n').map_while(Result::ok) {
        if let Ok(mut message) = serde_json::from_slice(&line) {
            (fault.message)(&mut message);
            send(&test, &message);
        }
    }
    Ok(())
}

/// Sends a message to the test, if it still runs.
fn send(test: &Mutex<UnixStream>, message: &Value) {
    let mut test = test.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = test.write_all(format!("{message}\r\n").as_bytes());
}
