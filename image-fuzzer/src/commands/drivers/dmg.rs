//! Apple disk images: what the driver takes, which only reads.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Dmg,
    created: &[],
    refused: &[],
    opened: &[],
    lines: &[
        (2, "qemu-img convert -f dmg -O raw -U $test_img out.img"),
        (
            2,
            "qemu-io -r -f dmg -c 'read -v 0 1k' -c 'read 64k 64k' $test_img",
        ),
        (1, "qemu-io -f dmg -c 'write 0 512' $test_img"),
        (1, "qemu-img create -f qcow2 -b $test_img -F dmg out.img"),
    ],
    sectors: &[0, 1, 2, 4, 8, 16, 32, 64, 128, 256],
};
