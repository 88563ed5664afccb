//! Checks the rules of the format.

mod extensions;
mod header;
mod mapping;
mod records;
mod refcounts;
mod table;

use crate::defect::{Defect, Defects, Requirement, Rule};
use crate::qcow2::header::MAGIC;
use crate::qcow2::read::layout::{Layout, TableAt};
use crate::qcow2::types::Geometry;
use crate::store::Store;

pub use table::RULES;

/// Which rules are checked, and how much of a hostile image is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All rules.
    All,
    /// The rules that a reader must enforce: of the refcounts only where they are.
    Binding,
}

impl Scope {
    /// `all`, or a small part of it where time matters.
    pub(crate) fn budget(self, all: u64) -> u64 {
        match self {
            Self::All => all,
            Self::Binding => all / 16,
        }
    }
}

/// An image whose rules are checked, and what was found so far.
pub(crate) struct Checker<'a> {
    pub(crate) scope: Scope,
    pub(crate) source: &'a Store,
    pub(crate) layout: &'a Layout,
    pub(crate) defects: Defects,
}

/// Checks the rules of an image, whose structure is `layout`.
pub(crate) fn check(source: &Store, layout: &Layout, scope: Scope) -> Vec<Defect> {
    let mut checker = Checker {
        scope,
        source,
        layout,
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
        at: (&str, u64, Rule),
        text: impl FnOnce() -> String,
    ) {
        let is_left_out =
            |rule: Rule| self.scope == Scope::Binding && rule.requirement == Requirement::Should;
        if holds || is_left_out(at.2) {
            return;
        }
        if self.defects.is_full() {
            self.defects.leave_out(1);
        } else {
            self.defects.add(at.0, at.1, at.2, text());
        }
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
