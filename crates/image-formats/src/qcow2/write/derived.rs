//! Fields that follow from others, put right on request.

use crate::io::read_vec;
use crate::qcow2::header::COMPRESSION_TYPE_AT;
use crate::qcow2::image::Image;
use crate::qcow2::read::layout::{Layout, extension_area};
use crate::qcow2::records::{EXT_BITMAPS, EXT_END};
use crate::qcow2::write::head::write_extension;
use crate::qcow2::write::recompute::TooManyReferences;
use crate::qcow2::write::spec::Extension;

/// Fields that follow from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Derived {
    /// The counts in the refcount blocks, see [`Image::recompute_refcounts`].
    Refcounts,
    /// The flag COPIED of the active tables, see [`Image::recompute_copied`].
    Copied,
    /// `l1_size`, `bitmap_directory_size` and `nb_bitmaps`, from the virtual size and
    /// the bitmap directory as they are.
    Lengths,
    /// The feature bits that other fields demand: compression type, bitmaps.
    Features,
}

/// The extensions do not fit into the first cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header extensions take {needed} bytes, the first cluster has room for {room}")]
pub struct NoRoom {
    /// Bytes in all.
    pub needed: u64,
    /// Bytes there are.
    pub room: u64,
}

impl Image {
    /// Puts derived fields right in the image as it is now.
    ///
    /// # Errors
    /// When there are too many references to count.
    pub fn recompute(&mut self, what: Derived) -> Result<(), TooManyReferences> {
        match what {
            Derived::Refcounts => self.recompute_refcounts().map(|_| ()),
            Derived::Copied => {
                self.recompute_copied();
                Ok(())
            }
            Derived::Lengths => {
                self.recompute_lengths();
                Ok(())
            }
            Derived::Features => {
                self.recompute_features();
                Ok(())
            }
        }
    }

    fn recompute_lengths(&mut self) {
        let layout = Layout::read(self.bytes());
        if let Some(geometry) = layout.geometry
            && let Ok(entries) = u32::try_from(geometry.l1_entries_for(layout.header.size))
        {
            self.bytes_mut().write(36, &entries.to_be_bytes());
        }
        let ext = layout
            .extensions
            .iter()
            .find(|ext| ext.kind == EXT_BITMAPS && ext.present >= 24);
        if let Some(ext) = ext.copied() {
            let len = layout
                .bitmaps
                .iter()
                .fold(0_u64, |sum, bitmap| sum.saturating_add(bitmap.len()));
            let count = layout.bitmaps.len() as u32;
            self.bytes_mut().write(ext.offset + 8, &count.to_be_bytes());
            self.bytes_mut().write(ext.offset + 16, &len.to_be_bytes());
        }
    }

    fn recompute_features(&mut self) {
        let layout = Layout::read(self.bytes());
        let header = &layout.header;
        if header.version < 3 {
            return;
        }
        let mut incompatible = header.incompatible;
        let has_type = u64::from(header.header_length) > COMPRESSION_TYPE_AT;
        incompatible.set(
            crate::qcow2::header::Incompatible::COMPRESSION,
            has_type && header.compression_type != 0,
        );
        let mut autoclear = header.autoclear;
        let bitmaps = layout.extensions.iter().any(|ext| ext.kind == EXT_BITMAPS);
        autoclear.set(crate::qcow2::header::Autoclear::BITMAPS, bitmaps);
        self.bytes_mut()
            .write(72, &incompatible.bits().to_be_bytes());
        self.bytes_mut().write(88, &autoclear.bits().to_be_bytes());
    }

    /// The header extensions as they are now, without the end marker.
    #[must_use]
    pub fn extensions(&self) -> Vec<Extension> {
        let layout = Layout::read(self.bytes());
        let known = layout.extensions.iter().filter(|ext| ext.kind != EXT_END);
        known
            .map(|ext| Extension {
                kind: ext.kind,
                data: read_vec(self.bytes(), ext.offset + 8, ext.present as usize),
            })
            .collect()
    }

    /// Writes other header extensions, with an end marker behind them, and moves the
    /// backing file name there. The structure is found anew: paths have the meaning
    /// they have in the new image.
    ///
    /// # Errors
    /// When they do not fit into the first cluster; nothing is changed then.
    pub fn set_extensions(&mut self, extensions: &[Extension]) -> Result<(), NoRoom> {
        let layout = Layout::read(self.bytes());
        let (start, room) = extension_area(&layout.header);
        let name = match layout.backing_name {
            Some(_) => self
                .get("backing_file_name")
                .and_then(|name| name.as_bytes().map(<[u8]>::to_vec)),
            None => None,
        };
        let mut area = Vec::new();
        for extension in extensions {
            write_extension(&mut area, extension);
        }
        write_extension(
            &mut area,
            &Extension {
                kind: EXT_END,
                data: Vec::new(),
            },
        );
        let name_at = start + area.len() as u64;
        area.extend(name.as_deref().unwrap_or_default());
        let needed = area.len() as u64;
        if needed > room {
            return Err(NoRoom { needed, room });
        }
        // What was there before must not look like one more extension.
        area.resize((needed + 8).min(room) as usize, 0);
        self.bytes_mut().write(start, &area);
        if name.is_some() {
            self.bytes_mut().write(8, &name_at.to_be_bytes());
        }
        self.relocate();
        Ok(())
    }

    /// Puts another backing file name behind the header extensions, with its length.
    /// The structure is found anew.
    ///
    /// # Errors
    /// When it does not fit into the first cluster; nothing is changed then.
    pub fn set_backing_name(&mut self, name: &[u8]) -> Result<(), NoRoom> {
        let layout = Layout::read(self.bytes());
        let (start, room) = extension_area(&layout.header);
        let end = layout
            .extensions
            .last()
            .map_or(start, |ext| ext.offset + 8 + ext.present);
        let at = end.max(start).next_multiple_of(8);
        let needed = (at - start).saturating_add(name.len() as u64);
        if needed > room {
            return Err(NoRoom { needed, room });
        }
        self.bytes_mut().write(at, name);
        self.bytes_mut().write(8, &at.to_be_bytes());
        self.bytes_mut()
            .write(16, &(name.len() as u32).to_be_bytes());
        self.relocate();
        Ok(())
    }
}
