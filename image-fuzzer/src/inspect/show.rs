//! `image-fuzzer show`: the structure of an image.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anstream::{AutoStream, ColorChoice, StripStream};
use anyhow::{Context as _, Result, bail};
use image_formats::{AnyImage, Defect, Field, FieldError, ReadAt as _};

use super::tree::{HEADING, Tree};
use super::{image_file, json};
use crate::output::{self, counted};

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The image
    image: PathBuf,
    /// Print one JSON object instead of a tree
    #[arg(long)]
    json: bool,
    /// Show this structure or field only, such as header or l2[3].entry[17].offset
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Show every used entry of every table, of which else only the first ones are shown
    #[arg(long)]
    all: bool,
    /// Format of the image [default: detected]
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

/// The most entries of a table that are shown, and the most tables that another one leads to,
/// unless all are wanted: an image of a terabyte has millions.
const MOST_ENTRIES: u64 = 48;

/// Shows an image on standard output.
///
/// # Errors
///
/// The image cannot be read, has no such path, or the output cannot be written.
pub fn run(args: &ShowArgs) -> Result<()> {
    let stdout = std::io::stdout().lock();
    let choice = AutoStream::choice(&stdout);
    // Colours are removed before lines are buffered: the other way round each piece
    // of a line is a write of its own, and images can have a million lines.
    let buffer: Box<dyn Write> = Box::new(BufWriter::with_capacity(1 << 16, stdout));
    let mut out: Box<dyn Write> = match choice {
        ColorChoice::Never => Box::new(StripStream::new(buffer)),
        _ => buffer,
    };
    let image = image_file::open(&args.image, args.format.as_deref())?;
    let written = write(&image, args, &mut out).and_then(|()| Ok(out.flush()?));
    // From here on an I/O error is one of the output.
    match written.map_err(anyhow::Error::downcast) {
        Ok(()) => Ok(()),
        Err(Ok(error)) => output::stdout_result(Err(error)),
        Err(Err(other)) => Err(other),
    }
}

/// Shows an image on `out`, with colours.
fn write(image: &AnyImage, args: &ShowArgs, out: &mut dyn Write) -> Result<()> {
    let wanted = args.path.as_deref();
    let not_read = || image_file::not_read(&args.image);
    let defects: Vec<Defect> = match wanted {
        Some(path) => image.defects_under(path),
        None => image.defects(),
    }
    .with_context(not_read)?;
    let most = if args.all || args.json {
        u64::MAX
    } else {
        MOST_ENTRIES
    };
    let listed: Box<dyn Iterator<Item = Field>> = match wanted {
        Some(path) => Box::new(image.fields_under(path)?),
        None => Box::new(image.overview(most)),
    };
    let mut listed = listed.peekable();
    // Fields that are not listed by default, such as the contents of a cluster, can be
    // requested by their path.
    let unlisted = match wanted {
        Some(path) if listed.peek().is_none() => match image.field(path) {
            Err(error @ FieldError::Missing { .. }) => {
                bail!("{error} (it has {})", structures(image))
            }
            field => Some(field.map_err(image_file::field_error(&args.image))?),
        },
        _ => None,
    };
    let fields = unlisted.into_iter().chain(listed);
    if args.json {
        json::write(&args.image, image, &defects, fields, out)?;
        return image.bytes().check_reads().with_context(not_read);
    }
    let name = args.image.display();
    let (format, len) = (image.format(), image.bytes().len());
    let count = match defects.len() {
        0 => "no defects".to_owned(),
        count => counted(count as u64, "defect"),
    };
    writeln!(
        out,
        "{HEADING}{name}{HEADING:#}: {format}, {len} bytes, {count}"
    )?;
    let most = wanted.is_none().then_some(most);
    Tree::new(defects, most, out).write(fields)?;
    // Fields that could not be read are not listed.
    image.bytes().check_reads().with_context(not_read)
}

