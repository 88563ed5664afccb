//! All that can be done with the bytes of an image of any format, without expecting anything
//! of them.

use std::sync::Arc;

use image_formats::{Access, AnyImage, Derivation, Format, Surroundings};

/// Does all that can be done with an image of `format`.
pub(crate) fn exercise_as(bytes: &[u8], format: Format) {
    let image = AnyImage::open(Arc::new(bytes.to_vec()), format).unwrap();
    image.defects().unwrap();
    image.binding_defects().unwrap();
    let fields: Vec<_> = image.used_fields().take(500).collect();
    let around = Surroundings {
        file_len: bytes.len() as u64,
        cluster_size: image.unit(),
        offsets: &[0x10000],
    };
    for (index, field) in fields.iter().enumerate() {
        // Not all of them: each is looked for from the start.
        if index % 7 == bytes.len() % 7 {
            assert!(image.field(&field.path).is_ok(), "{format} {}", field.path);
        }
        if index % 61 == bytes.len() % 61
            && let Some(value) = field.boundaries(around).into_iter().last()
        {
            let mut changed = image.clone();
            changed.set(&field.path, value).unwrap();
            assert_eq!(changed.get_uint(&field.path), Some(value), "{}", field.path);
        }
    }
    let _ = image.references();
    if let Ok(mut disk) = image.disk(Access::to(&()).unlocked_by(b"passphrase")) {
        let size = disk.size();
        for at in [0, 500, size / 2, size.saturating_sub(600), u64::MAX - 1000] {
            let _ = disk.read(at, &mut [0; 1024]);
        }
    }
    let mut repaired = image.clone();
    repaired.recompute(&[Derivation::Value, Derivation::Copy, Derivation::Checksum]);
    repaired.defects().unwrap();
    let after = image.bytes().to_vec(bytes.len() as u64).unwrap();
    assert!(after == bytes, "looking at the image changed it");
}
