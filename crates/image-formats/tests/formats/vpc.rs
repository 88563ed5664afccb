//! VPC.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::vpc::{Block, Geometry, Locator, Parent, Platform, Spec};
use image_formats::{
    Access, AnyImage, AnySpec, Format, Pattern, Placement, SectorRun, Store, Value,
};
use proptest::prelude::*;

use crate::common::{program, scratch};
use crate::{
    Folder, Qemu, assert_all_features, assert_robust, assert_valid, disk, disk_of_7zip,
    disk_of_qemu, mutate, write,
};

fn run(first: u32, count: u32, seed: u64) -> SectorRun {
    SectorRun {
        first,
        count,
        data: Pattern::Noise(seed),
    }
}

fn block(index: u64, runs: Vec<SectorRun>) -> Block {
    Block {
        index,
        runs,
        all_sectors: false,
    }
}

/// Blocks of 64 KiB or more.
fn blocks() -> Vec<Block> {
    vec![
        block(0, vec![run(0, 3, 1), run(100, 28, 2)]),
        block(2, vec![run(0, 128, 3)]),
        Block {
            all_sectors: true,
            ..block(3, vec![run(5, 1, 4)])
        },
        block(40, Vec::new()),
        block(41, vec![run(127, 1, 5)]),
    ]
}

fn plain() -> Spec {
    Spec {
        virtual_size: (3 << 20) + 512,
        block_size: 64 << 10,
        blocks: blocks(),
        ..Spec::default()
    }
}

fn images() -> Vec<Spec> {
    vec![
        Spec::default(),
        plain(),
        Spec {
            fixed: true,
            saved_state: true,
            ..plain()
        },
        Spec {
            block_size: 4 << 20,
            virtual_size: 20 << 20,
            blocks: blocks()[..3].to_vec(),
            creator_app: "tap".into(),
            timestamp: 800_000_000,
            ..plain()
        },
        Spec {
            block_size: 4096,
            creator_app: "vs  ".into(),
            spare_entries: 1000,
            blocks: vec![block(0, vec![run(0, 8, 1)]), block(768, vec![run(0, 1, 2)])],
            ..plain()
        },
        Spec {
            virtual_size: 90 * 4 * 17 * 512,
            creator_app: "qemu".into(),
            ..plain()
        },
        // The size of the disk is not the one that the footer has.
        Spec {
            virtual_size: 90 * 4 * 17 * 512,
            current_size: Some(4 << 20),
            geometry: Geometry::Given {
                cylinders: 90,
                heads: 4,
                sectors: 17,
            },
            creator_app: "vpc ".into(),
            creator_os: "Mac ".into(),
            ..plain()
        },
        Spec {
            virtual_size: 90 * 4 * 17 * 512,
            current_size: Some(4 << 20),
            geometry: Geometry::Given {
                cylinders: 90,
                heads: 4,
                sectors: 17,
            },
            creator_app: "vpc ".into(),
            fixed: true,
            ..plain()
        },
        Spec {
            creator_app: "qemu".into(),
            geometry: Geometry::Largest,
            temporary: true,
            placement: Placement {
                order: vec![9, 7, 8, 1, 2],
                gaps: vec![0, 3, 1],
            },
            ..plain()
        },
    ]
}

/// QEMU takes blocks of less than 4096 bytes to have no bitmap, and shows the bitmap as data.
fn tiny_blocks() -> Spec {
    Spec {
        block_size: 512,
        blocks: vec![
            block(0, vec![run(0, 1, 1)]),
            block(6144, vec![run(0, 1, 2)]),
        ],
        ..plain()
    }
}

/// The parent of differencing images, which is as large as they are.
fn base() -> Spec {
    Spec {
        virtual_size: (3 << 20) + 512,
        block_size: 1 << 20,
        blocks: (0..3)
            .map(|index| block(index, vec![run(0, 2048, 100 + index)]))
            .collect(),
        seed: 77,
        ..Spec::default()
    }
}

fn locator(platform: Platform, name: &str, space_in_sectors: bool) -> Locator {
    Locator {
        platform,
        name: name.into(),
        space_in_sectors,
    }
}

fn differencing(locators: Vec<Locator>) -> Spec {
    let mut blocks = blocks();
    blocks[2].all_sectors = false;
    Spec {
        parent: Some(Parent {
            name: "base.vhd".into(),
            locators,
            seed: 77,
            timestamp: 5,
        }),
        blocks,
        ..plain()
    }
}

fn with_parents() -> Vec<Spec> {
    let all = vec![
        locator(Platform::W2ku, "C:\\gone\\base.vhd", false),
        locator(Platform::W2ru, ".\\base.vhd", false),
        locator(Platform::MacX, "file://localhost/gone/base.vhd", true),
        locator(Platform::Wi2r, ".\\base.vhd", true),
        locator(Platform::Wi2k, "C:\\gone\\base.vhd", false),
    ];
    vec![
        differencing(all),
        differencing(vec![locator(Platform::W2ku, "C:\\gone\\base.vhd", true)]),
        differencing(Vec::new()),
    ]
}

