//! qcow, version 1: what the driver takes.

use image_formats::Format;

use super::Driver;

pub(super) const DRIVER: Driver = Driver {
    format: Format::Qcow,
    created: &[
        (3, "", "1M"),
        (1, "", "1000"),
        (1, "", "5G"),
        (1, "encryption=off", "64k"),
    ],
    refused: &[
        (2, "", "0"),
        (1, "encryption=on", "1M"),
        (1, "encrypt.format=aes", "1M"),
        (1, "encrypt.format=luks", "1M"),
        (1, "encrypt.format=none", "1M"),
        (1, "encrypt.format=aes,encrypt.key-secret=none", "1M"),
        (1, "cluster_size=4k", "1M"),
    ],
    opened: &[
        (3, "backing=null-co://"),
        (1, "backing.driver=null-co"),
        (2, "encrypt.format=aes"),
        (2, "encrypt.format=luks"),
        (1, "encrypt.format=qcow"),
        (1, "encrypt.format=aes,encrypt.key-secret=none"),
    ],
    lines: &[
        (4, "qemu-img create -f qcow -F qcow -b $test_img out.img"),
        (1, "qemu-img create -f qcow -F none -b $test_img out.img"),
        (
            1,
            "qemu-img create -f qcow -u -F raw -b missing.img out.img 1M",
        ),
        (1, "qemu-img create -f qcow -u -F raw -b fat: out.img 1M"),
        (
            2,
            "qemu-img create --object secret,id=key,data=passphrase -f qcow \
             -o encrypt.format=aes,encrypt.key-secret=key out.img 1M",
        ),
        (
            1,
            "qemu-img create --object secret,id=key,data=passphrase -f qcow \
             -o encryption=on,encrypt.key-secret=key out.img 1M",
        ),
        (
            1,
            "qemu-img create --object secret,id=key,data=passphrase -f qcow \
             -o encrypt.format=luks,encrypt.key-secret=key out.img 1M",
        ),
        (
            2,
            "qemu-img convert --object secret,id=other,data=passphrase -f qcow -O qcow \
             -o encrypt.format=aes,encrypt.key-secret=other $test_img out.img",
        ),
        (6, "qemu-img commit -f qcow $test_img"),
        (3, "qemu-img convert -f qcow -O qcow -c $test_img out.img"),
        (
            3,
            "qemu-io -f qcow -c 'write -c -P 5 0 4k' -c 'write -P 6 512 512' -c 'read 0 4k' \
             $test_img",
        ),
        (
            2,
            "qemu-io -f qcow -c 'reopen -r' -c 'reopen -w' -c 'write 0 64k' $test_img",
        ),
        (1, "qemu-img info -f qcow missing.img"),
    ],
    // The header, the tables, the clusters.
    sectors: &[0, 0, 1, 1, 2, 3, 4, 5, 8, 8, 9, 16, 16, 24, 32, 128, 256],
};
