//! `image-fuzzer show`: the structure of an image as a tree, defects marked.

use crate::{image_file, output};
use anstream::{AutoStream, ColorChoice, StripStream};
use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use image_formats::qcow2::records::extension_name;
use image_formats::{AnyImage, Defect, Field, Kind, ReadAt, Value};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The image
    image: PathBuf,
    /// One JSON object instead of a tree
    #[arg(long)]
    json: bool,
    /// Only this structure or field, such as header or l2[3].entry[17].offset
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The image's format; probed when not named
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

const HEADING: Style = Style::new().bold();
const VALUE: Style = AnsiColor::Cyan.on_default();
const NOTE: Style = Style::new().dimmed();
const DEFECT: Style = AnsiColor::Red.on_default().bold();

/// Shows an image on standard output.
///
/// # Errors
/// When the image cannot be read, has no such path, or the output cannot be written.
pub fn run(args: &ShowArgs) -> Result<()> {
    let stdout = std::io::stdout().lock();
    let choice = AutoStream::choice(&stdout);
    // Colours are taken out before lines are gathered: the other way about each piece
    // of a line is a write of its own, and images can have a million lines.
    let buffer: Box<dyn Write> = Box::new(BufWriter::with_capacity(1 << 16, stdout));
    let mut out: Box<dyn Write> = match choice {
        ColorChoice::Never => Box::new(StripStream::new(buffer)),
        _ => buffer,
    };
    let image = image_file::open(&args.image, args.format.as_deref())?;
    let written = write(&image, args, &mut out).and_then(|()| Ok(out.flush()?));
    // From here on only the output fails as files do.
    match written.map_err(anyhow::Error::downcast) {
        Ok(()) => Ok(()),
        Err(Ok(error)) => output::printed(Err(error)),
        Err(Err(other)) => Err(other),
    }
}

/// Shows an image on `out`, with colours.
///
/// # Errors
/// When the image cannot be read, has no such path, or `out` cannot be written.
pub fn render(args: &ShowArgs, out: &mut dyn Write) -> Result<()> {
    let image = image_file::open(&args.image, args.format.as_deref())?;
    write(&image, args, out)
}

fn write(image: &AnyImage, args: &ShowArgs, out: &mut dyn Write) -> Result<()> {
    let wanted = args.path.as_deref();
    let not_read = || image_file::not_read(&args.image);
    let defects: Vec<Defect> = image
        .defects()
        .with_context(not_read)?
        .into_iter()
        .filter(|defect| selected(&defect.path, wanted))
        .collect();
    // What is not listed as a matter of course, such as the contents of a cluster, can
    // be asked for by its path.
    let named = match wanted {
        Some(path)
            if !image
                .used_fields()
                .any(|field| selected(&field.path, wanted)) =>
        {
            let field = image.field(path);
            Some(field.map_err(image_file::field_error(&args.image))?)
        }
        _ => None,
    };
    let listed = image
        .used_fields()
        .filter(|field| selected(&field.path, wanted));
    let fields = named.into_iter().chain(listed);
    if args.json {
        write_json(image, args, &defects, fields, out)?;
    } else {
        let name = args.image.display();
        let (format, len) = (image.format(), image.bytes().len());
        let count = match defects.len() {
            0 => "no defects".to_owned(),
            1 => "1 defect".to_owned(),
            count => format!("{count} defects"),
        };
        writeln!(
            out,
            "{HEADING}{name}{HEADING:#}: {format}, {len} bytes, {count}"
        )?;
        Tree::new(defects, out).write(fields)?;
    }
    // Fields that could not be read are not listed.
    image.bytes().check_reads().with_context(not_read)
}

