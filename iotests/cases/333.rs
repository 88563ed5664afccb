//! A guest on a disk with subclusters and small clusters: random requests, checked and compared.
//!
//! group: rw device
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: qtest extended_l2

use iotests::device::fits;
use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 30, longest: 96 * KIB, discards: true, ..Plan::default() };
    for options in ["extended_l2=on,cluster_size=16k", "cluster_size=512", "lazy_refcounts=on"] {
        t.section(options);
        let setup = Setup::new(2 * MIB).image(options).node(json!({"discard": "unmap"}));
        t.on_each_disk(&setup, fits::one_of_each_bus, async |disk| {
            disk.run(&plan.ops(&mut t.rng(), MIB))?;
            disk.run(&[Op::Flush])?;
            disk.matches()
        })
        .await?;
    }
    Ok(())
}
