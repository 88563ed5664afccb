//! The structure of an image as text, defects marked.

use std::collections::BTreeMap;
use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use image_formats::{Defect, Field, Kind};

use super::field_text::field_text;

pub(super) const HEADING: Style = Style::new().bold();
const VALUE: Style = AnsiColor::Cyan.on_default();
const NOTE: Style = Style::new().dimmed();
const DEFECT: Style = AnsiColor::Red.on_default().bold();

/// Writes fields as a tree: a heading for each structure, a line for each field, for each
/// table entry with its parts, and for each run of equal refcounts.
pub(super) struct Tree<'a> {
    defects: BTreeMap<String, Vec<Defect>>,
    heading: String,
    entry: Option<(String, String)>,
    refcounts: Option<RefcountRun>,
    /// The most entries of a table that are listed.
    most: Option<u64>,
    /// The table that the last entries are of, and how many there were.
    table: (String, u64),
    out: &'a mut dyn Write,
}

/// A run of equal refcounts.
struct RefcountRun {
    first: String,
    last: String,
    value: u64,
}

impl<'a> Tree<'a> {
    /// A tree with `defects`, written to `out`. Tables have been cut to `most` entries.
    pub(super) fn new(defects: Vec<Defect>, most: Option<u64>, out: &'a mut dyn Write) -> Self {
        let mut by_path = BTreeMap::<String, Vec<Defect>>::new();
        for defect in defects {
            by_path.entry(defect.path.clone()).or_default().push(defect);
        }
        Self {
            defects: by_path,
            heading: String::new(),
            entry: None,
            refcounts: None,
            most,
            table: (String::new(), 0),
            out,
        }
    }

    /// Writes `fields`, each with its defects, and then the defects of other paths.
    pub(super) fn write(mut self, fields: impl Iterator<Item = Field>) -> Result<()> {
        for field in fields {
            self.field(&field)?;
        }
        self.flush_entry()?;
        self.flush_refcounts()?;
        self.end_table()?;
        let rest = std::mem::take(&mut self.defects);
        if !rest.is_empty() {
            writeln!(self.out, "{HEADING}elsewhere{HEADING:#}")?;
        }
        for defect in rest.into_values().flatten() {
            writeln!(
                self.out,
                "  {DEFECT}! {}: {}{DEFECT:#}{}",
                defect.path,
                defect.rule,
                reference(&defect)
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
            // Parts of an entry that are 0 are left out.
            if field.value.as_uint().is_none_or(|number| number != 0) && field.kind != Kind::Bytes {
                line.push_str(&format!("  {name} {VALUE}{}{VALUE:#}", field_text(field)));
            }
            if self.defects.contains_key(&field.path) {
                self.flush_entry()?;
                self.write_defects(&field.path, "    ")?;
            }
            return Ok(());
        }
        self.flush_entry()?;
        self.count(&field.path)?;
        if field.kind == Kind::Refcount {
            return self.refcount(field);
        }
        self.flush_refcounts()?;
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
            let line = format!(
                "{indent}{name:<width$} {VALUE}{}{VALUE:#}",
                field_text(field)
            );
            self.entry = Some((field.path.clone(), line));
            return Ok(());
        }
        writeln!(
            self.out,
            "{indent}{name:<26} {VALUE}{:<20}{VALUE:#} {NOTE}at {:#x}{NOTE:#}",
            field_text(field),
            field.offset
        )?;
        self.write_defects(&field.path, indent)
    }

    /// Counts the entries of tables, and says where one may have more than are listed.
    fn count(&mut self, path: &str) -> Result<()> {
        let table = path.rsplit_once('[').map_or("", |(table, _)| table);
        let entry = path.ends_with(']') && !table.is_empty();
        if !entry || table != self.table.0 {
            self.end_table()?;
        }
        if entry {
            let count = self.table.1 + 1;
            self.table = (table.to_owned(), count);
        }
        Ok(())
    }

    /// Says that a table was cut, where it was.
    fn end_table(&mut self) -> Result<()> {
        let (table, count) = std::mem::take(&mut self.table);
        if self.most.is_some_and(|most| count >= most) {
            self.flush_refcounts()?;
            writeln!(self.out, "  {NOTE}{table}: more with --all{NOTE:#}")?;
        }
        Ok(())
    }

    fn flush_entry(&mut self) -> Result<()> {
        if let Some((path, line)) = self.entry.take() {
            writeln!(self.out, "{line}")?;
            self.write_defects(&path, "  ")?;
        }
        Ok(())
    }

    fn refcount(&mut self, field: &Field) -> Result<()> {
        let value = field.value.as_uint().unwrap_or(0);
        let defective = self.defects.contains_key(&field.path);
        if let Some(run) = &mut self.refcounts
            && run.value == value
            && !defective
        {
            field.path.clone_into(&mut run.last);
            return Ok(());
        }
        self.flush_refcounts()?;
        let (first, last) = (field.path.clone(), field.path.clone());
        self.refcounts = Some(RefcountRun { first, last, value });
        if defective {
            self.flush_refcounts()?;
            self.write_defects(&field.path, "  ")?;
        }
        Ok(())
    }

    fn flush_refcounts(&mut self) -> Result<()> {
        if let Some(run) = self.refcounts.take() {
            let range = match run.last.rsplit_once('[') {
                Some((_, index)) if run.first != run.last => {
                    format!(" to {}", index.trim_end_matches(']'))
                }
                _ => String::new(),
            };
            let (block, first) = run.first.rsplit_once('.').unwrap_or(("", &run.first));
            if block != self.heading {
                writeln!(self.out, "{HEADING}{block}{HEADING:#}")?;
                block.clone_into(&mut self.heading);
            }
            writeln!(self.out, "  {first}{range} {VALUE}{}{VALUE:#}", run.value)?;
        }
        Ok(())
    }

    /// Writes the defects of a path, each once.
    fn write_defects(&mut self, path: &str, indent: &str) -> Result<()> {
        for defect in self.defects.remove(path).unwrap_or_default() {
            writeln!(
                self.out,
                "{indent}  {DEFECT}! {}{DEFECT:#}{}",
                defect.rule,
                reference(&defect)
            )?;
        }
        Ok(())
    }
}

/// How binding the rule is and its section of the format's specification, in brackets.
fn reference(defect: &Defect) -> String {
    let text = defect.reference();
    text.map_or_else(String::new, |text| format!(" {NOTE}({text}){NOTE:#}"))
}