/// The names of the structures of an image, in their order.
fn structures(image: &AnyImage) -> String {
    let mut names: Vec<String> = Vec::new();
    for field in image.overview(1) {
        let first = field.path.split(['.', '[']).next().unwrap_or_default();
        if !names.iter().any(|name| name == first) {
            names.push(first.to_owned());
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use image_formats::qcow2::{Cluster, Content, Pattern, Spec, build};

    use super::*;
    use crate::inspect::set::{self, SetArgs};

    #[derive(clap::Parser)]
    enum Command {
        Show(ShowArgs),
        Set(SetArgs),
    }

    fn image(folder: &Path) -> String {
        let content = Content::Data(Pattern::Fill(1));
        let clusters = vec![Cluster { index: 3, content }];
        let spec = Spec {
            clusters,
            feature_names: true,
            ..Spec::default()
        };
        let path = folder.join("image");
        std::fs::write(
            &path,
            build(&spec).unwrap().image.bytes().to_vec(1 << 24).unwrap(),
        )
        .unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(words: &[&str]) -> Result<String> {
        match Command::parse_from(std::iter::once("x").chain(words.iter().copied())) {
            Command::Show(args) => {
                let mut out = anstream::StripStream::new(Vec::new());
                let image = image_file::open(&args.image, args.format.as_deref())?;
                write(&image, &args, &mut out)?;
                Ok(String::from_utf8(out.into_inner()).unwrap())
            }
            Command::Set(args) => set::run(&args).map(|()| String::new()),
        }
    }

    #[test]
    fn shows_a_tree_and_marks_defects() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let tree = run(&["show", &image]).unwrap();
        assert!(
            tree.starts_with(&format!("{image}: qcow2, 393216 bytes, no defects\n")),
            "{tree}"
        );
        assert!(
            tree.contains("\n  l1_size                    1                    at 0x24\n"),
            "{tree}"
        );
        assert!(
            tree.contains("  entry[3] 0x8000000000050000  offset 0x50000  copied 1\n"),
            "{tree}"
        );
        assert!(tree.contains("  entry[0] to 5 1\n"), "{tree}");
        assert!(tree.contains("0x6803f857 (feature name table)"), "{tree}");

        run(&["set", &image, "l2[0].entry[3].offset", "0x60000"]).unwrap();
        let tree = run(&["show", &image, "--path", "l2[0].entry[3]"]).unwrap();
        assert!(
            tree.contains(
                "! the cluster at 0x60000 is past the end of the file (should: Cluster mapping)"
            ),
            "{tree}"
        );
        assert!(!tree.contains("header"), "{tree}");
    }

    #[test]
    fn shows_json() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let out = run(&["show", &image, "--json", "--path", "header.version"]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["format"], "qcow2");
        assert_eq!(value["fields"][0]["value"], 3);
        let out = run(&["show", &image, "--json"]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(value["fields"].as_array().unwrap().len() > 50);
        run(&["set", &image, "header.refcount_order", "7"]).unwrap();
        let damaged: serde_json::Value =
            serde_json::from_str(&run(&["show", &image, "--json"]).unwrap()).unwrap();
        assert_eq!(damaged["defects"][0]["name"], "refcount-order");
        assert_eq!(damaged["defects"][0]["requirement"], "must");
        run(&["set", &image, "header.refcount_order", "4"]).unwrap();
        // Contents are not listed, but can be requested.
        let out = run(&["show", &image, "--json", "--path", "l2[0].entry[3].data"]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(
            value["fields"][0]["value"]
                .as_str()
                .unwrap()
                .starts_with("hex:0101")
        );
    }

    #[test]
    fn sets_one_field_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let mut wanted = std::fs::read(&image).unwrap();
        for (path, value, at, bytes) in [
            ("header.l1_size", "-1", 36, &[255; 4][..]),
            ("header.incompatible_features.dirty", "1", 79, &[1]),
            ("ext[0].feature[0].name", "12", 122, b"12\0\0\0\0\0\0\0"),
        ] {
            run(&["set", &image, path, value]).unwrap();
            wanted[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(std::fs::read(&image).unwrap() == wanted, "{path}");
        }
        for (path, value, problem) in [
            ("header.l1size", "1", "did you mean 'header.l1_size'?"),
            ("header.l1_size", "0x100000000", "does not fit"),
            ("header.l1_size", "many", "not a 64-bit number"),
            ("header[", "1", "is not a path"),
            ("refcount_table[0].offset", "1", "does not fit"),
            ("ext[0].feature[0].name", "hex:0", "pairs"),
        ] {
            let error = run(&["set", &image, path, value]).unwrap_err().to_string();
            assert!(error.contains(problem), "{path}: {error}");
        }
        assert!(std::fs::read(&image).unwrap() == wanted);
    }

    /// A format with a trailer has no header, and a user cannot know that.
    #[test]
    fn a_path_that_is_not_there_is_answered_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path());
        let error = run(&["show", &image, "--path", "trailer"]).unwrap_err();
        let said = "the image has no field 'trailer'";
        assert!(error.to_string().starts_with(said), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("(it has header, ext, refcount_table, refcount_block, l1, l2)"),
            "{error}"
        );
    }

    #[test]
    fn errors_name_what_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "no image").unwrap();
        let text = path.to_str().unwrap();
        let error = |words: &[&str]| run(words).unwrap_err().to_string();
        assert!(error(&["show", text]).contains("unrecognised image format"));
        assert!(error(&["show", text, "-f", "qcow3"]).contains("unknown format 'qcow3'"));
        assert!(error(&["show", "/does/not/exist"]).contains("failed to open"));
        assert!(error(&["show", folder.path().to_str().unwrap()]).contains("directory"));
        // A file that opens, but cannot be read: that is no empty image.
        let error = format!("{:#}", run(&["show", "/proc/self/mem"]).unwrap_err());
        let said = "failed to read '/proc/self/mem': failed to read at offset 0x0: ";
        assert!(error.starts_with(said), "{error}");
        assert!(error.ends_with("(os error 5)"), "{error}");
        // Whatever the bytes, a named format shows them.
        for format in image_formats::Format::ALL {
            run(&["show", text, "-f", format.name()]).unwrap();
        }
    }
}
