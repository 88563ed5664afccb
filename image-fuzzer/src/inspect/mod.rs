//! The inspector of images: `show` and `set`.

pub mod image_file;
pub mod set;
pub mod show;