/// Whether `path` is the wanted one, or lies below it.
fn selected(path: &str, wanted: Option<&str>) -> bool {
    let rest = wanted.map_or(Some(""), |wanted| path.strip_prefix(wanted));
    rest.is_some_and(|rest| wanted.is_none() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Writes fields as a tree: headings for structures, a line for a field, one line for
/// a table entry with its parts, one for a run of equal refcounts.
struct Tree<'a> {
    defects: BTreeMap<String, Vec<Defect>>,
    heading: String,
    entry: Option<(String, String)>,
    counts: Option<Counts>,
    out: &'a mut dyn Write,
}

/// A run of equal refcounts.
struct Counts {
    first: String,
    last: String,
    value: u64,
}

impl<'a> Tree<'a> {
    fn new(defects: Vec<Defect>, out: &'a mut dyn Write) -> Self {
        let mut by_path = BTreeMap::<String, Vec<Defect>>::new();
        for defect in defects {
            by_path.entry(defect.path.clone()).or_default().push(defect);
        }
        Self {
            defects: by_path,
            heading: String::new(),
            entry: None,
            counts: None,
            out,
        }
    }

    fn write(mut self, fields: impl Iterator<Item = Field>) -> Result<()> {
        for field in fields {
            self.field(&field)?;
        }
        self.end_entry()?;
        self.end_counts()?;
        let left = std::mem::take(&mut self.defects);
        if !left.is_empty() {
            writeln!(self.out, "{HEADING}elsewhere{HEADING:#}")?;
        }
        for defect in left.into_values().flatten() {
            writeln!(
                self.out,
                "  {DEFECT}! {}: {}{DEFECT:#}{}",
                defect.path,
                defect.rule,
                section(&defect)
            )?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<()> {
        if let Some((path, line)) = &mut self.entry
            && let Some(name) = field
                .path
                .strip_prefix(path.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
        {
            // Of an entry's parts only those that say something.
            let shown = name.to_owned();
            if field.value.as_uint().is_none_or(|number| number != 0) && field.kind != Kind::Bytes {
                line.push_str(&format!("  {shown} {VALUE}{}{VALUE:#}", text(field)));
            }
            if self.defects.contains_key(&field.path) {
                self.end_entry()?;
                self.flaws(&field.path, "    ")?;
            }
            return Ok(());
        }
        self.end_entry()?;
        if field.kind == Kind::Refcount {
            return self.count(field);
        }
        self.end_counts()?;
        let (structure, name) = field.path.rsplit_once('.').unwrap_or(("", &field.path));
        if structure != self.heading {
            if !structure.is_empty() {
                writeln!(self.out, "{HEADING}{structure}{HEADING:#}")?;
            }
            structure.clone_into(&mut self.heading);
        }
        let indent = if structure.is_empty() { "" } else { "  " };
        if matches!(field.kind, Kind::Entry | Kind::Flags) {
            let width = if field.kind == Kind::Flags { 26 } else { 0 };
            let line = format!("{indent}{name:<width$} {VALUE}{}{VALUE:#}", text(field));
            self.entry = Some((field.path.clone(), line));
            return Ok(());
        }
        writeln!(
            self.out,
            "{indent}{name:<26} {VALUE}{:<20}{VALUE:#} {NOTE}at {:#x}{NOTE:#}",
            text(field),
            field.offset
        )?;
        self.flaws(&field.path, indent)
    }

    fn end_entry(&mut self) -> Result<()> {
        if let Some((path, line)) = self.entry.take() {
            writeln!(self.out, "{line}")?;
            self.flaws(&path, "  ")?;
        }
        Ok(())
    }

    fn count(&mut self, field: &Field) -> Result<()> {
        let value = field.value.as_uint().unwrap_or(0);
        let flawed = self.defects.contains_key(&field.path);
        if let Some(counts) = &mut self.counts
            && counts.value == value
            && !flawed
        {
            field.path.clone_into(&mut counts.last);
            return Ok(());
        }
        self.end_counts()?;
        let (first, last) = (field.path.clone(), field.path.clone());
        self.counts = Some(Counts { first, last, value });
        if flawed {
            self.end_counts()?;
            self.flaws(&field.path, "  ")?;
        }
        Ok(())
    }

    fn end_counts(&mut self) -> Result<()> {
        if let Some(counts) = self.counts.take() {
            let range = match counts.last.rsplit_once('[') {
                Some((_, index)) if counts.first != counts.last => {
                    format!(" to {}", index.trim_end_matches(']'))
                }
                _ => String::new(),
            };
            let (block, first) = counts.first.rsplit_once('.').unwrap_or(("", &counts.first));
            if block != self.heading {
                writeln!(self.out, "{HEADING}{block}{HEADING:#}")?;
                block.clone_into(&mut self.heading);
            }
            writeln!(
                self.out,
                "  {first}{range} {VALUE}{}{VALUE:#}",
                counts.value
            )?;
        }
        Ok(())
    }

    /// The defects at a path, once.
    fn flaws(&mut self, path: &str, indent: &str) -> Result<()> {
        for defect in self.defects.remove(path).unwrap_or_default() {
            writeln!(
                self.out,
                "{indent}  {DEFECT}! {}{DEFECT:#}{}",
                defect.rule,
                section(&defect)
            )?;
        }
        Ok(())
    }
}

fn section(defect: &Defect) -> String {
    if defect.section.is_empty() {
        String::new()
    } else {
        format!(" {NOTE}({}){NOTE:#}", defect.section)
    }
}

/// Offsets and sets of bits in hexadecimal, all else in decimal.
pub(crate) fn text(field: &Field) -> String {
    match (&field.value, field.kind) {
        (
            Value::Uint(number),
            Kind::Offset
            | Kind::Entry
            | Kind::Flags
            | Kind::Bitmap
            | Kind::Magic
            | Kind::Checksum
            | Kind::Reserved,
        ) => format!("{number:#x}"),
        (Value::Uint(number), Kind::Choice) if *number > 0xffff => {
            // The types of header extensions are the only choices this large.
            let name = u32::try_from(*number).map_or("unknown", extension_name);
            format!("{number:#010x} ({name})")
        }
        (value, _) => value.to_string(),
    }
}

fn write_json(
    image: &AnyImage,
    args: &ShowArgs,
    defects: &[Defect],
    fields: impl Iterator<Item = Field>,
    out: &mut dyn Write,
) -> Result<()> {
    // Field by field, as there may be millions of them.
    let head = json!({
        "image": args.image.display().to_string(),
        "format": image.format(),
        "length": image.bytes().len(),
        "defects": defects,
    });
    let head = head.to_string();
    write!(out, "{},\"fields\":[", head.trim_end_matches('}'))?;
    for (index, field) in fields.enumerate() {
        let value = match &field.value {
            Value::Uint(number) => json!(number),
            Value::Bytes(bytes) => json!(hex(bytes)),
        };
        let object = json!({
            "path": field.path,
            "kind": field.kind,
            "offset": field.offset,
            "width_bits": field.width_bits,
            "value": value,
            "text": text(&field),
            "rule": field.rule,
            "section": field.section,
        });
        let comma = if index == 0 { "\n" } else { ",\n" };
        write!(out, "{comma}{object}")?;
    }
    writeln!(out, "\n]}}")?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.fold("hex:".to_owned(), |all, digits| all + &digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::{self, SetArgs};
    use clap::Parser;
    use image_formats::qcow2::{Cluster, Content, Pattern, Spec, build};
    use std::path::Path;

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
                render(&args, &mut out)?;
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
            tree.contains("! the cluster at 0x60000 is past the end of the file"),
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
        // Contents are not listed, but can be asked for.
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

    #[test]
    fn says_what_it_cannot_open() {
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
