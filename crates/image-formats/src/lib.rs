//! Disk-image formats as data: decode, inspect, change, encode.
//!
//! Decoding never fails: any bytes give a model and a list of [`Defect`]s. Encoding
//! gives back the same bytes, and can write anything a field can hold. Every field has
//! a path, see [`Path`], a kind, and the rule it should obey, see [`Field`].
//!
//! The crate does no I/O (bytes come through [`ReadAt`] and go through [`WriteAt`]),
//! draws no random numbers, and allocates nothing whose size an image chooses freely.

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
