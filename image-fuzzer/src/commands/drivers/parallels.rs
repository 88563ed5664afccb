//! Parallels: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Parallels,
    created: &[
        (3, "", "1M"),
        (1, "", "0"),
        (2, "cluster_size=4k", "1M"),
        (1, "cluster_size=1000", "3000"),
        (1, "cluster_size=64k", "5G"),
    ],
    refused: &[
        (1, "cluster_size=2G", "1M"),
        (1, "cluster_size=512", "3T"),
        (1, "cluster_size=x", "1M"),
    ],
    opened: &[
        (3, "prealloc-mode=truncate"),
        (2, "prealloc-mode=truncate,prealloc-size=64k"),
        (2, "prealloc-size=0"),
        (1, "prealloc-size=1M,prealloc-mode=falloc"),
        (1, "prealloc-mode=full"),
        (1, "prealloc-size=x"),
        (
            3,
            "backing.driver=null-co,backing.size=16M,backing.read-zeroes=on",
        ),
        (1, "backing.driver=null-co,backing.size=512"),
    ],
    lines: &[
        (4, "qemu-img info -f parallels $test_img"),
        (4, "qemu-img check -f parallels -r all $test_img"),
        (
            2,
            "qemu-img convert --bitmaps -f parallels -O qcow2 $test_img out.img",
        ),
        (
            3,
            "qemu-io -f parallels -c 'discard 0 4k' -c 'discard 0 64k' -c 'write 0 4k' \
             -c 'write 64k 128k' $test_img",
        ),
        (
            2,
            "qemu-io -d unmap -f parallels -c 'write 0 1M' -c 'discard 0 1M' -c 'write 0 512' \
             -c 'write 512k 64k' $test_img",
        ),
        (
            2,
            "qemu-io -f parallels -c 'write -z 0 1M' -c 'write 0 512' -c flush $test_img",
        ),
        (1, "qemu-img info -f parallels missing.img"),
        (
            1,
            "qemu-img create -f qcow2 -b $test_img -F parallels out.img",
        ),
    ],
    // The header with the BAT, the clusters, the extension.
    sectors: &[0, 0, 0, 1, 8, 8, 16, 24, 32, 63, 64, 128, 2048],
};
