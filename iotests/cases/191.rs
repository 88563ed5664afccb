//! LUKS images of every cipher keep their data, hide it in the file, and do
//! not open by another pass phrase.
//!
//! group: rw luks crypto
//! supported_fmt: luks
//! supported_proto: file
//! unsupported_imgopts: cipher-alg cipher-mode ivgen-alg hash-alg

use iotests::prelude::*;

const SIZE: u64 = MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let by = |object: &str| {
        let name = r#"json:{"driver": "luks", "key-secret": "x", "file": {"driver": "file", "filename": "TEST_DIR/t.IMGFMT"}}"#;
        t.io(name, ["read -P 0x5a 0 512"]).options(["--object", object]).quiet()
    };
    for options in [
        "cipher-alg=aes-128,hash-alg=sha512",
        "cipher-alg=serpent-256",
        "cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1",
    ] {
        t.section(options);
        let img = match t.create(SIZE).options(options).quiet().await {
            Ok(img) => img,
            Err(error) if options.contains("serpent") => {
                t.case_not_run(format!(
                    "{options}: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let last = SIZE - 512;
        t.io(
            &img,
            [
                "write -P 0x5a 0 64k",
                &format!("write -P 0x5a {last} 512"),
                "read -P 0x5a 0 64k",
                &format!("read -P 0x5a {last} 512"),
            ],
        )
        .quiet()
        .await?;
        let file = std::fs::read(img.file())?;
        let start = file.len() - usize::try_from(SIZE)?;
        let (one, two) = (&file[start..start + 512], &file[start + 512..start + 1024]);
        ensure!(one.iter().any(|b| *b != 0x5a), "the data is in the file as it is");
        ensure!(one != two, "equal sectors are equal in the file");
        by("secret,id=x,data=wrong").fails().await?;
    }

    t.section("a pass phrase from a file");
    let phrase = t.env().key_secret.clone();
    std::fs::write(t.path("phrase"), &phrase)?;
    by("secret,id=x,file=TEST_DIR/phrase").await?;
    std::fs::write(t.path("phrase"), format!("{phrase}\n"))?;
    by("secret,id=x,file=TEST_DIR/phrase").fails().await?;
    by("secret,id=x,file=TEST_DIR/missing").fails().await?;
    by("secret,id=x").fails().await?;
    std::fs::remove_file(t.path("phrase"))?;
    t.log("as it is in the file, and no other");
    Ok(())
}
