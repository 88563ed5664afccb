//! A reader of images with known faults, to prove that the fuzzer finds them.
//!
//! `planted read IMAGE` looks at the header and fails in one of several ways where
//! a field has a certain value, `planted seldom IMAGE` in one run of three. `planted nap IMAGE`
//! hangs on images of version 2, and is slow on others. `planted tool VERB ... IMAGE` stands
//! in for `qemu-img` with faults that only a look behind its success shows. `planted fault NAME`
//! stands in for `qemu-img` and `qemu-io` with one of the faults that `planted list` lists.

mod consequences;
mod faults;
mod reader;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};

/// The header of an image.
struct Header(Vec<u8>);

impl Header {
    fn read(image: &str) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(image)?.take(512).read_to_end(&mut bytes)?;
        bytes.resize(512, 0);
        Ok(Self(bytes))
    }

    fn number(&self, at: usize, len: usize) -> u64 {
        self.0[at..at + len]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["read", image] => read(image),
        ["seldom", image] if by_chance() => read(image),
        ["seldom", _] => Ok(ExitCode::SUCCESS),
        ["nap", image] => nap(image),
        ["tool" | "other", verb, rest @ ..] => tool(words[0], verb, rest),
        ["list"] => Ok(faults::list()),
        ["fault", missing, rest @ ..] => faults::run(missing, rest),
        _ => Ok(ExitCode::from(2)),
    };
    done.unwrap_or_else(|why| {
        eprintln!("planted: {why}");
        ExitCode::FAILURE
    })
}

/// Whether this is one of the runs that are unlucky.
fn by_chance() -> bool {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.subsec_nanos().is_multiple_of(3)
}

/// Sleeps for ever, or for longer than a command may take: at the same place.
fn nap(image: &str) -> std::io::Result<ExitCode> {
    let began = Instant::now();
    let hangs = Header::read(image)?.number(4, 4) == 2;
    while hangs || began.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the header, and fails where a field asks for it.
fn read(image: &str) -> std::io::Result<ExitCode> {
    let header = Header::read(image)?;
    let cluster_bits = header.number(20, 4);
    if header.number(60, 4) > 65_536 {
        eprintln!(
            "planted: ../planted.c:12: read_snapshots: Assertion `nb_snapshots <= MAX' failed."
        );
        let _ = raise(Signal::SIGABRT);
    }
    if header.number(36, 4) > 4_194_304 {
        // The first one only takes away the handler that Rust has set.
        let _ = raise(Signal::SIGSEGV);
        let _ = raise(Signal::SIGSEGV);
    }
    if header.number(4, 4) == 3 && header.number(100, 4) > 4096 {
        eprintln!("==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1 at pc 0x2");
        eprintln!("READ of size 8 at 0x1 thread T0");
        eprintln!("    #0 0x55d2 in read_header ../planted.c:40");
        eprintln!("    #1 0x55d3 in main ../planted.c:90");
        return Ok(ExitCode::FAILURE);
    }
    if header.number(56, 4) == 0 {
        // A loop that no input ends.
        let mut turns = 0_u64;
        while std::hint::black_box(turns) != u64::MAX {
            turns += 1;
        }
    }
    if header.number(24, 8) >= 1 << 62 {
        let mut memory: Vec<Vec<u8>> = Vec::new();
        for piece in 0..1024_usize {
            memory.push(vec![piece as u8 | 1; 1 << 20]);
        }
        println!("{}", std::hint::black_box(memory).len());
    }
    if cluster_bits > 21 {
        let line = [b'x'; 4096];
        for _ in 0..4096 {
            std::io::stdout().write_all(&line)?;
        }
    }
    if header.number(48, 8) >= 1 << 55 {
        let mut file = File::create("grown")?;
        for _ in 0..256 {
            file.write_all(&vec![1; 1 << 20])?;
        }
    }
    let (at, len) = (header.number(8, 8), header.number(16, 4));
    if at > 0 && len > 0 && len < 1024 {
        let mut name = vec![0; len as usize];
        let mut file = File::open(image)?;
        file.seek(SeekFrom::Start(at))?;
        if file.read_exact(&mut name).is_ok() {
            let name = String::from_utf8_lossy(&name).into_owned();
            // Whatever the image names is opened.
            let _ = fs::read(Path::new(&name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Stands in for `qemu-img`.
fn tool(who: &str, verb: &str, rest: &[&str]) -> std::io::Result<ExitCode> {
    let image = rest
        .iter()
        .rfind(|word| word.ends_with(".qcow2"))
        .unwrap_or(&"");
    let header = Header::read(image)?;
    let lazy = header.number(80, 8) & 1 == 1;
    let corrupt = header.number(72, 8) & 2 == 2;
    match verb {
        // A repair that repairs nothing.
        "check" if rest.contains(&"-r") => Ok(ExitCode::SUCCESS),
        "check" => {
            if who == "other" && header.number(96, 4) == 5 {
                println!("Image end offset: 1");
            }
            if corrupt || fs::metadata(image)?.len() % 2 == 1 {
                eprintln!("ERROR the image is damaged");
                return Ok(ExitCode::from(2));
            }
            Ok(ExitCode::SUCCESS)
        }
        "convert" => fs::write(rest.last().unwrap_or(&""), &header.0).map(|()| ExitCode::SUCCESS),
        "compare" => {
            let same = fs::read("before.raw")? == header.0;
            Ok(ExitCode::from(u8::from(!same)))
        }
        // An odd length stands for damaged metadata, the header for the data.
        "resize" if lazy => poke(image, SeekFrom::End(0)),
        "bitmap" if lazy => poke(image, SeekFrom::Start(0)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a byte into the image.
fn poke(image: &str, at: SeekFrom) -> std::io::Result<ExitCode> {
    let mut file = File::options().write(true).open(image)?;
    file.seek(at)?;
    file.write_all(&[7])?;
    Ok(ExitCode::SUCCESS)
}
