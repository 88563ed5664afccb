//! The name of a backing file may be 1023 bytes long, not one more, and not more
//! than the first cluster has room for.
//!
//! group: auto quick qcow2 backing
//! supported_fmt: qcow2
//! supported_proto: file

use iotests::prelude::*;

fn name(length: usize) -> String {
    let dots = "./".repeat((length - 5) / 2);
    format!("{dots}{}", if length.is_multiple_of(2) { "base.b" } else { "bas.b" })
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    for file in ["base.b", "bas.b"] {
        let path = t.path(file);
        std::fs::write(&path, vec![7; 64 * 1024])?;
    }
    t.section("names");
    let made = async |length, options: &str| {
        let top = t.image("top").without_imgopts().options(options).size("64k");
        top.backing_name(name(length), "raw").quiet().await
    };
    for length in [6, 1022, 1023, 1024] {
        let made = made(length, "").await;
        match made {
            Err(_) => t.log(format!("{length} bytes: refused")),
            Ok(top) => {
                t.io(&top, ["read -P 7 0 64k"]).quiet().await?;
                let output = t.peek(&top, "header.backing_file_size")?;
                t.log(format!("{length} bytes: the header has {output}"));
                t.sound(&top)?;
            }
        }
    }

    t.section("in the first cluster of 512 bytes");
    for length in [100, 300, 510] {
        let made = made(length, "cluster_size=512").await;
        match made {
            Err(_) => t.log(format!("{length} bytes: refused")),
            Ok(top) => {
                t.io(&top, ["read -P 7 0 64k"]).quiet().await?;
                t.log(format!("{length} bytes: taken"));
                t.sound(&top)?;
            }
        }
    }

    t.section("changed later");
    let top =
        t.image("top").without_imgopts().options("cluster_size=512").size("64k").quiet().await?;
    t.io(&top, ["write -P 1 0 4k"]).quiet().await?;
    for length in [100, 510] {
        let words = ["rebase", "-u", "-F", "raw", "-b", &name(length), &top.to_string()];
        let status = t.img(words).quiet().any_status().await?.status;
        t.log(format!("{length} bytes: {}", if status == Some(0) { "taken" } else { "refused" }));
        t.verify(&top, &[(1, 0, 4 * KIB), (7, 4 * KIB, 60 * KIB)]).await?;
        t.sound(&top)?;
    }
    for file in ["base.b", "bas.b"] {
        std::fs::remove_file(t.path(file))?;
    }
    Ok(())
}
