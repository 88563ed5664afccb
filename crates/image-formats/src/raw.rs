//! Raw images: the bytes of the disk, without any structure. What no format recognises can be
//! opened as it.

use std::sync::Arc;

use crate::disk::RawDisk;
use crate::model::Driver;
use crate::structure::Structure;
use crate::structured::{Schema, Structured};
use crate::value::Endian;

/// Raw images in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "raw",
    probe: |_| false,
    open: |store| Structured::open(store, &SCHEMA),
};

/// The smallest unit in which a disk is read and written, in bytes.
const SECTOR: u64 = 512;

static SCHEMA: Schema = Schema {
    structure: |_| Structure::new(Endian::Big),
    check: |_, _| {},
    disk: |bytes, _| {
        Ok(Box::new(RawDisk {
            bytes: Arc::new(bytes),
        }))
    },
    references: |_| Vec::new(),
    unit: |_| SECTOR,
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{Access, AnyImage, Format};

    #[test]
    fn a_raw_image_is_its_disk_and_has_no_fields() {
        let bytes = Arc::new(b"QFI\xfb is not a header here".to_vec());
        let image = AnyImage::open(bytes.clone(), Format::Raw).unwrap();
        assert_eq!(image.used_fields().count(), 0);
        assert!(image.defects().unwrap().is_empty());
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut read = vec![0; bytes.len()];
        disk.read(0, &mut read).unwrap();
        assert_eq!((disk.size(), &read), (bytes.len() as u64, &*bytes));
        assert_eq!(Format::probe(&b"no image".to_vec()).unwrap(), None);
    }
}
