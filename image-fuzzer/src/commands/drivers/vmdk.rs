//! VMDK: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Vmdk,
    created: &[
        (2, "", "1M"),
        (1, "", "0"),
        (1, "", "3G"),
        (2, "subformat=monolithicSparse,zeroed_grain=on", "1M"),
        (2, "subformat=monolithicFlat", "1M"),
        (1, "subformat=twoGbMaxExtentSparse", "5G"),
        (1, "subformat=twoGbMaxExtentSparse,zeroed_grain=on", "1M"),
        (1, "subformat=twoGbMaxExtentFlat", "3G"),
        (3, "subformat=streamOptimized", "1M"),
        (1, "subformat=streamOptimized,zeroed_grain=on", "1M"),
        (1, "compat6=on", "1M"),
        (1, "hwversion=7,toolsversion=9221", "1M"),
        (1, "adapter_type=lsilogic", "1M"),
        (1, "adapter_type=buslogic,compat6=on", "1M"),
        (1, "adapter_type=legacyESX", "1M"),
    ],
    refused: &[
        (1, "compat6=on,hwversion=7", "1M"),
        (1, "subformat=monolithicFlat,zeroed_grain=on", "1M"),
        (1, "subformat=vmfs", "1M"),
        (1, "adapter_type=scsi", "1M"),
        (1, "zeroed_grain=maybe", "1M"),
    ],
    opened: &[
        (3, "backing=null-co://"),
        (2, "extents.0.locking=off"),
        (1, "extents.0.driver=null-co"),
        (1, "extents.0.filename=other.img"),
    ],
    lines: &[
        (4, "qemu-img create -f vmdk -F vmdk -b $test_img out.img"),
        (
            2,
            "qemu-img create -f vmdk -F vmdk -b $test_img -o zeroed_grain=on out.img",
        ),
        (
            1,
            "qemu-img create -f vmdk -F vmdk -b $test_img -o subformat=twoGbMaxExtentSparse out.img",
        ),
        (
            1,
            "qemu-img create -f vmdk -F vmdk -b $test_img -o subformat=monolithicFlat out.img",
        ),
        (1, "qemu-img create -f vmdk -F raw -b $test_img out.img"),
        (1, "qemu-img create -f vmdk -b $test_img out.img"),
        (
            1,
            "qemu-img create -f vmdk -u -F vmdk -b missing.img out.img 1M",
        ),
        (
            1,
            "qemu-img create -f vmdk -F vmdk -b missing.img out.img 1M",
        ),
        (
            1,
            "qemu-img create -f vmdk -u -F vmdk -b json:{} out.img 1M",
        ),
        (1, "qemu-img create -f vmdk out 1M"),
        (1, "qemu-img create -f vmdk ./out.img 1M"),
        // No file may be so long.
        (
            2,
            "qemu-img create -f vmdk -o subformat=monolithicFlat out.img 6G",
        ),
        (1, "qemu-img create -f vmdk out.img 9T"),
        (1, "qemu-img create -f qcow2 -b $test_img -F vmdk out.img"),
        (
            3,
            "qemu-io -f vmdk -c 'reopen -o file.filename=other.img' -c 'read 0 512' $test_img",
        ),
        (
            2,
            "qemu-io -f vmdk -c 'reopen -r' -c 'reopen -w' -c 'write 0 64k' $test_img",
        ),
        (2, "qemu-img info -U --output=json $test_img"),
        (
            2,
            "qemu-img info --image-opts driver=vmdk,backing.driver=null-co,file.filename=$test_img",
        ),
    ],
    // The header, the descriptor, the grain directories and tables, the grains.
    sectors: &[0, 0, 1, 2, 20, 21, 22, 23, 24, 26, 30, 40, 64, 128, 256],
};
