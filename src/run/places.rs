//! Where the tests of a run have their files, under names that every test can use.
//!
//! Tests put the names of their directories into command lines, option strings, URLs and JSON,
//! and goldens have words in the place of them. A directory whose name does not go through all
//! of these unchanged is given to the tests by the name of a symbolic link.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::dirs::{Names, SOCKET_NAME, SOCKET_PATH_MAX, fits};
use crate::model::Job;

/// Where a directory of the run's own is tried, in order, behind the system's.
const SHORT_ROOTS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The longest name of a `TEST_DIR` that tests are given, in bytes: a backing file name in an
/// image has at most 1023, the name of an extent in a descriptor of VMDK 511.
const NAME_MAX: usize = 200;

/// Words that stand for names of the run in command lines and goldens.
const WORDS: [&str; 3] = ["TEST_DIR", "SOCK_DIR", "IMGFMT"];

/// What the link to `TEST_DIR` is called.
const LINK: &str = "d";

/// What the directory is called in which tests keep what they have found out about the machine.
const FINDINGS: &str = "found";

/// The directories of a run. What was made for it goes when this is dropped.
#[derive(Debug)]
pub struct Places {
    sockets: PathBuf,
    /// A link to `TEST_DIR`, where tests cannot use its own name.
    link: Option<PathBuf>,
    /// The run's own directory; `None` where none can be made and none is needed.
    own: Option<TempDir>,
}

impl Places {
    /// Finds directories for `jobs`: for sockets the one `asked` for, where every job's socket
    /// paths fit in it and its name is plain, else a fresh short one; and makes a link to
    /// `test_dir` where tests need one.
    ///
    /// # Errors
    ///
    /// A directory that is needed cannot be made, or none is short enough for the longest name
    /// of a test.
    pub fn new(test_dir: &Path, asked: Option<&Path>, jobs: &[Job]) -> anyhow::Result<Self> {
        let names = Names::new(jobs);
        let longest = names.longest(jobs);
        let asked = match asked {
            Some(dir) => usable(dir, longest)?,
            None => None,
        };
        let real = test_dir
            .canonicalize()
            .with_context(|| format!("cannot use the directory {}", test_dir.display()))?;
        let wrong = unusable(&real);
        let own = match own_directory(longest) {
            Ok(own) => Some(own),
            Err(_) if asked.is_some() && wrong.is_none() => None,
            Err(_) if longest + SOCKET_NAME + "/tmp/ckXXXXX//".len() > SOCKET_PATH_MAX => {
                bail!(too_long(&names, longest, jobs));
            }
            Err(e) => {
                let what = match &wrong {
                    Some(wrong) if asked.is_some() => format!(
                        "tests cannot use the name of {}, which {wrong}, and there is no place for \
                         a link to it; set TEST_DIR to another directory",
                        real.display()
                    ),
                    _ => "cannot create a directory for sockets; set SOCK_DIR".to_owned(),
                };
                return Err(e).context(what);
            }
        };
        let link = match (&own, wrong) {
            (Some(own), Some(_)) => Some(link_to(&real, own.path())?),
            _ => None,
        };
        let sockets = asked.or_else(|| own.as_ref().map(|own| own.path().to_owned()));
        let sockets = sockets.context("there is no directory for sockets; set SOCK_DIR")?;
        Ok(Self { sockets, link, own })
    }

    /// `SOCK_DIR` of the run.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The link by which tests are given `TEST_DIR`, where they cannot use its own name.
    #[must_use]
    pub fn link(&self) -> Option<&Path> {
        self.link.as_deref()
    }

    /// The directory in which tests of the run keep what they have found out about the machine.
    #[must_use]
    pub fn findings(&self) -> Option<PathBuf> {
        Some(self.own.as_ref()?.path().join(FINDINGS))
    }

    /// The directory that was made for this run and has to go.
    #[must_use]
    pub fn to_remove(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.path().to_owned())
    }
}

/// The socket directory that was asked for, made where it is not there; `None` where sockets
/// do not fit in it or its name is not plain.
fn usable(dir: &Path, longest: usize) -> anyhow::Result<Option<PathBuf>> {
    if !fits(dir, longest) {
        return Ok(None);
    }
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot create the socket directory {}", dir.display()))?;
    let path = dir.canonicalize()?;
    Ok((fits(&path, longest) && unusable(&path).is_none()).then_some(path))
}

