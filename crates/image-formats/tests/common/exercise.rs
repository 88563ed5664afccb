//! All that can be done with the bytes of an image, without expecting anything of them.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use image_formats::qcow2::{
    Bitmap, BitmapCluster, Cluster, Content, Disk, Encryption, GuestOffset, Image, Pattern,
    Snapshot, Spec, build,
};
use image_formats::{AnyImage, Format, Surroundings};

/// Images with something of everything.
pub(crate) static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let plain = Spec {
        cluster_bits: 9,
        refcount_order: 3,
        virtual_size: 40 << 9,
        clusters: vec![
            Cluster {
                index: 0,
                content: Content::Data(Pattern::Count(1)),
            },
            Cluster {
                index: 2,
                content: Content::Compressed(Pattern::Fill(1)),
            },
            Cluster {
                index: 3,
                content: Content::Zero,
            },
        ],
        snapshots: vec![Snapshot {
            icount: Some(0),
            ..Snapshot::default()
        }],
        bitmaps: vec![Bitmap {
            name: "b".into(),
            granularity_bits: 9,
            enabled: true,
            in_use: false,
            clusters: vec![BitmapCluster::Data(Pattern::Fill(3))],
        }],
        ..Spec::default()
    };
    let extended = Spec {
        cluster_bits: 14,
        extended_l2: true,
        feature_names: true,
        encryption: Some(Encryption::Header(b"LUKS\xba\xbe\0\x01".repeat(80))),
        clusters: vec![Cluster {
            index: 1,
            content: Content::Subclusters {
                allocated: 0xff,
                zero: 0xff00,
                pattern: Some(Pattern::Fill(1)),
            },
        }],
        ..Spec::default()
    };
    let bytes = |spec| build(spec).unwrap().image.bytes().to_vec(1 << 24).unwrap();
    vec![bytes(&plain), bytes(&extended)]
});

/// Does all that can be done with an image.
pub(crate) fn exercise(bytes: &[u8]) {
    let (image, _) = Image::decode(Arc::new(bytes.to_vec())).unwrap();
    let mut again = Cursor::new(Vec::new());
    image.encode(&mut again).unwrap();
    assert!(again.into_inner() == bytes, "encoding changed the image");
    for field in image.used_fields().take(300) {
        assert_eq!(
            image.get(&field.path).as_ref(),
            Some(&field.value),
            "{}",
            field.path
        );
        let around = Surroundings {
            file_len: bytes.len() as u64,
            cluster_size: 512,
            offsets: &[0x10000],
        };
        for value in field.boundaries(around).into_iter().step_by(7) {
            let mut changed = image.clone();
            changed.set(&field.path, value).unwrap();
            assert_eq!(changed.get_uint(&field.path), Some(value), "{}", field.path);
        }
    }
    for disk in [Disk::Active, Disk::Snapshot(0), Disk::Snapshot(1)] {
        if let Ok(mut guest) = image.guest(disk, None, None) {
            let mut buf = [0; 3000];
            for offset in [0, 500, 1 << 20, u64::MAX - 1000] {
                let _ = guest.read(GuestOffset(offset), &mut buf);
            }
        }
    }
    let mut changed = image.clone();
    let _ = changed.recompute_refcounts();
    let _ = Image::decode(Arc::new(changed.bytes().clone())).unwrap();
    for format in Format::ALL.into_iter().skip(1) {
        let any = AnyImage::open(Arc::new(bytes.to_vec()), format).unwrap();
        let _ = any.defects().unwrap();
        for field in any.used_fields().take(100) {
            assert!(any.field(&field.path).is_ok(), "{format} {}", field.path);
        }
    }
}