#[test]
fn images_are_valid() {
    for spec in images() {
        assert_valid(&AnySpec::Vpc(spec), &[], Qemu::Reads);
    }
    assert_valid(&AnySpec::Vpc(tiny_blocks()), &[], Qemu::Differs);
    let base = AnySpec::Vpc(base()).build("base.vhd").unwrap();
    let base = base[0].bytes.to_vec(64 << 20).unwrap();
    for spec in with_parents() {
        // QEMU takes differencing images for dynamic ones, and shows zeros for the parent's data.
        assert_valid(
            &AnySpec::Vpc(spec),
            &[("base.vhd", base.clone())],
            Qemu::Differs,
        );
    }
}

#[test]
fn each_feature_is_in_some_image() {
    let all = images().into_iter().chain(with_parents());
    assert_all_features(&all.map(AnySpec::Vpc).collect::<Vec<_>>());
}

#[test]
fn differencing_images_show_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &AnySpec::Vpc(base()).build("base.vhd").unwrap());
    let spec = with_parents().remove(0);
    write(folder, &AnySpec::Vpc(spec).build("i").unwrap());
    let data = disk(folder, "i", Format::Vpc);
    let mut wanted = disk(folder, "base.vhd", Format::Vpc);
    wanted.resize(data.len(), 0);
    for (block, sector, count, seed) in [
        (0, 0, 3, 1),
        (0, 100, 28, 2),
        (2, 0, 128, 3),
        (3, 5, 1, 4),
        (41, 127, 1, 5),
    ] {
        let bytes = Pattern::Noise(seed).bytes(count * 512);
        wanted[(block << 16) + sector * 512..][..bytes.len()].copy_from_slice(&bytes);
    }
    assert!(data == wanted);
    let bytes = fs::read(folder.join("i")).unwrap();
    let image = AnyImage::open(Arc::new(bytes), Format::Vpc).unwrap();
    assert_eq!(image.references().last().unwrap(), b"base.vhd");
    // Names are text, in the order of bytes that they have.
    for (path, shown) in [
        ("dynamic.parent_name", "\"base.vhd\" (UTF-16BE)"),
        ("parent_locator[1]", "\".\\base.vhd\" (UTF-16LE)"),
        ("parent_locator[2]", "\"file://localhost/gone/base.vhd\""),
        ("dynamic.parent_locator[0].platform_code", "\"W2ku\""),
        ("footer.creator_app", "\"win \""),
    ] {
        assert_eq!(
            image.field(path).unwrap().value.to_string(),
            shown,
            "{path}"
        );
    }
    // Another parent, and none.
    let other = Spec { seed: 78, ..base() };
    write(folder, &AnySpec::Vpc(other).build("base.vhd").unwrap());
    let files = Folder(folder);
    let error = image.disk(Access::to(&files)).err().unwrap().to_string();
    assert!(error.contains("'base.vhd' is not the parent"), "{error}");
    assert!(image.disk(Access::to(&())).is_err());
}

/// A footer that is lost or damaged is replaced by its copy.
#[test]
fn the_copy_of_the_footer_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &AnySpec::Vpc(plain()).build("i").unwrap());
    let data = disk(folder, "i", Format::Vpc);
    let whole = fs::read(folder.join("i")).unwrap();
    let mut damaged = whole.clone();
    let end = whole.len() - 512;
    damaged[end + 50] ^= 1;
    fs::write(folder.join("i"), damaged).unwrap();
    assert!(disk(folder, "i", Format::Vpc) == data);
    fs::write(folder.join("i"), &whole[..end]).unwrap();
    assert!(disk(folder, "i", Format::Vpc) == data);
}

#[test]
fn hostile_images_do_no_harm() {
    let mut specs = vec![images().remove(2), images().remove(8)];
    specs.push(with_parents().remove(0));
    for spec in specs {
        assert_robust(&AnySpec::Vpc(spec));
    }
}

/// 7-Zip has the same data.
#[test]
fn seven_zip_reads_images() {
    let all = images()
        .into_iter()
        .chain(with_parents())
        .chain([tiny_blocks()]);
    for spec in all {
        if spec.spare_entries > 0 || spec.current_size.is_some() {
            // It wants exactly the entries that are needed, and knows sizes by geometry not at all.
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &AnySpec::Vpc(base()).build("base.vhd").unwrap());
        write(folder, &AnySpec::Vpc(spec.clone()).build("i.vhd").unwrap());
        let ours = disk(folder, "i.vhd", Format::Vpc);
        let Some(theirs) = disk_of_7zip(folder, "i.vhd", "vhd") else {
            return;
        };
        assert!(theirs.as_ref() == Ok(&ours), "{spec:?}: {:?}", theirs.err());
    }
}

