//! What is zero in the source is zero in a copy that held something else, and
//! what was never written stays away from a fresh copy.
//!
//! group: rw auto quick mirror backup jobs zero
//! supported_fmt: generic
//! unsupported_fmt: luks
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    t.write(&src, &[(1, 0, MIB), (2, 6 * MIB, 64 * KIB)]).await?;
    t.io(
        &src,
        ["write -z 256k 256k", "write -P 0 512k 64k", "write -P 3 4M 64k", "write -z -u 4M 64k"],
    )
    .await?;
    let seen = [
        (1, 0, 256 * KIB),
        (0, 256 * KIB, 320 * KIB),
        (1, 576 * KIB, MIB - 576 * KIB),
        (0, MIB, 5 * MIB),
        (2, 6 * MIB, 64 * KIB),
        (0, 6 * MIB + 64 * KIB, 2 * MIB - 64 * KIB),
    ];
    for (command, more) in [
        ("blockdev-mirror", json!({})),
        ("blockdev-mirror", json!({"copy-mode": "write-blocking"})),
        ("blockdev-backup", json!({})),
    ] {
        for used in [false, true] {
            t.section(format!(
                "{command}, a target that was {}",
                if used { "in use" } else { "fresh" }
            ));
            let dst = t.image("dst").size(SIZE).quiet().await?;
            if used {
                t.write(&dst, &[(9, 0, SIZE)]).await?;
            }
            let mut qsd = t.qsd("").await?;
            qsd.add(&src, "src").await?;
            qsd.add_with(&dst, "dst", json!({"discard": "unmap", "detect-zeroes": "unmap"}))
                .await?;
            let mut args = json!({"device": "src", "target": "dst", "sync": "full"});
            if let (Some(args), Some(more)) = (args.as_object_mut(), more.as_object()) {
                args.extend(more.clone());
            }
            qsd.job(command, args).await?;
            qsd.quit().await?;
            t.verify(&dst, &seen).await?;
            t.check(&dst).await?;
        }
    }
    Ok(())
}
