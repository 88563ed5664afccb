//! What commands do to the image under test, verb by verb: the one place that knows.
//!
//! A new verb is one row in [`VERBS`].

use std::path::Path;

use image_formats::Format;

use super::Command;

/// On which words of a command something depends.
#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Never,
    /// With one of these words.
    With(&'static [&'static str]),
    /// Without any of these words.
    Without(&'static [&'static str]),
    /// Without a word that begins with one of these.
    WithoutPrefix(&'static [&'static str]),
}

impl When {
    fn holds(self, words: &[String]) -> bool {
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::With(wanted) => has(wanted),
            Self::Without(wanted) => !has(wanted),
            Self::WithoutPrefix(prefixes) => !words
                .iter()
                .any(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))),
        }
    }
}

/// What one verb of `qemu-img` does. Where unsure, it writes and keeps nothing.
#[derive(Clone, Copy, Debug)]
struct Verb {
    name: &'static str,
    /// When it may write to the image.
    writes: When,
    /// When a guest must read the same afterwards, whatever was written.
    keeps_data: When,
    /// When it is meant to open the files that the image refers to. `info` without
    /// `--backing-chain` prints what the header says; since the findings about image services
    /// it must not open the backing or data file.
    follows_chain: When,
    /// Whether it needs the key of an encrypted image.
    needs_key: bool,
    /// When its output on a valid image is the same for every version and reader.
    comparable: When,
    /// Options that are part of its name in messages and groups.
    named_with: &'static [&'static str],
    /// Options that name the format of an image, each with a value.
    formats: &'static [&'static str],
}

/// A verb of which nothing is known.
const UNKNOWN: Verb = Verb {
    name: "",
    writes: When::Always,
    keeps_data: When::Never,
    follows_chain: When::Always,
    needs_key: true,
    comparable: When::Never,
    named_with: &["-r"],
    formats: &["-f"],
};

/// A verb that only reads the image.
const READER: Verb = Verb {
    writes: When::Never,
    ..UNKNOWN
};

/// The verbs of `qemu-img`.
const VERBS: [Verb; 15] = [
    Verb {
        name: "amend",
        // A key slot that is erased may have been the only one.
        keeps_data: When::WithoutPrefix(&["size=", "backing_", "data_file", "state=inactive"]),
        ..UNKNOWN
    },
    Verb {
        name: "bench",
        writes: When::With(&["-w"]),
        ..UNKNOWN
    },
    Verb {
        name: "bitmap",
        keeps_data: When::Always,
        ..UNKNOWN
    },
    Verb {
        name: "check",
        writes: When::With(&["-r"]),
        keeps_data: When::Always,
        comparable: When::Without(&["-r"]),
        ..UNKNOWN
    },
    Verb {
        name: "commit",
        ..UNKNOWN
    },
    Verb {
        name: "compare",
        comparable: When::Always,
        formats: &["-f", "-F"],
        ..READER
    },
    Verb {
        name: "convert",
        writes: When::With(&["-n"]),
        ..UNKNOWN
    },
    Verb {
        name: "create",
        needs_key: false,
        ..READER
    },
    Verb {
        name: "dd",
        ..READER
    },
    Verb {
        name: "info",
        follows_chain: When::With(&["--backing-chain"]),
        needs_key: false,
        ..READER
    },
    Verb {
        name: "map",
        comparable: When::Always,
        ..READER
    },
    Verb {
        name: "measure",
        ..READER
    },
    Verb {
        name: "rebase",
        keeps_data: When::Without(&["-u"]),
        ..UNKNOWN
    },
    Verb {
        name: "resize",
        ..UNKNOWN
    },
    Verb {
        name: "snapshot",
        writes: When::Without(&["-l"]),
        keeps_data: When::With(&["-c", "-d"]),
        follows_chain: When::Without(&["-l"]),
        named_with: &["-l", "-c", "-a", "-d"],
        ..UNKNOWN
    },
];

/// The operations of `qemu-io` that do not write.
const IO_READERS: [&str; 7] = [
    "read", "readv", "aio_read", "map", "alloc", "info", "length",
];

