//! The preallocate filter makes room in the file ahead of writes at its end,
//! gives back what is left when the image is closed, and loses no data.
//!
//! group: rw auto quick io
//! supported_fmt: qcow2 qed parallels
//! supported_proto: file
//! unsupported_imgopts: data_file preallocation cluster_size=2M
//! needs: driver:preallocate

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut node = img.node("top");
    let below = node["file"].take();
    node["file"] = json!({"driver": "preallocate", "prealloc-size": 16 * MIB, "prealloc-align": MIB, "file": below});
    let mut model = t.disk_model(SIZE);
    let ops = Plan { count: 40, longest: 256 * KIB, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    ops.iter().for_each(|op| model.apply(op));
    let mut commands: Vec<String> = ops.iter().map(ToString::to_string).collect();
    commands.extend(model.reads(0, SIZE));

    let mut session = t.session(format!("json:{node}")).await;
    if let Ok(session) = session.as_mut() {
        session.quiet();
        for command in &commands {
            let output = session.run(command).await?;
            ensure!(!output.contains("failed"), "{command}: {output}");
        }
    }
    let open = img.file().metadata()?.len();
    session?.close().await?;
    let closed = img.file().metadata()?.len();
    t.log(format!("there was room ahead: {}", open >= 16 * MIB && open % MIB == 0));
    t.log(format!("it was given back: {}", closed < open));
    t.matches(&img, &model).await?;
    t.check(&img).await
}
