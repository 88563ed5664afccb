//! Single keys from a terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::sys::termios::{tcgetattr, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;

/// The byte that keys without a character of their own begin with.
const ESCAPE: u8 = 0x1b;

/// Reads keys of standard input, a terminal. Between two reads the terminal is as it was;
/// while one waits, its lines are not waited for and nothing is echoed. Whatever signal
/// ends or stops the program meanwhile, the terminal is put back first.
#[derive(Debug)]
pub struct Keys {
    before: Arc<Mutex<Option<Termios>>>,
    /// Whether another program has the terminal.
    lent: Arc<AtomicBool>,
    handle: Handle,
    /// Typed and not asked for yet.
    typed: VecDeque<u8>,
}

impl Keys {
    /// Reads from standard input.
    ///
    /// # Errors
    ///
    /// Signals cannot be handled.
    pub fn of_stdin() -> io::Result<Self> {
        let before = Arc::<Mutex<Option<Termios>>>::default();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
        let handle = signals.handle();
        let shared = Arc::clone(&before);
        let lent = Arc::<AtomicBool>::default();
        let is_lent = Arc::clone(&lent);
        thread::Builder::new().name("keys".into()).spawn(move || {
            for signal in signals.forever() {
                // Its keys are for the program that has it.
                if is_lent.load(Ordering::SeqCst) && matches!(signal, SIGINT | SIGQUIT) {
                    continue;
                }
                let before = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if signal != SIGCONT {
                    restore(before.as_ref());
                    // Of SIGTSTP it comes back when the program goes on.
                    let _ = emulate_default_handler(signal);
                }
                if let Some(before) = before.as_ref() {
                    let _ = set(SetArg::TCSANOW, &by_key(before.clone()));
                }
            }
        })?;
        Ok(Self {
            before,
            lent,
            handle,
            typed: VecDeque::new(),
        })
    }

    /// The next key that has a character of ASCII; `None` at the end of the input. Cursor keys
    /// and the like are `?`.
    ///
    /// # Errors
    ///
    /// The terminal cannot be read.
    pub fn key(&mut self) -> io::Result<Option<char>> {
        if self.typed.is_empty() {
            let mut bytes = [0; 64];
            let len = self.read(&mut bytes)?;
            self.typed.extend(keys(&bytes[..len]));
        }
        Ok(self.typed.pop_front().map(char::from))
    }

    /// Lets another program have the terminal while `body` runs: what Ctrl-C ends is that.
    pub fn lend<T>(&self, body: impl FnOnce() -> T) -> T {
        self.lent.store(true, Ordering::SeqCst);
        let result = body();
        self.lent.store(false, Ordering::SeqCst);
        result
    }

    fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        *self.lock() = Some(before.clone());
        set(SetArg::TCSANOW, &by_key(before))?;
        let read = loop {
            match nix::unistd::read(stdin.as_fd(), bytes) {
                Err(Errno::EINTR) => {}
                read => break read,
            }
        };
        restore(self.lock().take().as_ref());
        Ok(read?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Termios>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// The keys in what one read gave.
fn keys(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [ESCAPE, ..] => vec![b'?'],
        // The end of the input, as far as a terminal has one.
        [4, ..] => Vec::new(),
        bytes => bytes.iter().copied().filter(u8::is_ascii).collect(),
    }
}

/// Settings under which each key is read as it is typed; the keys of signals stay what they
/// are.
fn by_key(mut settings: Termios) -> Termios {
    settings
        .local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO);
    settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    settings
}

fn set(when: SetArg, settings: &Termios) -> io::Result<()> {
    Ok(tcsetattr(io::stdin().as_fd(), when, settings)?)
}

/// Puts the terminal back; one that is gone needs nothing.
fn restore(before: Option<&Termios>) {
    if let Some(before) = before {
        let _ = set(SetArg::TCSADRAIN, before);
    }
}

#[cfg(test)]
mod tests {
    use super::keys;

    #[test]
    fn keys_are_told_from_sequences() {
        assert_eq!(keys(b"as"), b"as");
        assert_eq!(keys(b"\x1b[A"), b"?");
        assert_eq!(keys(b"\x04"), b"");
        assert_eq!(keys("äq".as_bytes()), b"q");
    }
}
