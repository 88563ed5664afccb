//! x-blockdev-amend adds and takes away key slots of an encrypted image that is
//! in use: each pass phrase opens it exactly as long as it should.
//!
//! group: rw crypto jobs
//! supported_fmt: luks
//! needs: qemu-storage-daemon qemu>=10.2

use iotests::prelude::*;

const SIZE: u64 = MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let mut qsd =
        t.qsd("--object secret,id=new,data=other --object secret,id=bad,data=wrong").await?;
    qsd.add(&img, "img").await?;

    t.section("a second pass phrase");
    let amend = |options: Value| {
        let mut all = json!({"driver": "luks"});
        if let (Some(all), Some(options)) = (all.as_object_mut(), options.as_object()) {
            all.extend(options.clone());
        }
        json!({"job-id": "amend", "node-name": "img", "options": all})
    };
    let add = json!({"state": "active", "new-secret": "new", "keyslot": 3, "iter-time": 10});
    qsd.qmp("x-blockdev-amend", amend(add)).await?;
    qsd.conclude("amend", AtReady::Return).await?;
    opens(t, &mut qsd, &img).await?;

    t.section("invalid requests");
    for options in [
        json!({"state": "active", "new-secret": "new", "keyslot": 3, "iter-time": 10}),
        json!({"state": "active", "new-secret": "new", "keyslot": 8, "iter-time": 10}),
        json!({"state": "active", "new-secret": "nowhere", "iter-time": 10}),
        json!({"state": "inactive", "old-secret": "bad"}),
        json!({"state": "inactive", "keyslot": 5}),
    ] {
        qsd.qmp("x-blockdev-amend", amend(options)).await?;
        qsd.conclude("amend", AtReady::Return).await?;
    }
    opens(t, &mut qsd, &img).await?;

    t.section("the first pass phrase goes");
    qsd.qmp("x-blockdev-amend", amend(json!({"state": "inactive", "old-secret": "sec0"}))).await?;
    qsd.conclude("amend", AtReady::Return).await?;
    opens(t, &mut qsd, &img).await?;

    t.section("the last one stays unless forced");
    qsd.qmp("x-blockdev-amend", amend(json!({"state": "inactive", "old-secret": "new"}))).await?;
    qsd.conclude("amend", AtReady::Return).await?;
    qsd.qmp("x-blockdev-amend", amend(json!({"state": "inactive", "keyslot": 3}))).await?;
    qsd.conclude("amend", AtReady::Return).await?;
    opens(t, &mut qsd, &img).await?;
    qsd.quit().await
}

/// Logs which of the pass phrases open the image and show its data.
async fn opens(t: &Test, qsd: &mut Daemon, img: &Image) -> Result<()> {
    for secret in ["sec0", "new", "bad"] {
        let more = json!({"key-secret": secret, "read-only": true});
        let node = qsd.node_with(img, "probe", &more);
        match qsd.ask("blockdev-add", node).await? {
            Ok(_) => {
                let export = qsd.export_nbd_with("probe", json!({"writable": false})).await?;
                t.io(&export, [format!("read -P 1 0 {SIZE}")]).options(["-r"]).quiet().await?;
                qsd.unexport("nbd-probe").await?;
                qsd.run("blockdev-del", json!({"node-name": "probe"})).await?;
                t.log(format!("{secret} opens it"));
            }
            Err(error) => t.log(format!("{secret} does not: {}", error.desc)),
        }
    }
    Ok(())
}
