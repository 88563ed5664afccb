//! LUKS inside qcow2 keeps data from who has no key, and is read by who has it,
//! through snapshots, resizing and backing files.
//!
//! group: rw auto qcow2 crypto snapshot
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file compat=0.10 refcount_bits=1
//! needs: luks reopen

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().size(SIZE).await?;
    t.write(&base, &[(0x11, 0, SIZE)]).await?;
    let img = t.create(SIZE).encrypted().backing(&base).await?;
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(0x11));
    let plan = Plan { count: 30, ..Plan::default() };
    t.apply(&img, &mut model, &[Op::write(0x5a, 0, MIB)]).await?;
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.sound(&img)?;

    t.section("nothing of it can be read in the file");
    let bytes = std::fs::read(img.file())?;
    let plain = bytes.chunks_exact(512).any(|s| s.iter().all(|b| *b == 0x5a));
    t.log(format!("a sector of the pattern: {plain}"));

    t.section("without the key, with a wrong one");
    let node = |key: &str| {
        format!(
            "driver=qcow2,encrypt.format=luks{key},file.driver=file,file.filename={}",
            img.file().display()
        )
    };
    for (key, secret) in [("", "x"), (",encrypt.key-secret=bad", "wrong")] {
        let object = format!("secret,id=bad,data={secret}");
        let opts = node(key);
        t.img([
            "dd",
            "--object",
            &object,
            "--image-opts",
            &format!("if={opts}"),
            "of=TEST_DIR/out",
            "bs=512",
            "count=1",
        ])
        .fails()
        .quiet()
        .await?;
        t.log(format!("refused; a file was made: {}", t.path("out").exists()));
    }

    t.matches(&img, &model).await?;

    t.section("through a snapshot, larger and back");
    t.img(format!("snapshot -c one {img}")).await?;
    let then = model.clone();
    t.img(format!("resize {img} 3M")).await?;
    model.resize(3 * MIB);
    t.apply(&img, &mut model, &plan.ops(&mut t.rng(), 3 * MIB)).await?;
    t.matches(&img, &model).await?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.matches(&img, &then).await?;
    t.sound(&img)?;

    t.section("brought down into a plain image, and out of it");
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {img} {flat}")).quiet().await?;
    t.matches(&flat, &then).await?;
    t.img(format!("commit {img}")).quiet().await?;
    t.matches(&base, &then).await?;
    t.check(&img).await
}
