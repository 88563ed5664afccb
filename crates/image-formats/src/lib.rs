#![doc = include_str!("../README.md")]

mod boundary;
mod defect;
mod field;
mod fixed;
mod format;
mod io;
pub mod luks;
mod model;
mod path;
mod pattern;
pub mod qcow2;
mod row;
mod store;
mod tables;
mod value;

pub use boundary::Surroundings;
pub use defect::Defect;
pub use field::{Field, FieldError, Kind, Place, PlaceError};
pub use format::{AnyImage, Format};
pub use io::{ReadAt, ReadError};
pub use path::{PathSyntax, nearest};
pub use store::Store;
pub use value::{Endian, Value, ValueSyntax};
