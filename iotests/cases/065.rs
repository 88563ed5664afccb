//! Whatever options the target is made with, it holds what the source holds.
//!
//! group: rw auto quick convert
//! supported_fmt: generic
//! unsupported_proto: nbd fuse ssh
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 5 * MIB + 512;

/// Options of each format, each list tried by itself.
fn lists(format: &str) -> &'static [&'static str] {
    match format {
        "qcow2" => &[
            "compat=0.10",
            "cluster_size=512",
            "cluster_size=2M",
            "refcount_bits=1",
            "refcount_bits=64,cluster_size=4k",
            "lazy_refcounts=on",
            "extended_l2=on",
            "preallocation=metadata,cluster_size=128k",
        ],
        "qcow" => &["size=6M"],
        "qed" => &["cluster_size=4k", "cluster_size=128k,table_size=2", "table_size=16"],
        "vdi" => &["static=on"],
        "vpc" => &["subformat=fixed", "subformat=dynamic"],
        "vhdx" => &[
            "subformat=fixed",
            "block_size=1M",
            "block_size=32M,log_size=2M",
            "block_state_zero=off",
        ],
        "vmdk" => &[
            "subformat=monolithicSparse,zeroed_grain=on",
            "subformat=monolithicFlat",
            "subformat=twoGbMaxExtentSparse",
            "subformat=twoGbMaxExtentFlat",
            "adapter_type=lsilogic,hwversion=7",
            "compat6=on",
        ],
        "parallels" => &["cluster_size=64k", "cluster_size=4M"],
        "luks" => &["cipher-alg=aes-128", "cipher-mode=cbc,ivgen-alg=plain64", "hash-alg=sha512"],
        _ => &["preallocation=falloc", "preallocation=full", "nocow=on"],
    }
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").format("raw").size(SIZE).quiet().await?;
    let mut model = DiskModel::new(SIZE);
    let plan = Plan { count: 30, longest: 200 * KIB, ..Plan::default() };
    t.apply(&src, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;

    let out = t.image("out").size(MIB).without_imgopts().quiet().await?;
    for options in lists(t.format()) {
        let done = async {
            t.img(format!("convert -o {options} -O IMGFMT {src} {out}")).quiet().await?;
            let size = t.virtual_size(&out).await?;
            ensure!(size >= SIZE, "{size} bytes");
            t.io(&out, model.reads(0, SIZE)).options(["-r"]).quiet().await?;
            t.img(format!("compare -q {src} {out}")).quiet().await?;
            let output = t.img(format!("check {out}")).any_status().quiet().await?;
            ensure!(
                matches!(output.status, Some(0 | 63)),
                "qemu-img check printed: {}",
                output.text()
            );
            // The target is as good as any other: it takes writes.
            t.io(&out, [format!("write -P 0x3c {} 1024", SIZE - 1024)]).quiet().await?;
            t.io(&out, [format!("read -P 0x3c {} 1024", SIZE - 1024)]).quiet().await?;
            Ok(())
        };
        done.await.with_context(|| format!("with {options}"))?;
        for extent in std::fs::read_dir(t.path(""))? {
            let extent = extent?;
            // The extents of a VMDK image in several files.
            if extent.file_name().to_string_lossy().starts_with("out-") {
                std::fs::remove_file(extent.path())?;
            }
        }
    }
    t.log("all targets hold what the source holds");

    t.section("options that are none");
    for options in ["unknown=1", "size=x", "=", "preallocation=none"] {
        t.img(format!("convert -o {options} -O IMGFMT {src} TEST_DIR/none"))
            .fails()
            .quiet()
            .await?;
        t.log(format!("{options}: refused"));
    }
    Ok(())
}
