//! From the bytes of an image to its structures, fields and guest data.

pub(crate) mod any_disk;
pub(crate) mod guest;
pub(crate) mod layout;
pub(crate) mod node;
pub(crate) mod references;
pub(crate) mod scan;
pub(crate) mod tree;
mod walk;
