//! The names of the directories of jobs, and whether sockets fit in them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use crate::model::{Combo, Job};
use crate::words;

/// The longest path that a Unix socket address holds, in bytes
/// (`sizeof(sun_path)` less the closing NUL).
pub const SOCKET_PATH_MAX: usize = 107;

/// What is left for the name a test gives its socket, in bytes.
pub(super) const SOCKET_NAME: usize = 40;

/// Whether sockets fit in a job's directory with a name of `name` bytes below
/// `root`.
pub(super) fn fits(root: &Path, name: usize) -> bool {
    root.as_os_str().as_bytes().len() + 1 + name + 1 + SOCKET_NAME <= SOCKET_PATH_MAX
}

/// Checks that the sockets of `jobs` fit below `root`.
///
/// # Errors
///
/// They do not.
pub(super) fn check_sock_dir(root: &Path, names: &Names, jobs: &[Job]) -> anyhow::Result<()> {
    let longest = names.longest(jobs);
    if !fits(root, longest) {
        bail!(
            "the socket directory {} is too long: a socket path holds {SOCKET_PATH_MAX} bytes; \
             set SOCK_DIR to a shorter one",
            root.display()
        );
    }
    Ok(())
}

/// Gives each job a directory name of its own: `FMT-PROTO-NAME`, and behind it
/// what else tells two jobs of the run apart.
#[derive(Debug)]
pub(super) struct Names {
    suffixes: BTreeMap<Arc<Combo>, String>,
}

impl Names {
    /// Looks at the combinations of `jobs`: a combination's suffix names what it
    /// does not share with the others of its format and protocol.
    pub(super) fn new(jobs: &[Job]) -> Self {
        let mut groups: BTreeMap<(&str, &str), BTreeSet<&Arc<Combo>>> = BTreeMap::new();
        for job in jobs {
            let key = (job.combo.format.as_str(), job.combo.protocol.as_str());
            groups.entry(key).or_default().insert(&job.combo);
        }
        let mut suffixes = BTreeMap::new();
        for combos in groups.values() {
            let differ = |field: fn(&Combo) -> &str| {
                let values: BTreeSet<&str> = combos.iter().map(|c| field(c)).collect();
                values.len() > 1
            };
            let cache = differ(|c| &c.cache);
            let aio = differ(|c| &c.aio);
            let builds = builds(combos);
            let options: Vec<&str> = combos
                .iter()
                .map(|c| c.options.as_str())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            for &combo in combos {
                let mut suffix = String::new();
                if cache {
                    suffix = format!("-{}", combo.cache);
                }
                if aio {
                    suffix = format!("{suffix}-{}", combo.aio);
                }
                if options.len() > 1 {
                    // Options can be long and hold any character.
                    let n = options.iter().position(|o| *o == combo.options);
                    suffix = format!("{suffix}-o{}", n.unwrap_or(0));
                }
                if let Some(build) = builds.get(combo.qemu.as_str()) {
                    suffix = format!("{suffix}-{build}");
                }
                suffixes.insert(Arc::clone(combo), suffix);
            }
        }
        Self { suffixes }
    }

    /// The directory name of a job's try; the first try is 0.
    pub(super) fn of(&self, job: &Job, attempt: u32) -> String {
        let combo = &job.combo;
        let suffix = self.suffixes.get(combo).map_or("", String::as_str);
        let mut name = format!(
            "{}-{}-{}{suffix}",
            combo.format, combo.protocol, job.test.name
        );
        if job.repetition > 0 {
            name = format!("{name}-r{}", job.repetition);
        }
        if attempt > 0 {
            name = format!("{name}-t{attempt}");
        }
        name
    }

    /// The length of the longest name, in bytes, some room for tries included.
    pub(super) fn longest(&self, jobs: &[Job]) -> usize {
        jobs.iter()
            .map(|job| self.of(job, 0).len() + "-t99".len())
            .max()
            .unwrap_or(0)
    }
}

/// Builds of QEMU by their folders, where there are several: the names of the folders, where
/// those are short and all of them differ, else numbers.
fn builds<'a>(combos: &BTreeSet<&'a Arc<Combo>>) -> BTreeMap<&'a str, String> {
    /// Of a name; sockets have short paths.
    const LONGEST: usize = 20;
    let folders: BTreeSet<&str> = combos.iter().map(|c| c.qemu.as_str()).collect();
    if folders.len() < 2 {
        return BTreeMap::new();
    }
    let names: BTreeSet<&str> = folders.iter().map(|f| words::folder_name(f)).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let usable = |name: &&str| (1..=LONGEST).contains(&name.len()) && name.chars().all(plain);
    let by_name = names.len() == folders.len() && names.iter().all(usable);
    let name = |(n, folder): (usize, &str)| match by_name {
        true => words::folder_name(folder).to_owned(),
        false => format!("q{n}"),
    };
    let all = folders.iter().enumerate();
    all.map(|(n, folder)| (*folder, name((n, folder))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::JobId;
    use crate::report::sample;

    fn job(combo: Combo) -> Job {
        Job {
            id: JobId(0),
            test: Arc::new(sample::test("030")),
            combo: Arc::new(combo),
            repetition: 0,
            skip: None,
            known: None,
        }
    }

    #[test]
    fn a_single_combination_gives_the_plain_name() {
        let jobs = [job(sample::combo("qcow2"))];
        let names = Names::new(&jobs);
        assert_eq!(names.of(&jobs[0], 0), "qcow2-file-030");
        assert_eq!(names.of(&jobs[0], 2), "qcow2-file-030-t2");
        let mut again = jobs[0].clone();
        again.repetition = 3;
        assert_eq!(names.of(&again, 0), "qcow2-file-030-r3");
    }

    #[test]
    fn combinations_of_one_format_are_told_apart() {
        let mut cached = sample::combo("qcow2");
        cached.cache = "none".into();
        let mut with_options = sample::combo("qcow2");
        with_options.options = "compat=0.10".into();
        let jobs = [
            job(sample::combo("qcow2")),
            job(cached),
            job(with_options),
            job(sample::combo("raw")),
        ];
        let names = Names::new(&jobs);
        let all: BTreeSet<String> = jobs.iter().map(|j| names.of(j, 0)).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all.contains("raw-file-030"));
        assert!(all.contains("qcow2-file-030-none-o0"), "{all:?}");
    }

    #[test]
    fn builds_of_qemu_have_the_names_of_their_folders() {
        let named = |folders: [&str; 2]| {
            let jobs = folders.map(|folder| {
                job(Combo {
                    qemu: folder.into(),
                    ..sample::combo("qcow2")
                })
            });
            let names = Names::new(&jobs);
            jobs.map(|job| names.of(&job, 0)).join(" ")
        };
        let long = named(["/opt/qemu-7.2", "/q/sid/build"]);
        assert_eq!(long, "qcow2-file-030-q0 qcow2-file-030-q1");
        let short = named(["/opt/qemu-7.2", "/q/sid"]);
        assert_eq!(short, "qcow2-file-030-qemu-7.2 qcow2-file-030-sid");
    }

    #[test]
    fn sockets_do_not_fit_in_a_long_directory() {
        let jobs = [job(sample::combo("qcow2"))];
        let long = Path::new("/tmp").join("x".repeat(80));
        let error = check_sock_dir(&long, &Names::new(&jobs), &jobs).unwrap_err();
        assert!(error.to_string().contains("set SOCK_DIR"), "{error}");
        assert!(check_sock_dir(Path::new("/tmp"), &Names::new(&jobs), &jobs).is_ok());
    }
}
