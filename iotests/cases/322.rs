//! What a guest reads is copied up from the backing file (`copy-on-read`), and what it writes
//! wins.
//!
//! group: rw device backing
//! supported_fmt: qcow2 qed vmdk
//! supported_proto: file
//! needs: qtest backing driver:copy-on-read
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let setup = Setup::new(2 * MIB).backed().filter(json!({"driver": "copy-on-read"}));
    t.on_each_disk(
        &setup,
        |_| true,
        async |disk| {
            let mut ops = vec![Op::write(1, 64 * KIB, 512)];
            ops.extend([60, 100, 1000].map(|at| Op::Read { offset: at * KIB, length: 8 * KIB }));
            ops.extend([Op::write(2, 1004 * KIB, KIB), Op::Flush]);
            disk.run(&ops)?;
            disk.matches()
        },
    )
    .await
}
