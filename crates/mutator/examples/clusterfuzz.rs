//! A black-box fuzzer for ClusterFuzz, called as its launcher calls it:
//! `run --input_dir DIR --output_dir DIR --no_of_files N`. `scripts/clusterfuzz-bundle` packs it.
//!
//! Writes `fuzz-N`, images of which nearly all are mutated, made from those in the input
//! folder and from new ones; and `flags-N` with the arguments for it, where the file `flags`
//! beside this program has a line with `{format}`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use image_mutator::{Format, Mutator, Options, repaired, seeds};

/// Longer files of the input folder are left alone, and no longer one is written.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// The most files of the input folder that are held at a time.
const MAX_INPUTS: usize = 64;

/// The arguments.
struct Args {
    input_dir: PathBuf,
    output_dir: PathBuf,
    count: u64,
    seed: u64,
}

impl Args {
    /// Reads `--name value` and `--name=value`.
    fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, words.next()),
            };
            let known = ["--input_dir", "--output_dir", "--no_of_files", "--seed"];
            if !known.contains(&name.as_str()) {
                return Err(format!(
                    "unknown option '{name}'; known are {}",
                    known.join(", ")
                ));
            }
            let value = value.ok_or_else(|| format!("{name} needs a value"))?;
            values.insert(name, value);
        }
        let mut take = |name: &str| values.remove(name);
        let number = |name: &str, text: String| {
            let wrong = |_| format!("{name}: '{text}' is not a number");
            text.parse::<u64>().map_err(wrong)
        };
        let missing = |name: &str| format!("{name} is missing");
        Ok(Self {
            input_dir: take("--input_dir")
                .ok_or_else(|| missing("--input_dir"))?
                .into(),
            output_dir: take("--output_dir")
                .ok_or_else(|| missing("--output_dir"))?
                .into(),
            count: number(
                "--no_of_files",
                take("--no_of_files").ok_or_else(|| missing("--no_of_files"))?,
            )?,
            seed: match take("--seed") {
                Some(text) => number("--seed", text)?,
                None => seed_of_now(),
            },
        })
    }
}

/// A seed that differs from run to run.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos() as u64);
    now ^ u64::from(std::process::id()) << 48
}

/// The files of a folder and of those in it that are not too long, in the order of their names.
fn inputs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && (1..=MAX_FILE_BYTES).contains(&metadata.len()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The line with arguments beside the program.
fn flags_line() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let text = fs::read_to_string(program.parent()?.join("flags")).ok()?;
    Some(text.trim_end().to_owned())
}

fn run(args: &Args) -> Result<(), String> {
    let options = Options::from_vars(|name| std::env::var(name).ok());
    let options = options.map_err(|error| error.to_string())?;
    let folder = |verb: &str, path: &Path, error: io::Error| {
        format!("cannot {verb} '{}': {error}", path.display())
    };
    let paths = inputs(&args.input_dir).map_err(|error| folder("read", &args.input_dir, error))?;
    let mut mutator = Mutator::with_options(args.seed, &options);
    let mut pool: Vec<Vec<u8>> = Vec::new();
    // Other files in each run, so that all of a large folder are used.
    let first = args.seed as usize % paths.len().max(1);
    for path in paths
        .iter()
        .cycle()
        .skip(first)
        .take(paths.len().min(MAX_INPUTS))
    {
        pool.push(fs::read(path).map_err(|error| folder("read", path, error))?);
    }
    if pool.is_empty() {
        let text = args.seed.to_string();
        let formats = options.formats();
        let images = formats.iter().flat_map(|format| {
            seeds(
                *format,
                MAX_INPUTS / formats.len(),
                MAX_FILE_BYTES as usize,
                &text,
            )
        });
        pool.extend(images);
    }
    let flags = flags_line();
    for number in 0..args.count {
        let at = (number as usize).wrapping_mul(7) % pool.len();
        let other = (number as usize + 1) % pool.len();
        let (input, other) = (&pool[at], &pool[other]);
        let image = mutator.mutate_with(input, Some(other), MAX_FILE_BYTES as usize);
        let image = repaired(&image).unwrap_or(image);
        let format = Format::probe(&image[..]).ok().flatten();
        let write = |name: String, bytes: &[u8]| {
            let path = args.output_dir.join(name);
            atomic_write::write(&path, |out| out.write_all(bytes))
                .map_err(|error| folder("write", &path, error))
        };
        if let Some(flags) = &flags {
            let format = format.map_or("raw", Format::name);
            let line = flags.replace("{format}", format);
            write(format!("flags-{number}"), line.as_bytes())?;
        }
        write(format!("fuzz-{number}"), &image)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let result = Args::read(std::env::args().skip(1)).and_then(|args| run(&args));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::from(2)
        }
    }
}
