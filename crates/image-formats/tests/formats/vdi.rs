//! VDI.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::vdi::{ImageType, Spec};
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, DiskError, Files, Format, Pattern, Placement,
    ReadAt, Store,
};
use proptest::prelude::*;

use crate::common::{qemu_img, scratch};
use crate::{
    Qemu, any_blocks, any_order, assert_all_features, assert_foreign, assert_reads_as_described,
    assert_robust, assert_robust_when_damaged, assert_valid, convert, disk, disk_of_qemu,
    installed, laid_over, some_data, write,
};

const MIB: usize = 1 << 20;

/// Blocks, of the disk that is `count` of them long.
fn blocks(count: u64) -> Vec<Block> {
    let block = |index| Block {
        index,
        content: match index % 3 {
            2 => Content::Zero,
            _ => Content::Data(Pattern::Noise(index)),
        },
    };
    [0, 2, count - 3, count - 1].map(block).to_vec()
}

fn plain() -> Spec {
    Spec {
        virtual_size: 8 * MIB as u64 - 512,
        blocks: blocks(8),
        ..Spec::default()
    }
}

/// Images that QEMU reads.
fn read_by_qemu() -> Vec<Spec> {
    let data = |blocks: Vec<Block>| {
        let stored = |block: &Block| matches!(block.content, Content::Data(_));
        blocks.into_iter().filter(stored).collect()
    };
    vec![
        Spec::default(),
        plain(),
        Spec {
            image_type: ImageType::Static,
            blocks: data(blocks(8)),
            ..plain()
        },
        Spec {
            logical_geometry: true,
            zero_expand: true,
            comment: "a comment".into(),
            map_offset: 4096,
            data_offset: 1 << 20,
            seed: 7,
            ..plain()
        },
        Spec {
            placement: Placement {
                order: vec![3, 1, 2],
                gaps: vec![1, 0],
            },
            ..plain()
        },
    ]
}

/// Small images, which QEMU refuses: it reads blocks of 1 MiB only, no parents, and version 1.1.
fn refused_by_qemu() -> Vec<Spec> {
    let small = Spec {
        virtual_size: 20 * 4096,
        block_size: 4096,
        blocks: blocks(20),
        ..Spec::default()
    };
    let child = |image_type, version| Spec {
        image_type,
        version,
        parent_seed: Some(1),
        seed: 2,
        blocks: blocks(9),
        ..small.clone()
    };
    vec![
        small.clone(),
        Spec {
            version: 0,
            ..small.clone()
        },
        Spec {
            block_extra: 512,
            ..small.clone()
        },
        child(ImageType::Differencing, 1),
        child(ImageType::Undo, 1),
        child(ImageType::Undo, 0),
        // A parent and no geometry that QEMU does not know.
        Spec {
            image_type: ImageType::Differencing,
            parent_seed: Some(1),
            ..plain()
        },
    ]
}

/// The parent of all images with a parent, and its name.
fn parent() -> (String, Vec<u8>) {
    let spec = AnySpec::Vdi(Spec {
        virtual_size: 8 * 4096,
        block_size: 8192,
        blocks: vec![Block {
            index: 2,
            content: Content::Data(Pattern::Fill(0xab)),
        }],
        ..Spec::default()
    });
    let child = AnySpec::Vdi(Spec {
        image_type: ImageType::Differencing,
        parent_seed: Some(1),
        ..Spec::default()
    });
    let child = child.build("child").unwrap().swap_remove(0).bytes;
    let child = AnyImage::open(Arc::new(child), Format::Vdi).unwrap();
    let name = String::from_utf8(child.references().remove(0)).unwrap();
    let file = spec.build(&name).unwrap().swap_remove(0);
    (name, file.bytes.to_vec(1 << 20).unwrap())
}

#[test]
fn images_are_valid() {
    let (name, parent) = parent();
    let mut below = vec![0; 8 * 4096];
    below[16384..24576].fill(0xab);
    let others = [(name.as_str(), parent)];
    let (read, refused) = (read_by_qemu(), refused_by_qemu());
    for spec in &read {
        assert_valid(&AnySpec::Vdi(spec.clone()), &others, Qemu::Checks);
    }
    for spec in &refused {
        assert_valid(&AnySpec::Vdi(spec.clone()), &others, Qemu::Refuses);
        // What they hold is what was described.
        let Some(folder) = scratch() else { continue };
        fs::write(folder.path().join(&name), &others[0].1).unwrap();
        write(
            folder.path(),
            &AnySpec::Vdi(spec.clone()).build("i").unwrap(),
        );
        let mut data = vec![0; spec.virtual_size as usize];
        if spec.parent_seed.is_some() {
            data[..below.len()].copy_from_slice(&below);
        }
        let wanted = laid_over(data, &spec.blocks, spec.block_size as usize);
        assert!(disk(folder.path(), "i", Format::Vdi) == wanted, "{spec:?}");
    }
    let all: Vec<AnySpec> = read.into_iter().chain(refused).map(AnySpec::Vdi).collect();
    assert_all_features(&all);
}

/// QEMU reads these images, and takes what is before each block for the block.
#[test]
fn bytes_before_blocks_are_not_data() {
    let Some(folder) = scratch() else { return };
    let spec = Spec {
        block_extra: 512,
        blocks: vec![Block {
            index: 0,
            content: Content::Data(Pattern::Count(1)),
        }],
        virtual_size: MIB as u64,
        ..Spec::default()
    };
    write(
        folder.path(),
        &AnySpec::Vdi(spec.clone()).build("i").unwrap(),
    );
    let ours = disk(folder.path(), "i", Format::Vdi);
    assert!(ours == Pattern::Count(1).bytes(MIB));
    let theirs = disk_of_qemu(folder.path(), "i", Format::Vdi);
    assert!(ours[..MIB - 512] == theirs[512..], "something else");
}

