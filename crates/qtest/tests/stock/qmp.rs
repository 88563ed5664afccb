//! Commands to the emulator while it runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

/// A place for the socket of QMP, for the emulator's arguments.
pub(crate) struct Qmp {
    dir: TempDir,
}

impl Qmp {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("qmp")
    }

    pub(crate) fn arguments(&self) -> [String; 2] {
        let path = self.path().display().to_string();
        ["-qmp".to_owned(), format!("unix:{path},server=on,wait=off")]
    }

    /// Carries one command out: `"block_resize", "arguments": {...}`.
    pub(crate) fn run(&self, command: &str) {
        let mut socket = UnixStream::connect(self.path()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        for command in ["\"qmp_capabilities\"", command] {
            writeln!(socket, "{{\"execute\": {command}}}").unwrap();
            let answer = lines
                .by_ref()
                .map(Result::unwrap)
                .find(|line| line.contains("\"return\"") || line.contains("\"error\""));
            let answer = answer.unwrap();
            assert!(answer.contains("\"return\""), "{command}: {answer}");
        }
    }

    /// Gives the disk another size, in bytes.
    pub(crate) fn resize(&self, size: u64) {
        self.run(&format!(
            "\"block_resize\", \"arguments\": {{\"node-name\": \"disk\", \"size\": {size}}}"
        ));
    }
}
