//! References: which one applies, whether an output equals it, and how a new one
//! is written.

mod bless;
mod equal;
mod find;
mod keys;
mod review;
mod unused;

pub use bless::{Bless, Variant, refuse_in_ci};
pub use equal::equal;
pub use find::{NO_REFERENCE, find, no_reference};
pub use keys::Keys;
pub use review::{Answers, Pending, Reviewed, review};
pub use unused::{Unused, unused};
