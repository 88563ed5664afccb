//! Checks the rules of the format.

mod extensions;
mod header;
mod mapping;
mod records;
mod refcounts;
mod table;

use crate::checker::{self, Scope};
use crate::defect::{Defect, Rule};
use crate::qcow2::header::MAGIC;
use crate::qcow2::read::layout::{Layout, TableAt};
use crate::qcow2::types::Geometry;
use crate::store::Store;

pub use table::RULES;

/// An image whose rules are checked, and what was found so far.
pub(crate) struct Checker<'a> {
    pub(crate) source: &'a Store,
    pub(crate) layout: &'a Layout,
    pub(crate) notes: checker::Checker,
}

/// Checks the rules of an image, whose structure is `layout`.
pub(crate) fn check(source: &Store, layout: &Layout, scope: Scope) -> Vec<Defect> {
    let mut checker = Checker {
        source,
        layout,
        notes: checker::Checker::new(scope),
    };
    header::check(&mut checker);
    extensions::check(&mut checker);
    let tables = scope != Scope::Header && layout.header.magic == MAGIC;
    if let Some(geometry) = layout.geometry.filter(|_| tables) {
        mapping::check(&mut checker, geometry);
        records::check(&mut checker, geometry);
        if scope != Scope::Tables {
            refcounts::check(&mut checker, geometry);
        }
    }
    checker.notes.finish()
}

impl Checker<'_> {
    /// See [`checker::Checker::require`].
    pub(crate) fn require(
        &mut self,
        holds: bool,
        at: (&str, u64, Rule),
        text: impl FnOnce() -> String,
    ) {
        self.notes.require(holds, at, text);
    }

    /// A table must be `aligned` and should be `inside` the file.
    pub(crate) fn table(
        &mut self,
        table: TableAt,
        geometry: Geometry,
        (path, at): (&str, u64),
        [aligned, inside]: [Rule; 2],
    ) {
        let offset = table.offset;
        self.require(geometry.is_aligned(offset), (path, at, aligned), || {
            format!("must be a multiple of the cluster size, is {offset:#x}")
        });
        let missing = table.declared - table.present;
        self.require(missing == 0 || offset == 0, (path, at, inside), || {
            format!(
                "{missing} of {} entries are outside the file or the limits",
                table.declared
            )
        });
    }
}
