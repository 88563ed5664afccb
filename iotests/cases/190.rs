//! LUKS key slots: a second pass phrase opens the image, one that was erased
//! does not, and the last one stays unless force is used.
//!
//! group: rw auto luks crypto
//! supported_fmt: luks
//! supported_proto: file

use iotests::prelude::*;

const SECOND: &str = "secret,id=second,data=another pass phrase";
const WRONG: &str = "secret,id=second,data=no such pass phrase";

/// A name that opens the image by the secret `second`.
const BY_SECOND: &str = r#"json:{"driver": "luks", "key-secret": "second", "file": {"driver": "file", "filename": "TEST_DIR/t.IMGFMT"}}"#;

async fn slots(t: &Test, img: &Image) -> Result<()> {
    let reported = t.info_json(img).await?;
    let slots = reported["format-specific"]["data"]["slots"]
        .as_array()
        .context("info lists no slots")?
        .clone();
    let active: String =
        slots.iter().map(|s| if s["active"] == true { '+' } else { '-' }).collect();
    t.log(format!("slots: {active}"));
    Ok(())
}

/// Changes the slots; the image is opened by one of both pass phrases.
async fn amend(t: &Test, opened: &str, options: &str, fails: bool) -> Result<()> {
    let first = format!("secret,id=first,data={}", t.env().key_secret);
    let run =
        t.img(["amend", "--object", SECOND, "--object", &first, "-o", options, opened]).quiet();
    if fails {
        run.fails().await?
    } else {
        run.await?
    };
    t.log(format!("{options}: {}", if fails { "refused" } else { "done" }));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    let first = img.to_string();
    t.write(&img, &[(1, 0, 64 * KIB)]).await?;
    let by_second = |secret: &'static str| {
        t.io(BY_SECOND, ["read -P 1 0 64k"]).options(["--object", secret]).quiet()
    };
    slots(t, &img).await?;
    by_second(SECOND).fails().await?;

    t.section("a second pass phrase");
    amend(t, &first, "state=active,new-secret=second,keyslot=3,iter-time=10", false).await?;
    slots(t, &img).await?;
    t.verify(&img, &[(1, 0, 64 * KIB)]).await?;
    by_second(SECOND).await?;
    by_second(WRONG).fails().await?;
    t.log("it opens the image, and another one does not");
    amend(t, &first, "state=active,new-secret=second,keyslot=3,iter-time=10", true).await?;
    amend(t, &first, "state=active,new-secret=second,keyslot=8,iter-time=10", true).await?;
    slots(t, &img).await?;

    t.section("without the first");
    amend(t, BY_SECOND, "state=inactive,old-secret=first", false).await?;
    slots(t, &img).await?;
    t.io(&img, ["read 0 512"]).fails().quiet().await?;
    by_second(SECOND).await?;
    t.log("only the second one opens it");

    t.section("the last one");
    amend(t, BY_SECOND, "state=inactive,old-secret=second", true).await?;
    amend(t, BY_SECOND, "state=inactive,keyslot=3", true).await?;
    amend(t, BY_SECOND, "state=inactive,keyslot=0", true).await?;
    slots(t, &img).await?;
    by_second(SECOND).await?;

    t.section("by force");
    t.img(["amend", "--force", "--object", SECOND, "-o", "state=inactive,keyslot=3", BY_SECOND])
        .quiet()
        .await?;
    slots(t, &img).await?;
    by_second(SECOND).fails().await?;
    t.log("nothing opens it");
    Ok(())
}
