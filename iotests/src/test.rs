//! A test as its body sees it: its log, its names, its programs, its end.

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use rand::SeedableRng as _;

use crate::create::Builder;
use crate::ctx::Ctx;
use crate::daemon::Daemon;
use crate::env::Env;
use crate::filter;
use crate::image::Image;
use crate::io::{IoRun, Session};
use crate::probe::Probes;
use crate::protocol::{Server, Servers};
use crate::ssh::SshServer;
use crate::tool::{Run, Words};
use crate::wrap::Kind;

/// What a test's `run` is given: everything it can do.
///
/// All methods take `&self`, so that several things can run at once. Names in
/// command lines and in the log are the same: `TEST_DIR`, `SOCK_DIR`, `IMGFMT`
/// and images by their [`Display`](crate::image::Image) text, such as
/// `TEST_DIR/t.IMGFMT`; the library puts the real ones in.
pub struct Test {
    pub(crate) ctx: Rc<Ctx>,
    servers: Rc<Servers>,
}

impl Test {
    /// A test of this name in this environment; makes `TEST_DIR` and `SOCK_DIR`
    /// where they do not exist.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be made.
    pub fn new(name: &str, env: Env) -> Result<Self> {
        let ctx = Ctx::new(name, env)?;
        let servers = Rc::new(Servers::new(&ctx));
        Ok(Self { ctx, servers })
    }

    /// The environment.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.ctx.env
    }

    /// The image format under test, such as `qcow2`.
    #[must_use]
    pub fn format(&self) -> &str {
        &self.ctx.env.format
    }

    /// What the installed tools can do.
    #[must_use]
    pub fn probes(&self) -> &Probes {
        &self.ctx.probes
    }

    /// A file in `TEST_DIR` other than an image: `t.path("out.bin")`. In a command
    /// line it is `TEST_DIR/out.bin`.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.ctx.env.test_dir.join(name)
    }

    /// Logs a line.
    pub fn log(&self, line: impl AsRef<[u8]>) {
        self.ctx.log(line);
    }

    /// Logs a heading: an empty line and `=== text ===`.
    pub fn section(&self, text: impl Display) {
        self.ctx.log(format!("\n=== {text} ==="));
    }

    /// Logs a value as one line of JSON, keys in order, times hidden.
    pub fn log_json(&self, value: &serde_json::Value) {
        self.ctx
            .log(filter::json::line(&filter::json::scrub(value)));
    }

    /// From now on `real` is logged as `shown`.
    pub fn name(&self, real: impl AsRef<[u8]>, shown: impl AsRef<[u8]>) {
        self.ctx.name(real, shown);
    }

    /// Tells the runner, not the golden, that one case cannot run.
    ///
    /// # Errors
    ///
    /// Fails if the note cannot be written.
    pub fn case_not_run(&self, reason: impl Display) -> Result<()> {
        let path = self.path(format!("{}.casenotrun", self.ctx.name));
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("failed to write {}", path.display()))?;
        writeln!(file, "    [case not run] {reason}")
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// Random numbers that are the same in every run of this test, unless
    /// `IOTEST_SEED` is set.
    #[must_use]
    pub fn rng(&self) -> rand::rngs::StdRng {
        let seed = std::env::var("IOTEST_SEED").unwrap_or_else(|_| self.ctx.name.clone());
        let seed = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        rand::rngs::StdRng::seed_from_u64(seed)
    }

    /// Makes the test's main image, `TEST_DIR/t.IMGFMT`, of this size.
    pub fn create(&self, size: impl Display) -> Builder {
        self.image("t").size(size)
    }

    /// The main image with these options in place of `IMGOPTS`; not logged.
    pub fn create_quietly(&self, size: impl Display, options: &str) -> Builder {
        self.create(size).without_imgopts().options(options).quiet()
    }

    /// An image of this name, made when it is awaited.
    pub fn image(&self, name: &str) -> Builder {
        Builder::new(&self.servers, name)
    }

    /// `qemu-img`, with what format and protocol need put in.
    pub fn img(&self, line: impl Words) -> Run {
        Run::new(&self.ctx, Kind::Img, line)
    }

    /// Any of the programs, with names put in and nothing else.
    pub fn tool(&self, kind: Kind, line: impl Words) -> Run {
        Run::new(&self.ctx, kind, line)
    }

    /// `qemu-io` on an image: one process, these commands, each logged with
    /// its output.
    pub fn io<S: AsRef<str>>(
        &self,
        image: impl Display,
        commands: impl IntoIterator<Item = S>,
    ) -> IoRun {
        IoRun::new(&self.ctx, image.to_string(), commands)
    }

    /// `qemu-io` on an image, kept open for command after command.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started or does not open the image.
    pub async fn session(&self, image: impl Display) -> Result<Session> {
        Session::open(&self.ctx, &image.to_string(), &[]).await
    }

    /// As [`Test::session`], with more options, such as `-r`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started or does not open the image.
    pub async fn session_with(&self, image: impl Display, options: &[&str]) -> Result<Session> {
        Session::open(&self.ctx, &image.to_string(), options).await
    }

    /// Starts `qemu-storage-daemon` with these options beside the monitor.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub async fn qsd(&self, options: impl Words) -> Result<Daemon> {
        Daemon::storage(&self.ctx, &options.words()?, true).await
    }

    /// Starts the emulator with `QEMU_OPTIONS` and these beside the monitor. Its
    /// processors are stopped (`-S`): devices and block layer are there, and no
    /// guest runs, whatever the accelerator.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub async fn vm(&self, options: impl Words) -> Result<Daemon> {
        Daemon::machine(&self.ctx, &options.words()?).await
    }

    /// Starts a `qemu-nbd` for this test alone with these options, such as
    /// `-x name -r`, on a unix socket. Clients are served as soon as it
    /// is up. It ends when its last client has gone, unless `--persistent` is
    /// among the options; ask it to by [`Server::end`].
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started. Options that it does not accept show at its end.
    pub async fn nbd_server(&self, image: &Image, options: impl Words) -> Result<Server> {
        Server::export(&self.ctx, image, options.words()?)
    }

    /// The test's ssh server, started by the first call.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub async fn ssh_server(&self) -> Result<Rc<SshServer>> {
        self.servers.ssh().await
    }

    /// Ends everything the test started and removes the images it made. Where the
    /// test failed, the images are kept.
    ///
    /// # Errors
    ///
    /// Fails if a server did not exit with 0, or a daemon was not waited for.
    pub async fn finish(self, passed: bool) -> Result<()> {
        let running = self.ctx.running.take();
        let stopped = self.servers.stop().await;
        if passed {
            self.remove_images();
        }
        stopped?;
        if let Some(name) = running.first() {
            anyhow::bail!("{name} was never waited for: end it with `quit().await?`");
        }
        Ok(())
    }

    fn remove_images(&self) {
        for entry in self.ctx.images.take() {
            for file in entry.files {
                let _ = std::fs::remove_file(file);
            }
        }
    }
}
