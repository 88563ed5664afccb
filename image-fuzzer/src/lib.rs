//! Makes disk images that are valid but for a few chosen lies, and judges what programs do with them.

pub mod image_file;
pub mod set;
pub mod show;
