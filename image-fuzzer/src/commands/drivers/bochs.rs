//! Bochs: what the driver takes, which only reads.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Bochs,
    created: &[],
    refused: &[],
    opened: &[],
    lines: &[
        (2, "qemu-img convert -f bochs -O raw -U $test_img out.img"),
        (
            2,
            "qemu-io -r -f bochs -c 'read -v 0 1k' -c 'read 16k 64k' $test_img",
        ),
        (2, "qemu-io -f bochs -c 'write 0 512' $test_img"),
        (1, "qemu-img info -f bochs missing.img"),
        (1, "qemu-img create -f qcow2 -b $test_img -F bochs out.img"),
    ],
    // The header, the catalog, the bitmaps and extents.
    sectors: &[0, 0, 1, 1, 2, 3, 8, 9, 10, 16, 34, 67],
};
