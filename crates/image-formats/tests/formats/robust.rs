//! Whatever the bytes: no panic, bounded memory, and the same bytes back.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use image_formats::qcow2::{Disk, GuestError, Image, RecountError};
use image_formats::{AnyImage, FieldError, Format, ReadAt};
use proptest::prelude::*;

use crate::exercise::{BASES, exercise};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn mutated_images(
        base in 0..2_usize,
        edits in prop::collection::vec((0..4096_usize, any::<u8>()), 0..12),
        far in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        len in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.2),
    ) {
        let mut bytes = BASES[base].clone();
        for (at, value) in edits {
            bytes[at] = value;
        }
        for (at, value) in far {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(len.index(bytes.len()));
        }
        exercise(&bytes);
    }

    #[test]
    fn random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), header: bool, version in 2..4_u8) {
        if header && bytes.len() > 8 {
            bytes[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        }
        exercise(&bytes);
    }

    #[test]
    fn fields_set_to_anything(base in 0..2_usize, picks in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..4)) {
        let mut image = Image::open(Arc::new(BASES[base].clone())).unwrap();
        let fields: Vec<_> = image.used_fields().collect();
        for (pick, value) in picks {
            let field = &fields[pick.index(fields.len())];
            if field.place.mask() != 0 {
                image.set(&field.path, value & field.place.mask()).unwrap();
            }
        }
        exercise(&image.bytes().to_vec(1 << 24).unwrap());
    }
}

/// A huge file with a header at its start, followed by one repeated byte.
struct Huge {
    head: Vec<u8>,
    filler: u8,
    len: u64,
}

impl ReadAt for Huge {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (at, byte) in (offset..).zip(&mut buf[..count]) {
            *byte = usize::try_from(at)
                .ok()
                .and_then(|at| self.head.get(at))
                .copied()
                .unwrap_or(self.filler);
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        let hole = self.filler == 0 && offset >= self.head.len() as u64;
        (!hole && offset < self.len).then_some(offset..self.len)
    }
}

#[test]
fn sparse_images_of_a_terabyte_stay_small() {
    // All tables claim to be as long as they can be, in a file of zeros or of ones.
    let mut head = BASES[1].clone();
    for (at, bytes) in [
        (24, &[0x7f, 255, 255, 255, 255, 255, 254, 0][..]),
        (36, &[255; 4]),
        (56, &[255; 4]),
        (60, &[0, 255, 255, 255, 0, 0, 0, 0, 0, 0x10, 0, 0]),
    ] {
        head[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let huge = Huge {
        head,
        filler: 0,
        len: 1 << 40,
    };
    let (image, defects) = Image::decode(Arc::new(huge)).unwrap();
    assert!(!defects.is_empty() && defects.len() <= 4097);
    assert!(image.used_fields().take(100_000).count() > 100);
    assert_eq!(image.bytes().written_bytes(), 0);
}

#[test]
fn the_longest_file_does_not_overflow() {
    for filler in [0, 255] {
        let huge = Huge {
            head: BASES[0][..4096].to_vec(),
            filler,
            len: u64::MAX,
        };
        let image = Image::open(Arc::new(huge)).unwrap();
        assert!(image.used_fields().take(5000).count() > 30);
        for path in [
            "header.l1_size",
            "l1[0]",
            "snapshot[0].name",
            "bitmap[0].table[0]",
        ] {
            let _ = image.field(path);
        }
    }
}

/// An image on a medium that cannot be read from some byte on.
struct Failing {
    bytes: Vec<u8>,
    from: u64,
}

impl ReadAt for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset + buf.len() as u64 > self.from {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.read_at(offset, buf)
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

#[test]
fn a_failed_read_is_not_a_truncated_image() {
    let bytes = BASES[1].clone();
    let open = |from| {
        let bytes = bytes.clone();
        Image::open(Arc::new(Failing { bytes, from }))
    };
    // The header and its extensions cannot be read: the image is not opened.
    let error = open(100).unwrap_err();
    assert_eq!((error.offset, error.kind), (0, io::ErrorKind::Other));
    assert!(error.to_string().contains("bad sector"), "{error}");
    // A table cannot be read: neither its fields nor what is wrong with them are known.
    let table = Image::open(Arc::new(bytes.clone())).unwrap();
    let table = table.get_uint("header.l1_table_offset").unwrap();
    let mut image = open(table).unwrap();
    assert_eq!(image.get_uint("header.version"), Some(3));
    assert_eq!(image.get("l1[0]"), None);
    assert!(matches!(image.field("l1[0]"), Err(FieldError::Read(_))));
    assert!(matches!(image.set("l1[0]", 1), Err(FieldError::Read(_))));
    assert!(image.defects().is_err());
    let guest = image.guest(Disk::Active, None, None);
    assert!(matches!(guest, Err(GuestError::Read(_))));
    assert!(matches!(
        image.recompute_refcounts(),
        Err(RecountError::Read(_))
    ));
    assert!(image.bytes().to_vec(1 << 24).is_err());
    // The same bytes cut off there are an image, with defects.
    let cut = bytes[..table as usize].to_vec();
    assert!(!Image::decode(Arc::new(cut)).unwrap().1.is_empty());
    // What is listed before the failure is known by then.
    let image = open(table).unwrap();
    assert!(image.used_fields().count() > 20);
    assert!(image.bytes().check_reads().is_err());
    // Of a raw image nothing is read to open it.
    let structured = |format: &Format| *format != Format::Raw;
    for format in Format::ALL.into_iter().filter(structured) {
        let bytes = bytes.clone();
        let any = AnyImage::open(Arc::new(Failing { bytes, from: 0 }), format);
        let opened = any.and_then(|any| any.defects());
        assert!(opened.is_err(), "{format}");
    }
}