/// The only file that there is: its name, and what it holds.
struct Only(String, Store);

impl Files for Only {
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        (name == self.0.as_bytes()).then(|| Arc::new(self.1.clone()) as _)
    }
}

/// A parent is the one that the image was made over.
#[test]
fn other_parents_are_refused() {
    let (name, bytes) = parent();
    let child = AnySpec::Vdi(refused_by_qemu().swap_remove(3));
    let child = child.build("child").unwrap().swap_remove(0).bytes;
    let child = AnyImage::open(Arc::new(child), Format::Vdi).unwrap();
    let open = |path: Option<&str>| {
        let mut parent = AnyImage::open(Arc::new(bytes.clone()), Format::Vdi).unwrap();
        if let Some(path) = path {
            parent.set(path, &[9; 16][..]).unwrap();
        }
        let parent = Only(name.clone(), parent.bytes().clone());
        child.disk(Access::to(&parent)).err()
    };
    assert_eq!(open(None), None);
    for path in ["header.uuid_image", "header.uuid_last_snap"] {
        let damaged = matches!(open(Some(path)), Some(DiskError::Damaged(_)));
        assert!(damaged, "{path}");
    }
    let missing = child.disk(Access::to(&())).err();
    assert_eq!(missing, Some(DiskError::NoFile(name)));
}

/// Another reader has the same data.
#[test]
fn images_are_read_by_7zip() {
    let Some(folder) = scratch().filter(|_| installed("7zz")) else {
        return;
    };
    let folder = folder.path();
    // It takes the number of allocated blocks for how many the file has, gaps or not.
    let gaps = |spec: &Spec| !spec.placement.gaps.is_empty();
    for spec in read_by_qemu().into_iter().filter(|spec| !gaps(spec)) {
        let size = spec.virtual_size as usize;
        let wanted = laid_over(vec![0; size], &spec.blocks, MIB);
        write(folder, &AnySpec::Vdi(spec.clone()).build("i.vdi").unwrap());
        let mut command = Command::new("7zz");
        let ran = command
            .current_dir(folder)
            .args(["x", "-so", "i.vdi"])
            .output();
        assert!(ran.unwrap().stdout == wanted, "{spec:?}");
    }
}

#[test]
fn images_of_qemu_are_known() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    for (i, options) in [&[][..], &["-o", "static=on"], &["-S", "0"]]
        .iter()
        .enumerate()
    {
        let name = format!("{i}.vdi");
        let data = some_data(5 * MIB + 512);
        convert(folder, &data, &name, Format::Vdi, options);
        let image = assert_foreign(folder, &name, Format::Vdi, &data);
        let field = |path: &str| image.field(path).unwrap().value;
        let allocated = [4, 6, 6][i];
        assert_eq!(field("header.blocks_allocated"), allocated.into());
        assert_eq!(field("header.image_type"), [1, 2, 1][i].into());
        assert_eq!(field("header.disk_size"), (data.len() as u64).into());
        assert_eq!(field("header.uuid_image").as_bytes().unwrap().len(), 16);
    }
    let name = folder.join("empty.vdi");
    for size in ["0", "512", "1T"] {
        let ran = qemu_img(&["create", "-f", "vdi"], &[&name, size.as_ref()]);
        assert!(ran.status.success(), "{ran:?}");
        let image = AnyImage::open(Arc::new(fs::read(&name).unwrap()), Format::Vdi).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{size}");
    }
}

#[test]
fn hostile_images_do_no_harm() {
    for spec in &refused_by_qemu()[..4] {
        let spec = AnySpec::Vdi(spec.clone());
        assert_robust(&spec);
        assert_robust_when_damaged(&spec);
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let blocks = any_blocks(true, 40);
    let places = (any_order(), 0..4_u32, 0..4_u32);
    let header = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u32);
    (9..=14_u8, 0..16_u64, blocks, places, header).prop_map(
        |(bits, sectors, blocks, (order, map, data), (fixed, old, geometry, extra))| {
            let dynamic = Spec {
                virtual_size: (40 << bits) - sectors.min((1 << bits) / 512 - 1) * 512,
                block_size: 1 << bits,
                block_extra: if extra == 0 || old { 0 } else { 128 << extra },
                version: u8::from(!old),
                logical_geometry: geometry && !old,
                map_offset: if old { 0 } else { map * 512 },
                data_offset: if old || data == 0 {
                    0
                } else {
                    4096 + data * 512
                },
                blocks,
                placement: Placement {
                    order,
                    gaps: Vec::new(),
                },
                ..Spec::default()
            };
            let stored = |block: &Block| matches!(block.content, Content::Data(_));
            let image_type = match fixed {
                true => ImageType::Static,
                false => ImageType::Dynamic,
            };
            let blocks = dynamic.blocks.iter();
            Spec {
                blocks: blocks.filter(|b| !fixed || stored(b)).cloned().collect(),
                image_type,
                ..dynamic
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What is built is without defects, and reads as it was described.
    #[test]
    fn any_image_reads_as_described(spec in any_spec()) {
        let unit = spec.block_size;
        assert_reads_as_described(&AnySpec::Vdi(spec.clone()), &spec.blocks, unit as usize);
    }
}
