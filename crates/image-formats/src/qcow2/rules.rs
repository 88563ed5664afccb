//! The rules of the format, and who breaks them.

use crate::defect::{Defect, Defects};
use crate::io::ReadAt;
use crate::qcow2::layout::Layout;

/// Looks for broken rules.
pub(crate) fn check(source: &dyn ReadAt) -> Vec<Defect> {
    let layout = Layout::read(source);
    let mut defects = Defects::default();
    if layout.header.magic != crate::qcow2::header::MAGIC {
        defects.add(
            "header.magic",
            0,
            super::tree::HEADER,
            format!("must be 0x514649fb, is {:#010x}", layout.header.magic),
        );
    }
    defects.finish()
}
