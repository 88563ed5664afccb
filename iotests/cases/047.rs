//! Reopening nodes changes backing files and read-only states while the guest
//! writes; several at once change all or none.
//!
//! group: rw auto quick backing qmp
//! supported_fmt: generic
//! unsupported_imgopts: data_file cluster_size=2M
//! needs: backing qemu-storage-daemon reopen

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let one = t.filled("one", SIZE, 1).await?;
    let two = t.filled("two", SIZE, 2).await?;
    let top = t.image("top").backing(&one).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add_with(&one, "one", json!({"read-only": true})).await?;
    qsd.add_with(&two, "two", json!({"read-only": true})).await?;
    qsd.add_with(&top, "top", json!({"backing": "one"})).await?;
    let export = qsd.export_nbd("top").await?;
    let on =
        |qsd: &Daemon, backing: Value| qsd.node_with(&top, "top", &json!({"backing": backing}));

    t.section("from one backing file to another and to none");
    t.io(&export, ["write -P 5 64k 64k"]).await?;
    for backing in [json!("two"), Value::Null, json!("one")] {
        let options = on(&qsd, backing.clone());
        qsd.run("blockdev-reopen", json!({"options": [options]})).await?;
        let below = match backing.as_str() {
            Some("one") => 1,
            Some(_) => 2,
            None => 0,
        };
        t.io(&export, ["read -P 5 64k 64k".to_owned(), format!("read -P {below} 1M 3M")]).await?;
    }

    t.section("invalid requests change nothing");
    let looped = qsd.node_with(&one, "one", &json!({"read-only": true, "backing": "top"}));
    let nowhere = on(&qsd, json!("nowhere"));
    let itself = on(&qsd, json!("top"));
    // The first would be possible, the second is not.
    let good = on(&qsd, json!("two"));
    let unknown = qsd.node_with(&two, "two", &json!({"read-only": true, "no-such-option": 1}));
    let mut other_driver = on(&qsd, json!("one"));
    other_driver["driver"] = "raw".into();
    let mut unnamed = on(&qsd, json!("one"));
    unnamed["node-name"] = "nowhere".into();
    for (what, options) in [
        ("a loop", json!([looped])),
        ("no such node", json!([nowhere])),
        ("itself", json!([itself])),
        ("an unknown option", json!([unknown])),
        ("the second of two fails", json!([good, unnamed])),
        ("another driver", json!([other_driver])),
        ("a node that is not there", json!([unnamed])),
    ] {
        let refused = qsd.ask("blockdev-reopen", json!({"options": options})).await?.is_err();
        t.log(format!("{what}: {}", if refused { "refused" } else { "done" }));
        t.io(&export, ["read -P 5 64k 64k", "read -P 1 1M 3M"]).quiet().await?;
    }

    t.section("read-only under a writer, and without one");
    let frozen = qsd.node_with(&top, "top", &json!({"backing": "one", "read-only": true}));
    let refused = qsd.ask("blockdev-reopen", json!({"options": [frozen]})).await?.is_err();
    t.log(format!("under a writer: {}", if refused { "refused" } else { "done" }));
    t.io(&export, ["write -P 6 128k 64k", "read -P 6 128k 64k"]).await?;
    qsd.unexport("nbd-top").await?;
    qsd.run("blockdev-reopen", json!({"options": [frozen]})).await?;
    let refused = qsd.export_nbd("top").await.is_err();
    t.log(format!("a writable export of it: {}", if refused { "refused" } else { "made" }));
    let writable = on(&qsd, json!("one"));
    qsd.run("blockdev-reopen", json!({"options": [writable]})).await?;
    let export = qsd.export_nbd("top").await?;
    t.io(&export, ["write -P 7 192k 64k"]).await?;
    qsd.quit().await?;
    t.verify(
        &top,
        &[
            (1, 0, 64 * KIB),
            (5, 64 * KIB, 64 * KIB),
            (6, 128 * KIB, 64 * KIB),
            (7, 192 * KIB, 64 * KIB),
            (1, 256 * KIB, SIZE - 256 * KIB),
        ],
    )
    .await?;
    t.verify(&two, &[(2, 0, SIZE)]).await?;
    t.check(&top).await
}
