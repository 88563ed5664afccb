//! What was past the end after shrinking does not come back when the image
//! grows again, and relative sizes are applied correctly.
//!
//! group: rw auto quick resize zero
//! supported_fmt: raw qcow2 luks
//! needs: resize shrinking
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(8 * MIB).await?;
    let mut model = t.disk_model(8 * MIB);
    let fill = Op::write(0xcc, 0, 8 * MIB);
    t.apply(&img, &mut model, &[fill]).await?;

    for (how, size) in [
        ("--shrink {} 6M", 6 * MIB),
        ("{} +2M", 8 * MIB),
        ("--shrink {} -6M", 2 * MIB),
        ("{} 2097152", 2 * MIB),
        ("{} +512", 2 * MIB + 512),
        ("--shrink {} 65024", 65024),
        ("{} 4M", 4 * MIB),
    ] {
        t.section(how.replace("{} ", ""));
        t.img(format!("resize {}", how.replace("{}", &img.to_string()))).await?;
        model.resize(size);
        if how == "{} 4M" {
            // The rest of the cluster the image ended in may hold what it held.
            model.set(65024, 2 * MIB - 65024, None);
        }
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }

    t.section("written where there was data before");
    let ops = [Op::write(1, 64 * KIB - 512, KIB), Op::write(2, 3 * MIB, 512)];
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;

    t.section("invalid sizes");
    for size in ["+", "-5M --shrink", "x", "+8E", "9223372036854775807", "--5M"] {
        t.img(format!("resize {img} {size}")).fails().quiet().await?;
        t.log(format!("{size}: refused"));
    }
    t.matches(&img, &model).await?;
    t.check(&img).await
}
