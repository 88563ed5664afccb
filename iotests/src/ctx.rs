//! What everything in a test has in common: environment, log, names.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::env::Env;
use crate::filter::Filter;
use crate::image::Entry;
use crate::probe::Probes;
use crate::wrap::{self, Kind};

/// What everything a test makes has in common.
pub(crate) struct Ctx {
    pub(crate) env: Env,
    pub(crate) name: String,
    pub(crate) filter: RefCell<Filter>,
    pub(crate) probes: Probes,
    pub(crate) images: RefCell<Vec<Entry>>,
    /// How many processes with a monitor there were.
    pub(crate) daemons: Cell<usize>,
    /// The daemons that have not been waited for, by name.
    pub(crate) running: RefCell<Vec<String>>,
    /// What is logged while it is kept back.
    captured: RefCell<Option<Vec<u8>>>,
}

impl Ctx {
    /// Makes `TEST_DIR` and `SOCK_DIR` where they do not exist.
    pub(crate) fn new(name: &str, env: Env) -> Result<Rc<Self>> {
        for dir in [&env.test_dir, &env.sock_dir] {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("failed to make {}", dir.display()))?;
        }
        let mut filter = Filter::new(&env.format);
        filter.name(env.test_dir.as_os_str().as_encoded_bytes(), "TEST_DIR");
        if env.sock_dir != env.test_dir {
            filter.name(env.sock_dir.as_os_str().as_encoded_bytes(), "SOCK_DIR");
        }
        for kind in [Kind::Img, Kind::Io, Kind::Nbd, Kind::Qsd, Kind::Vm] {
            if let Ok(program) = wrap::program(&env, kind) {
                filter.name(program.as_os_str().as_encoded_bytes(), kind.name());
                // The start of an error message: the program's own name.
                if let Some(file) = program.file_name().and_then(|f| f.to_str())
                    && file != kind.name()
                {
                    filter.name(file, kind.name());
                }
            }
        }
        Ok(Rc::new(Self {
            env,
            name: name.to_owned(),
            filter: RefCell::new(filter),
            probes: Probes::default(),
            images: RefCell::default(),
            daemons: Cell::new(0),
            running: RefCell::default(),
            captured: RefCell::default(),
        }))
    }

    /// Logs text and an end of line, filtered.
    pub(crate) fn log(&self, text: impl AsRef<[u8]>) {
        let mut text = self.filter.borrow().text(text.as_ref());
        text.push(b'\n');
        self.write(&text);
    }

    /// Logs a program's output, filtered; a missing last end of line is added.
    pub(crate) fn log_output(&self, text: &[u8]) {
        let mut text = self.filter.borrow().text(text);
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        self.write(&text);
    }

    fn write(&self, text: &[u8]) {
        match self.captured.borrow_mut().as_mut() {
            Some(captured) => captured.extend(text),
            None => write_out(text),
        }
    }

    /// Keeps back what is logged from now on.
    pub(crate) fn start_capture(&self) {
        *self.captured.borrow_mut() = Some(Vec::new());
    }

    /// What was kept back; from now on lines are logged again.
    pub(crate) fn end_capture(&self) -> Vec<u8> {
        self.captured.borrow_mut().take().unwrap_or_default()
    }

    /// From now on `real` is logged as `shown`.
    pub(crate) fn name(&self, real: impl AsRef<[u8]>, shown: impl AsRef<[u8]>) {
        self.filter.borrow_mut().name(real, shown);
    }

    /// The daemon `name` has been waited for.
    pub(crate) fn has_ended(&self, name: &str) {
        self.running.borrow_mut().retain(|n| n != name);
    }

    /// Waits for `what`, but no longer than `limit` unless timeouts are lifted.
    pub(crate) async fn bounded<F: Future>(&self, limit: Duration, what: F) -> Option<F::Output> {
        if self.env.no_timeouts() {
            Some(what.await)
        } else {
            tokio::time::timeout(limit, what).await.ok()
        }
    }
}

/// Standard output is the golden. Where it is closed nobody reads it.
fn write_out(text: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text);
    let _ = out.flush();
}
