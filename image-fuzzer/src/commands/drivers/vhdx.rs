//! VHDX: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Vhdx,
    created: &[
        (2, "", "2M"),
        (1, "", "0"),
        (1, "", "2G"),
        (1, "", "101G"),
        (1, "", "33T"),
        (2, "subformat=fixed", "2M"),
        (1, "subformat=dynamic,block_size=1M", "3M"),
        (1, "block_size=256M", "1M"),
        (1, "block_size=1000M,log_size=1000", "1M"),
        (1, "log_size=3M", "1M"),
        (2, "block_state_zero=off", "2M"),
        (1, "block_state_zero=off,subformat=fixed", "2M"),
        (1, "block_state_zero=on", "2M"),
    ],
    refused: &[
        (2, "", "65T"),
        (1, "log_size=5G", "1M"),
        (1, "log_size=0", "1M"),
        (1, "block_size=3M", "8M"),
        (1, "subformat=differencing", "1M"),
        (1, "block_state_zero=maybe", "1M"),
    ],
    opened: &[],
    lines: &[
        // No file may be so long.
        (2, "qemu-img create -f vhdx -o subformat=fixed out.img 6G"),
        (1, "qemu-img create -f qcow2 -b $test_img -F vhdx out.img"),
        (3, "qemu-img check -f vhdx -r all $test_img"),
    ],
    // The identifier, headers, region tables, log, metadata and BAT, the blocks.
    sectors: &[
        0, 128, 256, 384, 512, 2048, 2048, 2056, 4096, 4224, 6144, 6152, 8192, 10240,
    ],
};
