//! VHDX.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::vhdx::{Block, BlockState, Headers, Log, LogWrite, Parent, Spec};
use image_formats::{Access, AnyImage, AnySpec, Format, Pattern, Placement, SectorRun};
use proptest::prelude::*;

use crate::common::{program, qemu_img, scratch};
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

fn block(index: u64, state: BlockState, runs: Vec<SectorRun>) -> Block {
    Block { index, state, runs }
}

/// A block of each state, of 1 MiB and sectors of 512 bytes or more.
fn blocks() -> Vec<Block> {
    vec![
        block(
            0,
            BlockState::FullyPresent,
            vec![run(0, 3, 1), run(200, 56, 2)],
        ),
        block(1, BlockState::Zero, Vec::new()),
        block(2, BlockState::Unmapped, Vec::new()),
        block(3, BlockState::Undefined, vec![run(7, 1, 3)]),
        block(4, BlockState::NotPresent, Vec::new()),
        block(5, BlockState::FullyPresent, vec![run(0, 256, 4)]),
    ]
}

fn plain() -> Spec {
    Spec {
        virtual_size: (7 << 20) + 4096,
        blocks: blocks(),
        ..Spec::default()
    }
}

/// The parent of differencing images, all of it data but for the end.
fn base() -> Spec {
    let present = |index| {
        let data = vec![run(0, 2048, 100 + index)];
        block(index, BlockState::FullyPresent, data)
    };
    Spec {
        virtual_size: (7 << 20) + 4096,
        blocks: (0..6).map(present).collect(),
        seed: 77,
        ..Spec::default()
    }
}

fn base_bytes() -> Vec<u8> {
    let files = AnySpec::Vhdx(base()).build("base.vhdx").unwrap();
    files[0].bytes.to_vec(64 << 20).unwrap()
}

fn parent() -> Parent {
    Parent {
        relative_path: Some(".\\base.vhdx".into()),
        absolute_win32_path: Some("\\\\?\\C:\\gone\\base.vhdx".into()),
        seed: 77,
        ..Parent::default()
    }
}

fn differencing() -> Spec {
    let partial = vec![run(0, 1, 11), run(9, 100, 12), run(255, 1, 13)];
    let mut blocks = blocks();
    blocks.push(block(6, BlockState::PartiallyPresent, partial.clone()));
    blocks.retain(|block| block.index != 1);
    blocks.push(block(1, BlockState::PartiallyPresent, partial));
    Spec {
        parent: Some(parent()),
        blocks,
        ..plain()
    }
}

fn logged(log: Log) -> Spec {
    Spec {
        log: Some(log),
        ..plain()
    }
}

/// Images that QEMU reads.
fn read_by_qemu() -> Vec<Spec> {
    vec![
        Spec::default(),
        plain(),
        Spec {
            fixed: true,
            physical_sector_size: 512,
            headers: Headers::First,
            sequence_number: u64::MAX,
            ..plain()
        },
        Spec {
            block_size: 64 << 20,
            virtual_size: 60 << 20,
            blocks: vec![block(0, BlockState::Zero, Vec::new())],
            ..plain()
        },
        Spec {
            block_size: 2 << 20,
            virtual_size: 14 << 20,
            log_length: 3 << 20,
            unknown_region: true,
            user_metadata: vec![b"of a user".to_vec(), Vec::new(), vec![7; 4096]],
            placement: Placement {
                order: vec![5, 3, 1, 4, 2],
                gaps: vec![0, 2, 1],
            },
            creator: "Übung".into(),
            ..plain()
        },
        Spec {
            log_length: 0,
            ..plain()
        },
    ]
}

/// Valid images that QEMU does not read.
fn refused_by_qemu() -> Vec<Spec> {
    let absolute = Parent {
        relative_path: None,
        absolute_win32_path: Some("\\\\?\\base.vhdx".into()),
        linkage2: true,
        ..parent()
    };
    vec![
        // It knows no parents.
        differencing(),
        Spec {
            parent: Some(absolute),
            ..differencing()
        },
        Spec {
            log: Some(Log {
                writes: vec![LogWrite::SectorBitmaps, LogWrite::Bat],
                ..Log::default()
            }),
            ..differencing()
        },
        // It knows no sectors of 4096 bytes.
        Spec {
            logical_sector_size: 4096,
            ..plain()
        },
    ]
}

