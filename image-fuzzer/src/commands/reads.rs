//! What of the guest's disk a command reads: what it must refuse where that is damaged, and
//! what it must show.

use std::ops::Range;

use super::Command;

/// A part of a disk that a command reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The internal snapshot whose disk it is, by ID or name; else the active disk.
    pub snapshot: Option<String>,
    /// The bytes; `None` is the whole disk.
    pub range: Option<Range<u64>>,
    /// Whether the data themselves are read, not only where they are stored.
    pub data: bool,
    /// What becomes of the data.
    pub shown: Shown,
}

/// How a command shows the data that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not at all.
    Nowhere,
    /// As a raw image, in this file of the scratch folder.
    File(String),
    /// By its exit status: whether each byte is this one.
    Pattern(u8),
}

/// The whole active disk.
const DISK: Reads = Reads {
    snapshot: None,
    range: None,
    data: true,
    shown: Shown::Nowhere,
};

impl Command {
    /// The parts of the guest's disk that the command reads, in order, where it does nothing
    /// else to the image and that is known.
    pub fn reads(&self) -> Vec<Reads> {
        if self.writes() || self.overrides_files() || self.injects_errors() {
            return Vec::new();
        }
        let words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["qemu-img", "map", ..] => vec![Reads {
                data: false,
                ..DISK
            }],
            ["qemu-img", "compare", ..] => vec![DISK],
            ["qemu-img", "convert", .., image, out] if image.contains("$test_img") => {
                let value = |option| value_of(&words, option);
                let raw = value("-O").is_none_or(|format| format == "raw");
                vec![Reads {
                    snapshot: value("-l").map(str::to_owned),
                    shown: if raw && !out.contains([':', '=']) {
                        Shown::File((*out).to_owned())
                    } else {
                        Shown::Nowhere
                    },
                    ..DISK
                }]
            }
            ["qemu-io", ..] => {
                let scripts = words.windows(2).filter(|pair| pair[0] == "-c");
                scripts.filter_map(|pair| operation(pair[1])).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The part of the active disk that a script of `qemu-io` writes data to before anything
    /// else.
    pub fn first_write(&self) -> Option<Range<u64>> {
        let mut scripts = self.0.windows(2).filter(|pair| pair[0] == "-c");
        let script = scripts.next().filter(|_| self.program() == "qemu-io")?;
        let arguments = script[1].strip_prefix("write ")?;
        operation(&format!("read {arguments}")).and_then(|reads| reads.range)
    }

    /// Whether options say that other files are used than those that the image names, or how
    /// long its disk is.
    fn overrides_files(&self) -> bool {
        let others = [
            "backing=",
            "backing.",
            "data-file",
            "extents.",
            "force_size_calc=",
            "header.",
        ];
        let is_options = |word: &&String| word.contains("filename=$test_img");
        let mut options = self.0.iter().filter(is_options);
        options.any(|word| others.iter().any(|other| word.contains(other)))
    }
}

/// The word behind `option`.
fn value_of<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    let mut pairs = words.windows(2);
    pairs.find(|pair| pair[0] == option).map(|pair| pair[1])
}

/// What an operation of `qemu-io` reads: `read [-P pattern] offset length`, or `readv`.
fn operation(script: &str) -> Option<Reads> {
    let mut words = script.split(' ').filter(|word| !word.is_empty());
    let verb = words.next()?;
    let mut shown = Shown::Nowhere;
    let mut numbers = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "-P" => shown = Shown::Pattern(u8::try_from(number(words.next()?)?).ok()?),
            "-q" | "-C" | "-v" => {}
            // Another place than the disk, or a part of the pattern.
            _ if word.starts_with('-') => return None,
            _ => numbers.push(number(word)?),
        }
    }
    let (offset, len) = match (verb, numbers.as_slice()) {
        ("read", [offset, len]) => (*offset, *len),
        ("readv", [offset, lens @ ..]) => (
            *offset,
            lens.iter()
                .try_fold(0, |sum: u64, len| sum.checked_add(*len))?,
        ),
        _ => return None,
    };
    Some(Reads {
        range: Some(offset..offset.checked_add(len)?),
        shown,
        ..DISK
    })
}

/// A number as `qemu-io` reads it, in bytes.
fn number(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &word[digits.len()..] {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(line: &str) -> Vec<Reads> {
        Command(shlex::split(line).unwrap()).reads()
    }

    #[test]
    fn the_whole_disk_is_read() {
        let to_file = |snapshot: Option<&str>| Reads {
            snapshot: snapshot.map(str::to_owned),
            shown: Shown::File("out.img".into()),
            ..DISK
        };
        let line = "qemu-img convert -f qcow2 -O raw $test_img out.img";
        assert_eq!(reads(line), [to_file(None)]);
        let line = "qemu-img convert -l s1 -O raw $test_img out.img";
        assert_eq!(reads(line), [to_file(Some("s1"))]);
        assert_eq!(reads("qemu-img convert -O qcow2 $test_img out.img"), [DISK]);
        assert_eq!(reads("qemu-img compare $test_img $test_img"), [DISK]);
        assert!(!reads("qemu-img map $test_img")[0].data);
    }

    #[test]
    fn operations_read_ranges() {
        let line = "qemu-io -c 'read -P 0x11 1k 512' -c 'readv 0 512 1k' $test_img";
        let [one, two] = &reads(line)[..] else {
            panic!("two reads");
        };
        assert_eq!(one.range, Some(1024..1536));
        assert_eq!(one.shown, Shown::Pattern(0x11));
        assert_eq!(two.range, Some(0..1536));
        for line in [
            "qemu-io -c 'read -b 0 512' $test_img",
            "qemu-io -c 'read -s 1 -l 2 -P 1 0 512' $test_img",
            "qemu-io -c 'aio_read 0 512' $test_img",
            "qemu-io -c 'read x 512' $test_img",
        ] {
            assert_eq!(reads(line), [], "{line}");
        }
    }

    #[test]
    fn what_is_written_first_is_known() {
        let first = |line: &str| Command(shlex::split(line).unwrap()).first_write();
        let line = "qemu-io -c 'write -P 7 512 1k' -c 'read 0 1' $test_img";
        assert_eq!(first(line), Some(512..1536));
        for line in [
            "qemu-io -c 'write -z 0 64k' $test_img",
            "qemu-io -c 'discard 0 64k' -c 'write 0 512' $test_img",
            "reader -c 'write 0 512' $test_img",
        ] {
            assert_eq!(first(line), None, "{line}");
        }
    }

    #[test]
    fn what_else_is_done_leaves_it_open() {
        for line in [
            "qemu-io -c 'read 0 512' -c 'write 0 512' $test_img",
            "qemu-img convert -n -O qcow2 $test_img $test_img",
            "qemu-img info $test_img",
            "reader $test_img",
            "qemu-io --image-opts -c 'read 0 512' \
             driver=qcow2,file.filename=$test_img,backing=null-co://",
            "qemu-io --image-opts -c 'read 0 512' \
             driver=luks,header.filename=$test_img,file.driver=null-co",
        ] {
            assert_eq!(reads(line), [], "{line}");
        }
    }
}
