//! `image-fuzzer show`: the structure of an image as a tree, defects marked.

use crate::image_file;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use image_formats::{AnyImage, Defect, Field, Kind, ReadAt, Value};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write};
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
    let image = image_file::open(&args.image, args.format.as_deref())?;
    let mut out = BufWriter::new(anstream::stdout());
    let written = write(&image, args, &mut out).and_then(|()| Ok(out.flush()?));
    match written {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// Whoever read the output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn write(image: &AnyImage, args: &ShowArgs, out: &mut dyn Write) -> Result<()> {
    let wanted = args.path.as_deref();
    let defects: Vec<Defect> = image
        .defects()
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
            Some(image.field(path)?)
        }
        _ => None,
    };
    let listed = image
        .used_fields()
        .filter(|field| selected(&field.path, wanted));
    let fields = named.into_iter().chain(listed);
    if args.json {
        write_json(image, args, &defects, fields, out)
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
        Tree::new(defects, out).write(fields)
    }
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
        if field.kind == Kind::Entry {
            let line = format!("{indent}{name} {VALUE}{}{VALUE:#}", text(field));
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
            writeln!(
                self.out,
                "{}{range} {VALUE}{}{VALUE:#}",
                counts.first, counts.value
            )?;
            self.heading.clear();
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
fn text(field: &Field) -> String {
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
