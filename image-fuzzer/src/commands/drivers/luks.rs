//! LUKS: what the driver takes. To make a volume or a key slot takes one to two seconds of
//! computing on purpose, whatever the options, so that few commands do.

use image_formats::Format;

use super::Driver;

/// The command that makes a volume with these options, called and sized so.
macro_rules! create {
    ($options:literal, $image:literal) => {
        concat!(
            "qemu-img create --object secret,id=key,data=passphrase -f luks ",
            "-o key-secret=key,",
            $options,
            " ",
            $image
        )
    };
}

/// The command that changes key slots with these options.
macro_rules! amend {
    ($options:literal) => {
        concat!("qemu-img amend -f luks ", $options, " $test_img")
    };
}

pub(super) const DRIVER: Driver = Driver {
    format: Format::Luks,
    // All need an object that holds the key.
    created: &[],
    refused: &[],
    opened: &[
        (2, "header.driver=file,header.filename=$test_img"),
        (1, "header.driver=file,header.filename=missing.img"),
        (1, "header.driver=null-co"),
        (1, "key-secret=none"),
        (1, "hash-alg=sha1"),
    ],
    lines: &[
        // New volumes.
        (3, create!("iter-time=10", "out.img 1M")),
        (
            1,
            create!(
                "iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,\
                 ivgen-hash-alg=sha256",
                "out.img 1M"
            ),
        ),
        (1, create!("iter-time=10,detached-header=true", "out.img")),
        (
            1,
            "qemu-img convert --object secret,id=new,data=new -O luks -o \
             key-secret=new,iter-time=10,hash-alg=sha1 $test_img out.img",
        ),
        (
            1,
            "qemu-img measure --object secret,id=key,data=passphrase -O luks -o \
             key-secret=key,iter-time=10 --size 1G",
        ),
        (1, create!("iter-time=18446744073709551615", "out.img 1M")),
        (1, create!("iter-time=10", "out.img 7E")),
        // Volumes that are refused at once.
        (4, "qemu-img create -f luks out.img 1M"),
        (4, "qemu-img create -f luks -o key-secret=none out.img 1M"),
        (4, create!("cipher-alg=des", "out.img 1M")),
        (4, create!("cipher-alg=3des", "out.img 1M")),
        (4, create!("cipher-alg=cast5-128", "out.img 1M")),
        (
            4,
            create!("ivgen-alg=essiv,ivgen-hash-alg=sha1", "out.img 1M"),
        ),
        (
            4,
            create!(
                "cipher-alg=serpent-128,ivgen-alg=essiv,ivgen-hash-alg=sha384",
                "out.img 1M"
            ),
        ),
        (
            4,
            create!(
                "cipher-alg=twofish-192,ivgen-alg=essiv,ivgen-hash-alg=sha512",
                "out.img 1M"
            ),
        ),
        (4, create!("iter-time=10", "missing/out.img 1M")),
        (3, "qemu-img measure -O luks -o key-secret=none --size 1G"),
        (3, "qemu-img measure -O luks -o cipher-alg=none $test_img"),
        // New key slots.
        (3, amend!("-o state=active,new-secret=key,iter-time=10")),
        (
            1,
            amend!(
                "--object secret,id=new,data=new -o \
                 state=active,new-secret=new,keyslot=3,iter-time=10"
            ),
        ),
        (
            1,
            amend!("--force -o state=active,new-secret=key,keyslot=0,iter-time=10"),
        ),
        (
            3,
            amend!("-o state=active,new-secret=key,keyslot=0,iter-time=10"),
        ),
        (4, amend!("-o state=active")),
        (4, amend!("-o state=active,new-secret=key,old-secret=key")),
        (4, amend!("-o state=active,new-secret=key,keyslot=8")),
        (4, amend!("-o state=active,new-secret=none")),
        (2, amend!("-o keyslot=1")),
        // Key slots that are erased.
        (8, amend!("-o state=inactive,old-secret=key")),
        (6, amend!("--force -o state=inactive,old-secret=key")),
        (
            8,
            amend!("--object secret,id=other,data=another -o state=inactive,old-secret=other"),
        ),
        (8, amend!("-o state=inactive,keyslot=0")),
        (6, amend!("-o state=inactive,keyslot=1")),
        (6, amend!("--force -o state=inactive,keyslot=0")),
        (6, amend!("-o state=inactive,old-secret=key,keyslot=0")),
        (4, amend!("-o state=inactive,old-secret=key,keyslot=5")),
        (4, amend!("-o state=inactive,old-secret=none")),
        (4, amend!("-o state=inactive,keyslot=8")),
        (4, amend!("-o state=inactive,new-secret=key")),
        (4, amend!("-o state=inactive,iter-time=10")),
        (4, amend!("-o state=inactive")),
        // The disk.
        (
            8,
            "qemu-img resize -f luks --preallocation=falloc $test_img +64k",
        ),
        (8, "qemu-img resize -f luks $test_img 7E"),
        (
            8,
            "qemu-img convert --image-opts --target-image-opts -n \
             driver=null-co,read-zeroes=on,size=512 driver=luks,file.filename=$test_img",
        ),
        (
            8,
            "qemu-io -f luks -c 'read 0 3M' -c 'write 0 2M' -c 'reopen -r' -c 'read 0 512' \
             $test_img",
        ),
        (
            8,
            "qemu-io --image-opts -c 'write 0 64k' -c 'read 0 64k' \
             driver=luks,header.driver=file,header.filename=$test_img,file.driver=null-co,\
             file.size=1M,file.read-zeroes=on",
        ),
        (8, "qemu-img info -f luks --output=json $test_img"),
        (2, "qemu-img info -f luks missing.img"),
    ],
    // The header, key material, the payload.
    sectors: &[0, 0, 0, 8, 8, 9, 136, 264, 1032, 1033, 2056, 4104],
};
