//! Checks the rules of the format.

mod extensions;
mod header;
mod mapping;
mod records;
mod refcounts;

use crate::defect::{Defect, Defects};
use crate::qcow2::header::MAGIC;
use crate::qcow2::read::layout::{Layout, TableAt};
use crate::qcow2::types::Geometry;
use crate::store::Store;

/// An image whose rules are checked, and what was found so far.
pub(crate) struct Checker<'a> {
    pub(crate) source: &'a Store,
    pub(crate) layout: &'a Layout,
    pub(crate) defects: Defects,
}

/// Checks all rules.
pub(crate) fn check(source: &Store) -> Vec<Defect> {
    let layout = Layout::read(source);
    let mut checker = Checker {
        source,
        layout: &layout,
        defects: Defects::default(),
    };
    header::check(&mut checker);
    extensions::check(&mut checker);
    if let Some(geometry) = layout.geometry.filter(|_| layout.header.magic == MAGIC) {
        mapping::check(&mut checker, geometry);
        records::check(&mut checker, geometry);
        refcounts::check(&mut checker, geometry);
    }
    checker.defects.finish()
}

impl Checker<'_> {
    /// Notes a defect unless the condition holds.
    pub(crate) fn require(
        &mut self,
        holds: bool,
        at: (&str, u64, &'static str),
        rule: impl FnOnce() -> String,
    ) {
        if holds {
            return;
        }
        if self.defects.is_full() {
            self.defects.leave_out(1);
        } else {
            self.defects.add(at.0, at.1, at.2, rule());
        }
    }

    /// A table must be aligned and within the file.
    pub(crate) fn table(
        &mut self,
        table: TableAt,
        geometry: Geometry,
        at: (&str, u64, &'static str),
    ) {
        let offset = table.offset;
        self.require(geometry.is_aligned(offset), at, || {
            format!("must be a multiple of the cluster size, is {offset:#x}")
        });
        let missing = table.declared - table.present;
        self.require(missing == 0 || offset == 0, at, || {
            format!(
                "{missing} of {} entries are outside the file or the limits",
                table.declared
            )
        });
    }
}