/// Logs, and whether QEMU leaves the right data when it replays them.
fn logs() -> Vec<(Spec, bool)> {
    let everything = vec![LogWrite::RegionTables, LogWrite::Metadata, LogWrite::Bat];
    vec![
        (logged(Log::default()), true),
        (
            logged(Log {
                writes: everything.clone(),
                sector: 100,
                sequence_number: 1 << 40,
                stale: true,
                ..Log::default()
            }),
            true,
        ),
        // One entry, the data of which is at the start of the log.
        (
            logged(Log {
                sector: 255,
                ..Log::default()
            }),
            true,
        ),
        // It takes the entries at the start of the log for all of them.
        (
            logged(Log {
                writes: everything,
                sector: 251,
                ..Log::default()
            }),
            false,
        ),
        (
            logged(Log {
                writes: Vec::new(),
                sequence_number: u64::MAX - 2,
                ..Log::default()
            }),
            true,
        ),
        // It replays all entries of the log, those before the tail too, and writes over a block.
        (
            logged(Log {
                applied: true,
                ..Log::default()
            }),
            false,
        ),
        // It extends the file only where the new size is no multiple of 1 MiB, which it must be.
        (
            Spec {
                fixed: true,
                ..logged(Log {
                    extends: true,
                    ..Log::default()
                })
            },
            false,
        ),
    ]
}

#[test]
fn images_are_valid() {
    let files = [("base.vhdx", base_bytes())];
    for spec in read_by_qemu() {
        assert_valid(&AnySpec::Vhdx(spec), &files, Qemu::Checks);
    }
    for spec in refused_by_qemu() {
        assert_valid(&AnySpec::Vhdx(spec), &files, Qemu::Refuses);
    }
    // QEMU refuses to replay a log where it may not write.
    for (spec, _) in logs() {
        assert_valid(&AnySpec::Vhdx(spec), &files, Qemu::Refuses);
    }
}

#[test]
fn each_feature_is_in_some_image() {
    let chunks = Spec {
        virtual_size: 5 << 30,
        ..Spec::default()
    };
    let logs = logs().into_iter().map(|(spec, _)| spec);
    let all = read_by_qemu().into_iter().chain(refused_by_qemu());
    let all = all.chain(logs).chain([chunks]).map(AnySpec::Vhdx);
    assert_all_features(&all.collect::<Vec<_>>());
}

/// What the disk has is what was described, whatever QEMU thinks of it.
#[test]
fn differencing_images_show_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &AnySpec::Vhdx(base()).build("base.vhdx").unwrap());
    write(folder, &AnySpec::Vhdx(differencing()).build("i").unwrap());
    let parent = disk(folder, "base.vhdx", Format::Vhdx);
    let data = disk(folder, "i", Format::Vhdx);
    let mut wanted = parent.clone();
    wanted.resize(data.len(), 0);
    for block in [0, 2, 3, 5] {
        wanted[block << 20..][..1 << 20].fill(0);
    }
    for (block, sector, count, seed) in [
        (0, 0, 3, 1),
        (0, 200, 56, 2),
        (5, 0, 256, 4),
        (1, 0, 1, 11),
        (1, 9, 100, 12),
        (1, 255, 1, 13),
        (6, 0, 1, 11),
        (6, 9, 100, 12),
        (6, 255, 1, 13),
    ] {
        let bytes = Pattern::Noise(seed).bytes(count * 512);
        wanted[(block << 20) + sector * 512..][..bytes.len()].copy_from_slice(&bytes);
    }
    assert!(data == wanted);
    // Another parent, and none.
    let other = Spec { seed: 78, ..base() };
    write(folder, &AnySpec::Vhdx(other).build("base.vhdx").unwrap());
    let bytes = fs::read(folder.join("i")).unwrap();
    let image = AnyImage::open(Arc::new(bytes), Format::Vhdx).unwrap();
    let files = Folder(folder);
    let error = image.disk(Access::to(&files)).err().unwrap().to_string();
    assert!(error.contains("'base.vhdx' is not the parent"), "{error}");
    let error = image.disk(Access::to(&())).err().unwrap().to_string();
    assert!(error.contains("base.vhdx', which is not there"), "{error}");
    let names = image.references();
    assert_eq!(names.last().unwrap(), b"base.vhdx");
}