/// An image that pyvhd 0.0.1 made of 3.5 MiB, with the map of the table that Xen adds; its data
/// was replaced.
#[test]
fn an_image_for_xen_is_read() {
    let header = "636f6e65637469780000000200010000000000000000020000000000746170000001000300000000\
                  000000000038000000000000003800000069041100000003fffff39e8a96c36d42254d148d2218a7\
                  a597847f";
    let dynamic =
        "6378737061727365ffffffffffffffff0000000000000600000100000000000200200000fffff475";
    let first = Pattern::Noise(1).bytes(2 << 20);
    let second = Pattern::Noise(2).bytes(3 << 19);
    let mut store = Store::new();
    store.resize(0x40_2000);
    let hex = |digits: &str| match format!("hex:{digits}").parse() {
        Ok(Value::Bytes(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    store.write(0, &hex(header));
    store.write(0x200, &hex(dynamic));
    store.write(0x600, &hex("000000060000100e"));
    store.write(
        0x800,
        &hex("74646261746d61700000000000000a000000000100010002ffffff3f"),
    );
    store.write(0xa00, &[0xc0]);
    for (at, data) in [(0xc00, &first), (0x100e * 512, &second)] {
        store.write(at, &[0xff; 512]);
        store.write(at + 512, data);
    }
    store.write(0x40_1e00, &hex(header));
    let image = AnyImage::open(Arc::new(store), Format::Vpc).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    let app = image.field("footer.creator_app").unwrap();
    assert_eq!(app.value.to_string(), "\"tap\"");
    let mut disk = image.disk(Access::to(&())).unwrap();
    let mut data = vec![0; disk.size() as usize];
    disk.read(0, &mut data).unwrap();
    assert!(data == [first, second].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Any blocks and places: no defects, and the data that was described.
    #[test]
    fn any_image_is_valid(
        bits in 9..18_u32,
        blocks in prop::collection::btree_map(0..20_u64, (0..300_u32, 1..300_u32), 0..5),
        order in prop::collection::vec(0..9_u32, 0..4),
        gaps in prop::collection::vec(0..3_u8, 0..3),
        fixed: bool,
        all_sectors: bool,
    ) {
        let sectors = 1 << (bits - 9);
        let blocks = blocks.into_iter().map(|(index, (first, count))| {
            let first = first % sectors;
            let runs = vec![run(first, count.min(sectors - first), index)];
            Block { index, runs, all_sectors }
        });
        let spec = Spec {
            virtual_size: 20 << bits,
            block_size: 1 << bits,
            blocks: blocks.collect(),
            fixed,
            placement: Placement { order, gaps },
            ..Spec::default()
        };
        let files = AnySpec::Vpc(spec.clone()).build("i").unwrap();
        let image = AnyImage::open(Arc::new(files[0].bytes.clone()), Format::Vpc).unwrap();
        prop_assert_eq!(image.defects().unwrap(), []);
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut data = vec![1; disk.size() as usize];
        disk.read(0, &mut data).unwrap();
        let mut wanted = vec![0; data.len()];
        for block in &spec.blocks {
            for run in &block.runs {
                let bytes = run.data.bytes(run.count as usize * 512);
                let at = ((block.index as usize) << bits) + run.first as usize * 512;
                wanted[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        prop_assert!(data == wanted);
    }

    #[test]
    fn many_mutations_do_no_harm(
        which in 0..3_usize, steps in prop::collection::vec(any::<(u16, u16)>(), 1..8),
    ) {
        let all = [plain(), with_parents().remove(0), images().remove(2)];
        mutate(&AnySpec::Vpc(all[which].clone()), &steps);
    }
}

/// Each creation option of `qemu-img`: no defects, the same data.
#[test]
fn qemu_images_are_read() {
    for (options, size) in [
        ("subformat=dynamic", "11M"),
        ("subformat=fixed", "11M"),
        ("subformat=dynamic,force_size=on", "11M"),
        ("subformat=fixed,force_size=on", "11M"),
        ("subformat=dynamic", "60000000"),
        ("subformat=fixed,force_size=on", "1M"),
        ("subformat=dynamic", "1M"),
    ] {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        let path = folder.join("i");
        let ran = Command::new(program("qemu-img"))
            .args(["create", "-q", "-f", "vpc", "-o", options])
            .args([path.as_os_str(), size.as_ref()])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let mut write = Command::new(program("qemu-io"));
        write.args(["-f", "vpc", "-c", "write -P 1 600k 100k"]);
        if size != "1M" {
            write.args(["-c", "write -P 2 5M 3M"]);
        }
        let ran = write.arg(&path).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let bytes = fs::read(&path).unwrap();
        let image = AnyImage::open(Arc::new(bytes), Format::Vpc).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{options} {size}");
        let app = if options.contains("force") {
            "qem2"
        } else {
            "qemu"
        };
        let field = image.field("footer.creator_app").unwrap();
        assert_eq!(field.value, app.into());
        let data = disk(folder, "i", Format::Vpc);
        assert!(data == disk_of_qemu(folder, "i", Format::Vpc), "{options}");
    }
}
