//! VPC (VHD): what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Vpc,
    created: &[
        (2, "", "1M"),
        (1, "", "0"),
        (1, "", "40M"),
        (1, "", "300M"),
        (1, "", "700M"),
        (1, "", "20G"),
        (1, "", "40G"),
        (1, "", "200G"),
        (2, "subformat=fixed", "1M"),
        (2, "force_size=on", "1M"),
        (1, "force_size=on,subformat=fixed", "1000"),
        (1, "subformat=dynamic,force_size=off", "5M"),
    ],
    refused: &[
        (2, "", "3T"),
        (2, "force_size=on", "3T"),
        (1, "subformat=differencing", "1M"),
        (1, "force_size=maybe", "1M"),
    ],
    opened: &[
        (3, "force_size_calc=chs"),
        (3, "force_size_calc=current_size"),
        (1, "force_size_calc=both"),
    ],
    lines: &[
        // No file may be so long.
        (2, "qemu-img create -f vpc -o subformat=fixed out.img 6G"),
        (1, "qemu-img create -f qcow2 -b $test_img -F vpc out.img"),
        (
            1,
            "qemu-io -f vpc -c 'reopen -o force_size_calc=chs' -c 'write 0 512' $test_img",
        ),
    ],
    // The footer, the header, the BAT, the blocks.
    sectors: &[0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128],
};