/// QEMU replays a log, and has the same data then.
#[test]
fn qemu_replays_logs() {
    for (spec, right) in logs() {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        write(folder, &AnySpec::Vhdx(spec.clone()).build("i").unwrap());
        let ours = disk(folder, "i", Format::Vhdx);
        // Without the log it is the same.
        let mut whole = spec.clone();
        whole.log = None;
        write(folder, &AnySpec::Vhdx(whole).build("whole").unwrap());
        assert!(disk(folder, "whole", Format::Vhdx) == ours);
        let ran = qemu_img(&["check", "-r", "all", "-f", "vhdx"], &[&folder.join("i")]);
        if !right && !ran.status.success() {
            continue;
        }
        assert!(ran.status.success(), "{spec:?}: {ran:?}");
        assert_eq!(
            disk_of_qemu(folder, "i", Format::Vhdx) == ours,
            right,
            "{spec:?}"
        );
        // And so has what it left.
        assert_eq!(disk(folder, "i", Format::Vhdx) == ours, right, "{spec:?}");
    }
}

/// Blocks of 256 MiB, most of which is a hole, and a disk of many chunks.
#[test]
fn large_blocks_and_disks_stay_small() {
    let large = Spec {
        block_size: 256 << 20,
        virtual_size: 64 << 40,
        blocks: vec![block(
            99,
            BlockState::FullyPresent,
            vec![run(500_000, 8, 5)],
        )],
        ..Spec::default()
    };
    let many = Spec {
        virtual_size: 1 << 40,
        blocks: vec![block(
            1_000_000,
            BlockState::FullyPresent,
            vec![run(5, 8, 5)],
        )],
        ..Spec::default()
    };
    for (spec, at) in [
        (&large, (99 << 28) + 500_000 * 512),
        (&many, (1_000_000 << 20) + 5 * 512),
    ] {
        let files = AnySpec::Vhdx(spec.clone()).build("i").unwrap();
        assert!(files[0].bytes.written_bytes() < 1 << 20);
        let bytes = Arc::new(files[0].bytes.clone());
        let image = AnyImage::open(bytes, Format::Vhdx).unwrap();
        assert_eq!(image.defects().unwrap(), []);
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut data = vec![1; 8 * 512];
        disk.read(at, &mut data).unwrap();
        assert!(data == Pattern::Noise(5).bytes(data.len()));
        disk.read(at - 4096, &mut data).unwrap();
        assert!(data.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn hostile_images_do_no_harm() {
    assert_robust(&AnySpec::Vhdx(differencing()));
    assert_robust(&AnySpec::Vhdx(logged(Log {
        applied: true,
        stale: true,
        ..Log::default()
    })));
}

/// 7-Zip has the same data, or says that it cannot read the image: it replays no logs, and knows
/// neither sectors of 4096 bytes nor parents that have an absolute path alone.
#[test]
fn seven_zip_reads_images() {
    let mut known = read_by_qemu();
    known.push(differencing());
    let logs = logs().into_iter().map(|(spec, _)| spec);
    let others = refused_by_qemu().into_iter().skip(1).chain(logs);
    let known = known.into_iter().map(|spec| (spec, true));
    for (spec, reads) in known.chain(others.map(|spec| (spec, false))) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &AnySpec::Vhdx(base()).build("base.vhdx").unwrap());
        write(
            folder,
            &AnySpec::Vhdx(spec.clone()).build("i.vhdx").unwrap(),
        );
        let ours = disk(folder, "i.vhdx", Format::Vhdx);
        let Some(theirs) = disk_of_7zip(folder, "i.vhdx", "vhdx") else {
            return;
        };
        match theirs {
            Ok(data) => assert!(data == ours, "{spec:?}"),
            Err(text) => assert!(!reads, "{spec:?}: {text}"),
        }
    }
}

/// What a description is drawn from.
#[derive(Clone, Debug)]
struct Drawn {
    states: Vec<(u8, u32, u32)>,
    order: Vec<u32>,
    gaps: Vec<u8>,
    log: Option<(u8, u32)>,
    large_sectors: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        prop::collection::vec((0..5_u8, 0..250_u32, 0..7_u32), 1..5),
        prop::collection::vec(0..9_u32, 0..4),
        prop::collection::vec(0..3_u8, 0..3),
        prop::option::of((0..8_u8, 0..256_u32)),
        any::<bool>(),
    )
        .prop_map(|(states, order, gaps, log, large_sectors)| Drawn {
            states,
            order,
            gaps,
            log,
            large_sectors,
        })
}