/// A fresh directory in which sockets of jobs with names of `longest` bytes fit.
fn own_directory(longest: usize) -> std::io::Result<TempDir> {
    let temp = std::env::temp_dir();
    let roots = [temp.as_path()]
        .into_iter()
        .chain(SHORT_ROOTS.iter().map(Path::new));
    let mut last = std::io::ErrorKind::NotFound.into();
    for root in roots {
        let made = root.canonicalize().and_then(|root| {
            tempfile::Builder::new()
                .prefix("ck")
                .rand_bytes(5)
                .tempdir_in(root)
        });
        match made {
            Ok(made) if fits(made.path(), longest) && unusable(made.path()).is_none() => {
                return Ok(made);
            }
            Ok(_) => {}
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn link_to(real: &Path, own: &Path) -> anyhow::Result<PathBuf> {
    let link = own.join(LINK);
    symlink(real, &link).with_context(|| format!("cannot make the link {}", link.display()))?;
    Ok(link)
}

fn too_long(names: &Names, longest: usize, jobs: &[Job]) -> String {
    let culprit = jobs.iter().max_by_key(|job| names.of(job, 0).len());
    format!(
        "the name of test {} ({longest} bytes) is too long for its sockets: no directory \
         leaves room for a socket path of at most {SOCKET_PATH_MAX} bytes; give the test a shorter name",
        culprit.map_or("", |job| &job.test.name)
    )
}

/// Why tests cannot use the name of a directory; `None` where they can.
fn unusable(dir: &Path) -> Option<String> {
    let bytes = dir.as_os_str().as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
    if let Some(other) = bytes.iter().find(|b| !plain(b)) {
        return Some(format!("has the character '{}'", other.escape_ascii()));
    }
    if bytes.len() > NAME_MAX {
        return Some(format!("has more than {NAME_MAX} bytes"));
    }
    let text = dir.to_string_lossy();
    let word = WORDS.iter().find(|word| text.contains(**word))?;
    Some(format!("has the word {word}"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::Arc;

    use super::*;
    use crate::model::JobId;
    use crate::report::sample;

    fn job(name: &str) -> Job {
        let mut test = sample::test("030");
        test.name = name.to_owned();
        Job {
            id: JobId(0),
            test: Arc::new(test),
            combo: Arc::new(sample::combo("qcow2")),
            repetition: 0,
            skip: None,
            known: None,
        }
    }

    #[test]
    fn a_long_or_unusual_socket_directory_gives_way_to_a_short_one() {
        let jobs = [job("030")];
        let temp = tempfile::tempdir().unwrap();
        for name in ["x".repeat(80).as_str(), "a b", "a,b"] {
            let unfit = temp.path().join(name);
            let places = Places::new(temp.path(), Some(&unfit), &jobs).unwrap();
            assert_eq!(Some(places.sockets()), places.to_remove().as_deref());
            let path = places.sockets().to_owned();
            drop(places);
            assert!(!path.exists());
        }
        let places = Places::new(temp.path(), Some(temp.path()), &jobs).unwrap();
        assert_eq!(places.sockets(), temp.path().canonicalize().unwrap());
        assert_eq!(places.link(), None);
    }

    #[test]
    fn a_name_no_directory_has_room_for_is_refused() {
        let error = Places::new(Path::new("/"), None, &[job(&"n".repeat(100))]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("shorter name"), "{error}");
    }

    #[test]
    fn tests_get_an_unusual_directory_by_a_link() {
        let temp = tempfile::tempdir().unwrap();
        for name in [
            &b"a b"[..],
            b"\xff\xfe",
            b"it's",
            b"a:b",
            b"TEST_DIR",
            &[b'x'; 220],
        ] {
            let dir = temp.path().join(OsStr::from_bytes(name));
            std::fs::create_dir(&dir).unwrap();
            let places = Places::new(&dir, None, &[]).unwrap();
            let link = places.link().unwrap().to_owned();
            assert_eq!(unusable(&link), None);
            assert_eq!(link.canonicalize().unwrap(), dir.canonicalize().unwrap());
            std::fs::write(dir.join("kept"), "").unwrap();
            drop(places);
            assert!(!link.exists() && dir.join("kept").exists());
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        let said = |name: &str| unusable(Path::new(name)).unwrap();
        assert_eq!(said("/tmp/a b"), "has the character ' '");
        assert_eq!(said("/tmp/a\nb"), "has the character '\\n'");
        assert_eq!(said("/IMGFMT.x"), "has the word IMGFMT");
        assert!(said(&format!("/{}", "x".repeat(200))).contains("more than 200"));
        assert_eq!(unusable(Path::new("/tmp/qcow2/t.qcow2")), None);
    }
}
