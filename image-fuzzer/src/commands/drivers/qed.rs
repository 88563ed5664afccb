//! QED: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Qed,
    created: &[
        (3, "", "1M"),
        (2, "cluster_size=4k", "1M"),
        (1, "cluster_size=4k,table_size=2", "100k"),
        (1, "cluster_size=64k,table_size=16", "1G"),
    ],
    refused: &[
        (1, "cluster_size=1000", "1M"),
        (1, "cluster_size=128M", "1M"),
        (1, "table_size=3", "1M"),
        (1, "table_size=32", "1M"),
        (2, "cluster_size=4k,table_size=2", "5G"),
        (1, "cluster_size=x", "1M"),
    ],
    opened: &[
        (3, "backing=null-co://"),
        (1, "backing.driver=null-co"),
        (1, "lazy-refcounts=on"),
    ],
    lines: &[
        (4, "qemu-img create -f qed -F qed -b $test_img out.img"),
        (1, "qemu-img create -f qed -F raw -b $test_img out.img"),
        (
            1,
            "qemu-img create -f qed -u -F raw -b missing.img out.img 1M",
        ),
        (4, "qemu-img commit -f qed $test_img"),
        (3, "qemu-img rebase -u -f qed -b other.img -F raw $test_img"),
        (
            2,
            "qemu-img rebase -u -f qed -b other.img -F qcow2 $test_img",
        ),
        (2, "qemu-img rebase -u -f qed -b '' $test_img"),
        (
            2,
            "qemu-img resize -f qed --preallocation=full $test_img +1M",
        ),
        (2, "qemu-img resize -f qed $test_img +64k"),
        (1, "qemu-img resize -f qed $test_img 7E"),
        (1, "qemu-img resize -f qed --shrink $test_img 4k"),
        (
            3,
            "qemu-io -f qed -c 'aio_write -P 1 0 4k' -c 'aio_write -P 2 64k 4k' \
             -c 'aio_write -P 3 128k 12k' -c 'aio_write -z 4k 64k' -c aio_flush $test_img",
        ),
        (
            3,
            "qemu-io -f qed -c 'write -z 0 64k' -c 'write -z 0 128k' -c 'write -P 4 512 512' \
             -c 'read 0 128k' $test_img",
        ),
        (
            2,
            "qemu-io -f qed -c 'write 0 4k' -c 'reopen -r' -c 'reopen -w' -c 'write 64k 4k' \
             $test_img",
        ),
        (1, "qemu-img info -f qed missing.img"),
    ],
    // The header, the tables, the clusters.
    sectors: &[
        0, 0, 1, 8, 8, 16, 16, 24, 24, 32, 40, 48, 56, 64, 80, 128, 256, 384,
    ],
};
