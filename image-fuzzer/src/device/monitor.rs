//! A connection to the monitor of an emulator: QMP, over which the human monitor is asked.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// A connection.
pub(super) struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Takes a connection up; answers take no longer than `patience`.
    ///
    /// # Errors
    ///
    /// The emulator does not answer.
    pub(super) fn new(socket: UnixStream, patience: Duration) -> io::Result<Self> {
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        let mut monitor = Self {
            reader: BufReader::new(socket),
        };
        monitor.run("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Gives a command and waits for what it returns; an error of the command is one, too.
    ///
    /// # Errors
    ///
    /// The emulator refuses it, ends, or does not answer in time.
    pub(super) fn run(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let line = json!({"execute": command, "arguments": arguments});
        self.reader
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let answer: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                let text = error["desc"].as_str().unwrap_or("an error").to_owned();
                return Err(io::Error::new(ErrorKind::InvalidInput, text));
            }
        }
    }

    /// Gives a command: of QMP, where it is an object, else a line of the human monitor. What the
    /// human monitor prints is what it refuses; whether the command was carried out.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], but for a command that the emulator refuses.
    pub(super) fn give(&mut self, command: &str) -> io::Result<bool> {
        let done = match serde_json::from_str::<Value>(command) {
            Ok(Value::Object(object)) => {
                let name = object.get("execute").and_then(Value::as_str);
                let none = json!({});
                let arguments = object.get("arguments").unwrap_or(&none);
                self.run(name.unwrap_or_default(), arguments).map(|_| true)
            }
            _ => self.human(command).map(|printed| printed.trim().is_empty()),
        };
        match done {
            Err(why) if why.kind() == ErrorKind::InvalidInput => Ok(false),
            other => other,
        }
    }

    /// Gives a line to the human monitor; what it prints.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub(super) fn human(&mut self, line: &str) -> io::Result<String> {
        let printed = self.run("human-monitor-command", &json!({"command-line": line}))?;
        Ok(printed.as_str().unwrap_or_default().replace('\r', ""))
    }
}
