//! A report file that is rewritten in one piece while the run goes on: by a thread
//! of its own, so that the last result is in the file soon after it came, even when
//! nothing else happens for long.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a file is made from.
pub(super) trait Document: Send + 'static {
    /// Writes the whole file.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// The file is rewritten at most once in this time, and at most a twentieth of the
/// time is spent on it.
const PACE: Duration = Duration::from_secs(1);

/// A document and the file that follows it.
pub(super) struct LiveFile<D: Document> {
    shared: Arc<Shared<D>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<D> {
    path: PathBuf,
    /// Whether the file is a pipe or a terminal, to which nothing can be written anew: it is
    /// written once, in the end.
    once: bool,
    state: Mutex<State<D>>,
    changed: Condvar,
}

struct State<D> {
    document: D,
    dirty: bool,
    closing: bool,
    trouble: Option<io::Error>,
}

impl<D: Document> LiveFile<D> {
    /// Writes the document as it is and follows its changes from then on.
    pub(super) fn create(path: &Path, document: D) -> io::Result<Self> {
        let once = path.metadata().is_ok_and(|meta| !meta.is_file());
        if !once {
            atomic_write::write(path, |out| document.write(out))?;
        }
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            once,
            state: Mutex::new(State {
                document,
                dirty: once,
                closing: false,
                trouble: None,
            }),
            changed: Condvar::new(),
        });
        let follower = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("report".to_owned())
            .spawn(move || follower.follow())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Changes the document; the file follows within a second or so.
    pub(super) fn change(&self, change: impl FnOnce(&mut D)) {
        let mut state = self.shared.lock();
        change(&mut state.document);
        state.dirty = true;
        self.shared.changed.notify_one();
    }

    /// Writes the file for the last time.
    pub(super) fn close(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported where it happened.
            let _ = thread.join();
        }
    }

    /// The first thing that went wrong, as a line; `what` names the file's kind.
    pub(super) fn trouble(&self, what: &str) -> Option<String> {
        let trouble = self.shared.lock().trouble.take()?;
        let path = self.shared.path.display();
        Some(format!("cannot write the {what} {path}: {trouble}"))
    }
}

impl<D: Document> Drop for LiveFile<D> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<D: Document> Shared<D> {
    /// The state; a panic elsewhere while it was held leaves a document that can
    /// still be written.
    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self) {
        let mut due = Instant::now();
        let mut state = self.lock();
        loop {
            let idle = |s: &mut State<D>| !s.closing && (self.once || !s.dirty);
            state = self
                .changed
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner);
            let wait = due.saturating_duration_since(Instant::now());
            (state, _) = self
                .changed
                .wait_timeout_while(state, wait, |s| !s.closing)
                .unwrap_or_else(PoisonError::into_inner);
            let closing = state.closing;
            if state.dirty {
                let start = Instant::now();
                state.dirty = false;
                let mut bytes = Vec::new();
                let mut result = state.document.write(&mut bytes);
                drop(state);
                if result.is_ok() {
                    result = atomic_write::write(&self.path, |out| out.write_all(&bytes));
                }
                due = Instant::now() + (20 * start.elapsed()).max(PACE);
                state = self.lock();
                if let Err(e) = result {
                    state.trouble.get_or_insert(e);
                }
            }
            if closing {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text(String);

    impl Document for Text {
        fn write(&self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(self.0.as_bytes())
        }
    }

    #[test]
    fn the_file_follows_without_further_events_and_is_whole_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut file = LiveFile::create(&path, Text("a".into())).unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(read(), "a");
        for more in ["b", "c"] {
            file.change(|text| text.0.push_str(more));
        }
        while read() != "abc" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        file.change(|text| text.0.push('d'));
        file.close();
        assert_eq!(read(), "abcd");
        assert_eq!(file.trouble("text file"), None);
    }

    /// A pipe once had one document behind the other.
    #[test]
    fn a_pipe_is_written_to_once() {
        use nix::sys::stat::Mode;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read_to_string(path).unwrap()
        });
        let mut file = LiveFile::create(&path, Text("a".into())).unwrap();
        file.change(|text| text.0.push('b'));
        file.change(|text| text.0.push('c'));
        file.close();
        assert_eq!(reader.join().unwrap(), "abc");
    }

    #[test]
    fn trouble_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        let mut file = LiveFile::create(&sub.join("x"), Text("a".into())).unwrap();
        std::fs::remove_dir_all(&sub).unwrap();
        file.change(|text| text.0.push('b'));
        file.close();
        let said = file.trouble("text file").unwrap();
        assert!(said.starts_with("cannot write the text file "), "{said}");
        assert_eq!(file.trouble("text file"), None);
    }
}
