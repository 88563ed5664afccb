//! From a [`Spec`] to a valid image.

mod bitmaps;
mod data;
mod disks;
mod mapping;
mod snapshots;
mod validate;

use std::sync::Arc;

use self::data::Streams;
use self::disks::DiskPlan;
use self::validate::validate;
use crate::luks::SectorCipher;
use crate::qcow2::image::Image;
use crate::qcow2::types::Geometry;
use crate::qcow2::write::head::write_head;
use crate::qcow2::write::plan::{Part, Plan, PlanError};
use crate::qcow2::write::recompute::recompute;
use crate::qcow2::write::spec::{Encryption, Spec};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// An image and its external data file.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// The external data file, if the image has one.
    pub data_file: Option<Store>,
}

/// Lays out and writes the image that `spec` describes. The same `spec` gives the same
/// bytes, and `qemu-img check` finds neither errors nor leaks in them.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec) -> Result<Built, SpecError> {
    let geometry = validate(spec)?;
    let mut builder = Builder {
        spec,
        geometry,
        plan: Plan::default(),
        store: Store::new(),
        data_file: spec.data_file.as_ref().map(|_| Store::new()),
        disks: Vec::new(),
        streams: None,
        cipher: spec.encryption.as_ref().and_then(Encryption::cipher),
    };
    builder.run()
}

struct Builder<'a> {
    spec: &'a Spec,
    geometry: Geometry,
    plan: Plan,
    store: Store,
    data_file: Option<Store>,
    disks: Vec<DiskPlan>,
    streams: Option<Streams>,
    /// What guest data is encrypted with.
    cipher: Option<SectorCipher>,
}

/// Bytes that are written when their part is placed.
struct Piece {
    part: usize,
    /// Byte offset within the part.
    within: u64,
    data: Vec<u8>,
    /// Whether they are the guest's, and so encrypted where the image is.
    of_guest: bool,
}

type Contents = Vec<Piece>;

impl Piece {
    /// Bytes for the start of a part, as they are.
    fn plain(part: usize, data: Vec<u8>) -> Self {
        Self {
            part,
            within: 0,
            data,
            of_guest: false,
        }
    }

    /// A cluster of guest data.
    fn guest(part: usize, data: Vec<u8>) -> Self {
        Self {
            of_guest: true,
            ..Self::plain(part, data)
        }
    }
}

impl Builder<'_> {
    fn run(&mut self) -> Result<Built, SpecError> {
        let mut contents = Contents::new();
        self.plan_disks(&mut contents)?;
        let snapshot_table = self.snapshot_table_len();
        let snapshots = (snapshot_table > 0).then(|| self.add(snapshot_table));
        let bitmaps = self.plan_bitmaps(&mut contents)?;
        let luks = self.spec.encryption.as_ref().map(|encryption| {
            let header = encryption.header();
            let len = header.len() as u64;
            let part = self.add(len);
            contents.push(Piece::plain(part, header.into_owned()));
            (part, len)
        });
        let placement = &self.spec.placement;
        self.plan
            .place(
                self.geometry,
                self.spec.refcount_table_clusters.into(),
                placement,
            )
            .map_err(|error: PlanError| SpecError(error.to_string()))?;
        for mut piece in contents {
            let at = self.at(piece.part) + piece.within;
            if let Some(cipher) = self.cipher.as_ref().filter(|_| piece.of_guest) {
                cipher.encrypt(at, &mut piece.data);
            }
            self.store.write(at, &piece.data);
        }
        self.write_refcount_table();
        self.write_disks()?;
        let snapshots = snapshots.map(|part| self.write_snapshots(part));
        let directory = self.write_bitmaps(&bitmaps);
        let head = write_head(
            self.spec,
            self.geometry,
            &self.plan,
            (self.at(self.disks[0].l1_part), self.disks[0].l1_size),
            snapshots,
            directory,
            luks.map(|(part, len)| (self.at(part), len)),
        )?;
        self.store.write(0, &head);
        self.store
            .resize(self.plan.total_clusters() * self.geometry.cluster_size());
        self.finish()
    }

    /// Everything is in place except for the reference counts and what depends on them.
    fn finish(&mut self) -> Result<Built, SpecError> {
        let mut store = std::mem::take(&mut self.store);
        let largest = recompute(&mut store).map_err(|error| SpecError(error.to_string()))?;
        let limit = self.geometry.max_refcount();
        ensure!(
            largest <= limit,
            "a refcount of {largest} does not fit into its width"
        );
        if let Some(file) = &mut self.data_file {
            file.resize(self.spec.virtual_size);
        }
        Ok(Built {
            image: Image::over(Store::over(Arc::new(store))),
            data_file: self.data_file.take(),
        })
    }

    fn add(&mut self, bytes: u64) -> usize {
        self.plan
            .add(Part::clusters(self.geometry.clusters_for(bytes)))
    }

    fn at(&self, part: usize) -> u64 {
        self.plan.offset(part, self.geometry)
    }

    fn write_refcount_table(&mut self) {
        let table = self.plan.refcount_table_offset(self.geometry);
        let blocks = self.plan.refcount_block_offsets(self.geometry);
        let words: Vec<u8> = blocks
            .iter()
            .flat_map(|offset| offset.to_be_bytes())
            .collect();
        self.store.write(table, &words);
    }
}