/// What a command is.
enum Kind<'a> {
    /// A verb of `qemu-img`, with the words behind it.
    Img(Verb, &'a [String]),
    /// Operations of `qemu-io`.
    Io(Vec<&'a str>),
    /// Another program, of which nothing is known.
    Other,
}

impl Command {
    fn kind(&self) -> Kind<'_> {
        match self.program() {
            "qemu-img" => {
                let rest = self.0.get(2..).unwrap_or_default();
                let verb = self.0.get(1).map_or("", String::as_str);
                let known = VERBS.iter().find(|known| known.name == verb);
                Kind::Img(known.copied().unwrap_or(UNKNOWN), rest)
            }
            "qemu-io" => Kind::Io(self.operations()),
            _ => Kind::Other,
        }
    }

    /// The names of the operations of a `qemu-io` script.
    fn operations(&self) -> Vec<&str> {
        let scripts = self.0.windows(2).filter(|pair| pair[0] == "-c");
        scripts
            .filter_map(|pair| pair[1].split(' ').next())
            .collect()
    }

    /// Whether it may write to the image under test. Where unsure it says so.
    pub fn writes(&self) -> bool {
        match self.kind() {
            Kind::Img(verb, words) => verb.writes.holds(words),
            Kind::Io(operations) => !operations.iter().all(|verb| IO_READERS.contains(verb)),
            Kind::Other => true,
        }
    }

    /// Whether the image may have other bytes after it: `qemu-io` opens an image to write to
    /// it, and may repair it, though all that it is asked for is to read.
    pub fn may_touch(&self) -> bool {
        let read_only = self.0.iter().any(|word| word == "-r");
        self.writes() || matches!(self.kind(), Kind::Io(_)) && !read_only
    }

    /// Whether requests to the file of the image are made to fail under it.
    pub fn injects_errors(&self) -> bool {
        self.0.iter().any(|word| word.contains(".inject-error."))
    }

    /// Whether a guest must read the same from the image after it as before.
    pub fn keeps_data(&self) -> bool {
        !self.injects_errors()
            && matches!(self.kind(), Kind::Img(verb, words) if verb.keeps_data.holds(words))
    }

    /// Whether it is meant to open the files that an image refers to. Of other programs
    /// nothing is known; that they do is what they are tried for.
    pub fn follows_chain(&self) -> bool {
        match self.kind() {
            Kind::Img(verb, words) => verb.follows_chain.holds(words),
            Kind::Io(_) => true,
            Kind::Other => false,
        }
    }

    /// Whether an encrypted image must be unlocked for it. What other programs do is theirs.
    pub fn needs_key(&self) -> bool {
        match self.kind() {
            Kind::Img(verb, _) => verb.needs_key,
            Kind::Io(_) => true,
            Kind::Other => false,
        }
    }

    /// Whether every version and reader says the same of a valid image.
    pub fn is_comparable(&self) -> bool {
        !self.injects_errors()
            && matches!(self.kind(), Kind::Img(verb, words) if verb.comparable.holds(words))
    }

    /// Whether options of QEMU's tools say that the image is of that format, which they else
    /// find out by its content.
    pub fn names_format(&self, format: Format) -> bool {
        let words = &self.0;
        let driver = format!("driver={format}");
        words
            .windows(2)
            .any(|pair| pair[0] == "-f" && pair[1] == format.name())
            || words
                .iter()
                .any(|word| word.split(',').any(|part| part == driver))
    }

    /// Whether it is a program of QEMU that may write to the image.
    pub fn is_qemu_writer(&self) -> bool {
        !matches!(self.kind(), Kind::Other) && self.writes()
    }

    /// Whether it repairs all that is wrong with the image, and nothing keeps it from that.
    pub fn repairs_all(&self) -> bool {
        !self.injects_errors()
            && matches!(self.kind(), Kind::Img(verb, words)
                if verb.name == "check" && words.windows(2).any(|pair| pair == ["-r", "all"]))
    }

    /// The options that name formats, each with a value behind it.
    pub(super) fn format_options(&self) -> &'static [&'static str] {
        match self.kind() {
            Kind::Img(verb, _) => verb.formats,
            _ => UNKNOWN.formats,
        }
    }

    /// The program and its verb (`qemu-img info`), which is what messages and
    /// groups of findings are told apart by. For `qemu-io` the verbs of its script.
    pub fn verb(&self) -> String {
        let program = Path::new(self.program())
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match program.as_str() {
            "qemu-img" => {
                let Some(name) = self.0.get(1) else {
                    return program;
                };
                let verb = VERBS.iter().find(|verb| verb.name == name);
                let named_with = verb.map_or(UNKNOWN.named_with, |verb| verb.named_with);
                let mut words = self.0[2..].iter().map(String::as_str);
                match words.find(|word| named_with.contains(word)) {
                    Some(option) => format!("{program} {name} {option}"),
                    None => format!("{program} {name}"),
                }
            }
            "qemu-io" => {
                let mut verbs: Vec<&str> = Vec::new();
                for verb in self.operations() {
                    if !verbs.contains(&verb) {
                        verbs.push(verb);
                    }
                }
                format!("qemu-io {}", verbs.join("+"))
            }
            _ => program,
        }
    }

    /// As [`Command::verb`], but a script of `qemu-io` is the program alone: what
    /// groups are named by, and so must stay when a script gets shorter.
    pub fn group_verb(&self) -> String {
        let verb = self.verb();
        match verb.strip_prefix("qemu-io ") {
            Some(_) => "qemu-io".into(),
            None => verb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        Command(shlex::split(line).unwrap())
    }

    #[test]
    fn verbs_tell_commands_apart() {
        let verb = |line: &str| command(line).verb();
        assert_eq!(verb("qemu-img info $test_img"), "qemu-img info");
        assert_eq!(verb("qemu-img check -r all $test_img"), "qemu-img check -r");
        assert_eq!(
            verb("qemu-img snapshot -q -c a $test_img"),
            "qemu-img snapshot -c"
        );
        assert_eq!(
            verb("qemu-io -c 'read 0 1' -c 'write 0 1' -c 'read 1 1' $test_img"),
            "qemu-io read+write"
        );
        assert_eq!(verb("/usr/bin/reader $test_img"), "reader");
        assert_eq!(verb("qemu-img"), "qemu-img");
    }

    #[test]
    fn readers_are_told_from_writers() {
        let writes = |line: &str| command(line).writes();
        assert!(!writes("qemu-img check $test_img"));
        assert!(writes("qemu-img check -r all $test_img"));
        assert!(!writes("qemu-io -c 'read 0 512' $test_img"));
        assert!(writes("qemu-io -c 'read 0 512' -c 'write 0 512' $test_img"));
        assert!(writes("some-tool $test_img"));
        assert!(writes("qemu-img some-verb $test_img"));
    }

    #[test]
    fn info_alone_must_not_follow() {
        let follows = |line: &str| command(line).follows_chain();
        assert!(!follows("qemu-img info $test_img"));
        assert!(follows("qemu-img info --backing-chain $test_img"));
        assert!(follows("qemu-img convert -O raw $test_img out.img"));
        assert!(!follows("my-reader $test_img"));
    }

    #[test]
    fn only_some_commands_keep_the_data() {
        let keeps = |line: &str| command(line).keeps_data();
        assert!(keeps("qemu-img amend -o refcount_bits=1 $test_img"));
        assert!(!keeps("qemu-img amend -o size=3M $test_img"));
        assert!(!keeps(
            "qemu-img amend -o state=inactive,keyslot=0 $test_img"
        ));
        assert!(!keeps("qemu-img rebase -u -b x $test_img"));
        assert!(!keeps("qemu-img snapshot -a x $test_img"));
        assert!(command("qemu-img check -r all $test_img").repairs_all());
        assert!(!command("qemu-img check -r leaks $test_img").repairs_all());
    }

    #[test]
    fn each_verb_has_one_row() {
        assert!(VERBS.is_sorted_by(|one, next| one.name < next.name));
    }
}
