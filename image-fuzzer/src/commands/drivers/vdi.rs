//! VDI: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Vdi,
    created: &[
        (2, "", "1M"),
        (1, "", "0"),
        (1, "", "1000"),
        (1, "", "100G"),
        (3, "static=on", "2M"),
        (1, "static=on", "0"),
        (1, "static=off", "3M"),
    ],
    refused: &[
        (2, "", "2P"),
        (1, "static=maybe", "1M"),
        (1, "cluster_size=64k", "1M"),
        (2, "static=on", "16E"),
    ],
    opened: &[],
    lines: &[
        // No file may be so long.
        (2, "qemu-img create -f vdi -o static=on out.img 6G"),
        (
            1,
            "qemu-img create -f vdi -o static=on,preallocation=full out.img 1M",
        ),
        (1, "qemu-img create -f qcow2 -b $test_img -F vdi out.img"),
    ],
    // The header, the block map, the blocks.
    sectors: &[0, 0, 1, 1, 2, 8, 128, 2048, 2050, 4098],
};
