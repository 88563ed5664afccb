//! Headers and tables of the formats other than qcow2, as far as they are flat; each
//! format has a file.

pub(crate) mod bochs;
pub(crate) mod cloop;
pub(crate) mod parallels;
pub(crate) mod qcow;
pub(crate) mod vdi;
pub(crate) mod vhdx;
pub(crate) mod vmdk;
pub(crate) mod vpc;

use crate::defect::{Requirement, Rule};

/// The rule of a signature.
pub(crate) const SIGNATURE: Rule = Rule {
    name: "signature",
    requirement: Requirement::Must,
    section: "",
};

/// The rule of a checksum.
pub(crate) const CHECKSUM: Rule = Rule {
    name: "checksum",
    requirement: Requirement::Must,
    section: "",
};

/// The row of a format in the table of formats: its name, how its images are recognised, and
/// the structure that `structure` finds in one.
macro_rules! driver {
    ($name:literal, $probe:expr) => {
        /// This format in the table of formats.
        pub(crate) const DRIVER: $crate::model::Driver = $crate::model::Driver {
            name: $name,
            probe: $probe,
            open: |store| $crate::structured::Structured::open(store, &SCHEMA),
        };

        static SCHEMA: $crate::structured::Schema = $crate::structured::Schema {
            structure,
            check: |_, _| (),
            disk: |_, _| Err($crate::disk::DiskError::Unsupported($name.to_owned())),
            references: |_| Vec::new(),
            unit: |_| 512,
        };
    };
}
pub(crate) use driver;
