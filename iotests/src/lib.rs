//! The library numbered image tests are written with.
//!
//! A test is a file `cases/NNN.rs`: a header (see the `testdecl` crate) and
//!
//! ```text
//! use iotests::prelude::*;
//!
//! pub(crate) async fn run(t: &Test) -> Result<()> {
//!     let img = t.create("64M").await?;
//!     t.io(&img, ["write -P 1 0 64k", "read -P 1 0 64k"]).await?;
//!     t.check(&img).await
//! }
//! ```
//!
//! What it logs is compared with `goldens/NNN.out`. `iotests/README.md` shows
//! how to write one.

mod args;
pub mod chain;
pub mod create;
mod ctx;
pub mod daemon;
pub mod damage;
pub mod device;
pub mod disk_model;
pub mod env;
pub mod filter;
pub mod graph;
pub mod guest;
pub mod image;
pub mod io;
pub mod job;
pub mod linux_guest;
pub mod machine;
pub mod migration;
pub mod patch;
pub mod policy;
pub mod probe;
pub mod protocol;
pub mod qmp;
pub mod sample;
pub mod ssh;
pub mod steps;
pub mod support;
pub mod test;
pub mod tls;
pub mod tool;
mod trial;
pub mod words;
pub mod wrap;
pub mod writelog;

pub use env::Env;
pub use probe::Probes;
pub use support::not_run;
pub use test::Test;

/// Everything a test usually needs.
pub mod prelude {
    pub use crate::create::Builder;
    pub use crate::daemon::{Daemon, transaction};
    pub use crate::damage::Counts;
    pub use crate::device::{DeviceDisk, Setup};
    pub use crate::disk_model::{DiskModel, Op, Plan};
    pub use crate::guest::Guest;
    pub use crate::image::Image;
    pub use crate::io::Session;
    pub use crate::job::{AtReady, Conclusion};
    pub use crate::linux_guest::{Bus, LinuxGuest, Sequence};
    pub use crate::protocol::{Server, nbd_name};
    pub use crate::qmp::QmpError;
    pub use crate::steps::Patch;
    pub use crate::test::Test;
    pub use crate::tool::{Expect, Output};
    pub use crate::wrap::Kind;
    pub use crate::writelog::WriteLog;
    pub use crate::{GIB, KIB, MIB, TIB};
    pub use anyhow::{Context as _, Result, anyhow, bail, ensure};
    pub use serde_json::{Value, json};
}

/// Bytes in a kibibyte.
pub const KIB: u64 = 1 << 10;
/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;
/// Bytes in a gibibyte.
pub const GIB: u64 = 1 << 30;
/// Bytes in a tebibyte.
pub const TIB: u64 = 1 << 40;
