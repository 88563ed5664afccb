//! A device whose queues are shared out to several iothreads (`iothread-vq-mapping`): requests of
//! all queues at once, a reset, and a machine that is stopped and goes on.
//!
//! group: rw device
//! supported_fmt: generic
//! supported_proto: file
//! needs: qtest qemu>=9.0

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let threads = ["-object", "iothread,id=one", "-object", "iothread,id=two"];
    let queues = json!({"num-queues": 4,
        "iothread-vq-mapping": [{"iothread": "one"}, {"iothread": "two"}]});
    t.on_each_disk(
        &Setup::new(2 * MIB).options(threads).json_properties(queues),
        |path| path.to_string() == "q35/virtio-blk-pci/virtio-blk",
        async |disk| {
            let queues = disk.features().queues;
            ensure!(queues == 4, "{queues} queues");
            for round in 0..8u8 {
                let mut pending = Vec::new();
                for queue in 0..queues {
                    let place = (queue as u64 * 8 + u64::from(round)) * 32 * KIB;
                    let op = Op::write(round * 4 + u8::try_from(queue)? + 1, place, 32 * KIB);
                    pending.extend(disk.start_on(queue, &op)?);
                }
                if round == 3 {
                    disk.vm.qmp("stop", json!({})).await?;
                    disk.vm.qmp("cont", json!({})).await?;
                }
                disk.finish(pending)?;
                if round == 5 {
                    disk.reset()?;
                }
            }
            disk.run(&[Op::Flush])?;
            disk.matches()
        },
    )
    .await
}