impl Drawn {
    fn spec(&self) -> Spec {
        let block_of = |(index, (state, first, count)): (u64, &(u8, u32, u32))| {
            let state = match state {
                0 => BlockState::NotPresent,
                1 => BlockState::Zero,
                2 => BlockState::Unmapped,
                _ => BlockState::FullyPresent,
            };
            let stored = state == BlockState::FullyPresent && *count > 0;
            let runs = stored.then(|| run(*first, *count, index));
            block(index, state, runs.into_iter().collect())
        };
        let writes = |bits: u8| {
            let all = [LogWrite::Bat, LogWrite::RegionTables, LogWrite::Metadata];
            let chosen = all.into_iter().zip(0..);
            chosen.filter(move |(_, bit)| bits >> bit & 1 != 0)
        };
        Spec {
            virtual_size: (self.states.len() as u64) << 20,
            logical_sector_size: if self.large_sectors { 4096 } else { 512 },
            blocks: (0..).zip(&self.states).map(block_of).collect(),
            log: self.log.map(|(bits, sector)| Log {
                writes: writes(bits).map(|(write, _)| write).collect(),
                sector,
                ..Log::default()
            }),
            placement: Placement {
                order: self.order.clone(),
                gaps: self.gaps.clone(),
            },
            ..Spec::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any blocks, log and places: no defects, and the data that was described.
    #[test]
    fn any_image_is_valid(drawn in drawn()) {
        let spec = drawn.spec();
        let sector = spec.logical_sector_size as usize;
        let files = AnySpec::Vhdx(spec.clone()).build("i").unwrap();
        let image = AnyImage::open(Arc::new(files[0].bytes.clone()), Format::Vhdx).unwrap();
        prop_assert_eq!(image.defects().unwrap(), []);
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut data = vec![1; disk.size() as usize];
        disk.read(0, &mut data).unwrap();
        let mut wanted = vec![0; data.len()];
        for block in &spec.blocks {
            for run in &block.runs {
                let bytes = run.data.bytes(run.count as usize * sector);
                let at = ((block.index as usize) << 20) + run.first as usize * sector;
                wanted[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        prop_assert!(data == wanted);
    }

    #[test]
    fn many_mutations_do_no_harm(
        logged_image: bool, steps in prop::collection::vec(any::<(u16, u16)>(), 1..8),
    ) {
        let spec = match logged_image {
            true => logged(Log { stale: true, ..Log::default() }),
            false => differencing(),
        };
        mutate(&AnySpec::Vhdx(spec), &steps);
    }
}

/// Each creation option of `qemu-img`: no defects, fields as asked for, the same data.
#[test]
fn qemu_images_are_read() {
    for (options, block_size) in [
        ("subformat=dynamic", 8 << 20),
        ("subformat=fixed", 8 << 20),
        ("block_size=1M", 1 << 20),
        ("block_size=256M,log_size=2M", 256 << 20),
        ("block_state_zero=off", 8 << 20),
        ("block_state_zero=on,subformat=fixed,block_size=2M", 2 << 20),
    ] {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        let path = folder.join("i");
        let words = ["create", "-q", "-f", "vhdx", "-o", options];
        let ran = Command::new(program("qemu-img"))
            .args(words)
            .arg(&path)
            .arg("11M")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let ran = Command::new(program("qemu-io"))
            .args(["-f", "vhdx", "-c", "write -P 1 600k 1M"])
            .args(["-c", "write -P 2 10M 700k"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        // A block of 256 MiB is a hole mostly.
        let sparse = fs::File::open(&path).unwrap();
        let image = AnyImage::open(Arc::new(Sparse(sparse)), Format::Vhdx).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{options}");
        let value = |path: &str| image.field(path).unwrap().value.as_uint().unwrap();
        assert_eq!(value("file_parameters.block_size"), block_size, "{options}");
        assert_eq!(value("virtual_disk.size"), 11 << 20);
        let fixed = u64::from(options.contains("fixed"));
        assert_eq!(value("file_parameters.flags.leave_block_allocated"), fixed);
        let mut data = vec![0; 11 << 20];
        let mut disk = image.disk(Access::to(&())).unwrap();
        disk.read(0, &mut data).unwrap();
        assert!(data == disk_of_qemu(folder, "i", Format::Vhdx), "{options}");
    }
}

/// A file that is read where it is.
struct Sparse(fs::File);

impl image_formats::ReadAt for Sparse {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |data| data.len())
    }
}
