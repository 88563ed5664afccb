//! Images looked into and changed: `show` and `set`.

mod field_text;
mod image_file;
mod json;
pub mod set;
pub mod show;
mod tree;
