//! Keys of an encrypted image are added, used and taken away one by one, and the
//! last one is not given up.
//!
//! group: auto qcow2 crypto
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: luks

use iotests::prelude::*;

struct Keys<'a> {
    t: &'a Test,
    img: &'a Image,
}

impl Keys<'_> {
    fn node(&self, key: &str) -> String {
        format!(
            "driver=qcow2,encrypt.format=luks,encrypt.key-secret={key},file.driver=file,file.filename={}",
            self.img.file().display()
        )
    }

    async fn amend(&self, key: &str, options: &str) -> Result<bool> {
        let old = format!("secret,id=old,data={key}");
        let words = [
            "amend",
            "--object",
            &old,
            "--object",
            "secret,id=one,data=one",
            "--object",
            "secret,id=two,data=two",
            "-o",
            options,
            "--image-opts",
            &self.node("old"),
        ];
        Ok(self.t.img(words).quiet().any_status().await?.status == Some(0))
    }

    async fn opens(&self) -> Result<()> {
        let mut lines = Vec::new();
        let first = self.t.env().key_secret.as_str();
        for (name, key) in [("the first", first), ("one", "one"), ("two", "two")] {
            let object = format!("secret,id=old,data={key}");
            let status = self
                .t
                .io(self.node("old"), ["read -P 7 0 64k"])
                .options(["--object", &object, "--image-opts"])
                .quiet()
                .any_status()
                .await?
                .status;
            lines.push(format!("{name} {}", if status == Some(0) { "opens" } else { "does not" }));
        }
        self.t.log(lines.join(", "));
        Ok(())
    }
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let first = t.env().key_secret.clone();
    let first = first.as_str();
    let img = t.create("1M").encrypted().await?;
    t.write(&img, &[(7, 0, 64 * KIB)]).await?;
    let keys = Keys { t, img: &img };
    keys.opens().await?;

    for (what, key, options) in [
        ("a second one", first, "encrypt.state=active,encrypt.new-secret=one,encrypt.iter-time=10"),
        (
            "a third one, in a slot of its own",
            "one",
            "encrypt.state=active,encrypt.new-secret=two,encrypt.keyslot=5,encrypt.iter-time=10",
        ),
        (
            "with a wrong one",
            "three",
            "encrypt.state=active,encrypt.new-secret=two,encrypt.iter-time=10",
        ),
        (
            "over one that is in use",
            "one",
            "encrypt.state=active,encrypt.new-secret=one,encrypt.keyslot=5,encrypt.iter-time=10",
        ),
        (
            "in a slot that there is not",
            "one",
            "encrypt.state=active,encrypt.new-secret=one,encrypt.keyslot=8,encrypt.iter-time=10",
        ),
        ("the key that opened it away", "one", "encrypt.state=inactive,encrypt.old-secret=old"),
    ] {
        t.section(what);
        // The key that opens is called `old` as well.
        let done = keys.amend(key, options).await?;
        t.log(if done { "done" } else { "refused" });
        keys.opens().await?;
    }

    t.section("slot 5 away, then the last one");
    for (key, options) in [
        (first, "encrypt.state=inactive,encrypt.keyslot=5"),
        (first, "encrypt.state=inactive,encrypt.keyslot=0"),
    ] {
        let done = keys.amend(key, options).await?;
        t.log(if done { "done" } else { "refused" });
        keys.opens().await?;
    }
    t.verify(&img, &[(7, 0, 64 * KIB)]).await?;
    t.check(&img).await?;
    t.sound(&img)
}
