//! Small suites to run `check` on.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program under test.
pub(crate) const CHECK: &str = env!("CARGO_BIN_EXE_check");

/// Variables of the caller that reach tests or change what is run.
const CALLERS: [&str; 40] = [
    "QEMU_PROG",
    "QEMU_IMG_PROG",
    "QEMU_IO_PROG",
    "QEMU_NBD_PROG",
    "QSD_PROG",
    "QEMU_IMG_OPTIONS",
    "QEMU_NBD_OPTIONS",
    "TEST_DIR",
    "SOCK_DIR",
    "SAMPLE_IMG_DIR",
    "PYTHON",
    "PYTHONPATH",
    "IMGOPTS",
    "MALLOC_PERTURB_",
    "GDB_OPTIONS",
    "VALGRIND_QEMU",
    "VALGRIND_OPTS",
    "PRINT_QEMU",
    "ASAN_OPTIONS",
    "UBSAN_OPTIONS",
    "TSAN_OPTIONS",
    "QEMU_TEST_IO_SKIP",
    "QEMU_IOTESTS_REGEN",
    "CI",
    "CARGO_TARGET_DIR",
    "NO_COLOR",
    "CI_NODE_INDEX",
    "CI_NODE_TOTAL",
    "CIRCLE_NODE_INDEX",
    "CIRCLE_NODE_TOTAL",
    "BUILDKITE_PARALLEL_JOB",
    "BUILDKITE_PARALLEL_JOB_COUNT",
    "TEST_SHARD_INDEX",
    "TEST_TOTAL_SHARDS",
    "TEST_SHARD_STATUS_FILE",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_ARRAY_TASK_STEP",
    "SLURM_ARRAY_TASK_COUNT",
];

/// A QEMU build root in a directory of its own: tools that do nothing, an
/// emulator that lists two machines, and an empty suite in QEMU's layout.
pub(crate) struct Suite {
    root: tempfile::TempDir,
}

impl Suite {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let suite = Self { root };
        for tool in [
            "qemu-img",
            "qemu-io",
            "qemu-nbd",
            "storage-daemon/qemu-storage-daemon",
        ] {
            script(&suite.root().join(tool), "");
        }
        let machines = "echo 'pc  PC (alias of pc-1)'\necho 'pc-1  PC (default)'\n";
        script(&suite.root().join("qemu-system-x86_64"), machines);
        std::fs::create_dir_all(suite.dir().join("tests")).expect("a directory");
        suite
    }

    /// The build root.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where the tests are, and where `check` is run.
    pub(crate) fn dir(&self) -> PathBuf {
        self.root().join("tests/qemu-iotests")
    }

    /// Adds a shell test; `body` follows its header.
    pub(crate) fn test(&self, name: &str, groups: &str, body: &str) -> &Self {
        let dir = self.dir();
        let numbered = name.bytes().all(|b| b.is_ascii_digit());
        let file = if numbered {
            dir.join(name)
        } else {
            dir.join("tests").join(name)
        };
        script(
            &file,
            &format!("# group: {groups}\n#\n# Tests {name}.\n#\n{body}"),
        );
        self
    }

    /// Writes a file beside the tests.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.dir().join(name), text).expect("a written file");
        self
    }

    /// Adds a test and a plain reference.
    pub(crate) fn pair(&self, name: &str, body: &str, reference: &str) -> &Self {
        self.test(name, "rw", body);
        self.file(&format!("{name}.out"), reference)
    }

    /// `check` in the suite's directory, arguments between blanks.
    pub(crate) fn check(&self, line: &str) -> Command {
        let mut command = bare(Path::new(CHECK));
        command
            .args(line.split_whitespace())
            .current_dir(self.dir());
        command
    }
}

/// A command without anything of the caller's that would reach a test.
pub(crate) fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in CALLERS {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Writes an executable shell script.
pub(crate) fn script(file: &Path, body: &str) {
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    std::fs::write(file, format!("#!/bin/sh\n{body}")).expect("a written script");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).expect("permissions");
}

/// What a command has said, and its exit status.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().expect("a program that runs");
    Said {
        status: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Said {
    /// Stdout, where all went well and nothing was complained about.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!(
            (self.status, self.err.as_str()),
            (Some(0), ""),
            "stdout: {}",
            self.out
        );
        self.out
    }

    /// Stderr, with this exit status.
    #[track_caller]
    pub(crate) fn failed(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}{}", self.out, self.err);
        self.err
    }
}
