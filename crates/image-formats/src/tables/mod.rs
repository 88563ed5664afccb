//! Headers and tables of the formats other than qcow2, as far as they are flat; each
//! format has a file.

pub(crate) mod bochs;
pub(crate) mod cloop;
pub(crate) mod dmg;
pub(crate) mod parallels;
pub(crate) mod qcow;
pub(crate) mod qed;
pub(crate) mod vdi;
pub(crate) mod vhdx;
pub(crate) mod vmdk;
pub(crate) mod vpc;
