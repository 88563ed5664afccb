//! Stock emulators for the tests, with a machine of the graph.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qtest::block::Disk;
use qtest::graph::{Emulator, Path};
use qtest::{Client, Guest, firmware};
use tempfile::TempDir;

const PROGRAM: &str = "qemu-system-x86_64";

/// What the emulator here has; nothing where there is none.
pub(crate) fn emulator() -> Option<Emulator> {
    let help = |option: &str| {
        let output = Command::new(PROGRAM).args([option, "help"]).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    Some(Emulator::from_help(&help("-M")?, &help("-device")?))
}

/// An emulator that runs; it is ended when this is dropped.
pub(crate) struct Machine {
    child: Child,
    pub(crate) guest: Guest,
    pub(crate) dir: TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Machine {
    /// Starts an emulator with these arguments and `disk.raw` of `size` bytes as the node
    /// `disk`.
    pub(crate) fn with(arguments: &[String], size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::File::create(at("disk.raw"))
            .and_then(|file| file.set_len(size))
            .unwrap();
        fs::write(at("firmware"), firmware::halt()).unwrap();
        let listener = UnixListener::bind(at("qtest")).unwrap();
        let child = Command::new(PROGRAM)
            .args(firmware::arguments(&at("firmware")))
            .args(["-accel", "tcg", "-qtest-log", "/dev/null"])
            .args(["-qtest", &format!("unix:{}", at("qtest"))])
            // What the host's disk is busy with is no matter of the devices, so that flushes end
            // at the image's file.
            .args([
                "-blockdev",
                &format!(
                    "raw,node-name=disk,discard=unmap,cache.no-flush=on,file.driver=file,file.filename={}",
                    at("disk.raw")
                ),
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("stderr")).unwrap())
            .spawn()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut machine = (child, None);
        let socket = loop {
            match listener.accept() {
                Ok((socket, _)) => break socket,
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
            if let Ok(Some(status)) = machine.0.try_wait() {
                machine.1 = Some(status);
                panic!("{status}: {}", fs::read_to_string(at("stderr")).unwrap());
            }
        };
        let client = Client::over_socket(socket, Duration::from_secs(60)).unwrap();
        Self {
            child: machine.0,
            guest: Guest::new(client, firmware::RAM),
            dir,
        }
    }

    /// Starts the machine of a path.
    pub(crate) fn of(path: &Path, size: u64) -> Self {
        Self::with(&path.arguments("disk", ""), size)
    }

    /// The bytes of the image, as they are now.
    pub(crate) fn image(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("disk.raw")).unwrap()
    }

    /// The disk of a path.
    pub(crate) fn disk(&mut self, path: &Path) -> Box<dyn Disk> {
        path.open(&mut self.guest).unwrap()
    }
}
