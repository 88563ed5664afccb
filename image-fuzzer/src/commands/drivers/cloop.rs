//! Compressed loop: what the driver takes, which only reads.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Cloop,
    created: &[],
    refused: &[],
    opened: &[],
    lines: &[
        (2, "qemu-img convert -f cloop -O raw -U $test_img out.img"),
        (
            2,
            "qemu-io -r -f cloop -c 'read -v 0 1k' -c 'read 4k 64k' $test_img",
        ),
        (2, "qemu-io -f cloop -c 'write 0 512' $test_img"),
        (1, "qemu-img info -f cloop missing.img"),
        (1, "qemu-img create -f qcow2 -b $test_img -F cloop out.img"),
    ],
    // The header and the offsets, the streams.
    sectors: &[0, 0, 0, 1, 1, 2, 4, 8, 16, 32],
};
