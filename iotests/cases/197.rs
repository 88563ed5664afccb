//! A folder shown as a FAT disk (vvfat) is one that a FAT reader can read:
//! names, folders in folders, sizes and every byte of the files.
//!
//! group: rw auto quick formats
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:vvfat

use std::collections::BTreeMap;

use iotests::prelude::*;

/// A FAT file system in memory.
struct Fat<'a> {
    /// The file system, from its boot sector on.
    bytes: &'a [u8],
    wide: bool,
    cluster: usize,
    table: usize,
    root: usize,
    root_length: usize,
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8
}

impl<'a> Fat<'a> {
    /// The first partition, or the whole disk where it starts with a file system.
    fn open(disk: &'a [u8]) -> Result<Self> {
        ensure!(disk[510..512] == [0x55, 0xaa], "no boot sector");
        let start = if disk[0] == 0xeb { 0 } else { word(disk, 446 + 8) * 512 };
        let bytes = &disk[start..];
        ensure!(bytes[510..512] == [0x55, 0xaa] && word(bytes, 11) == 512, "no FAT boot sector");
        let table = word(bytes, 14) * 512;
        let root = table + usize::from(bytes[16]) * word(bytes, 22) * 512;
        Ok(Self {
            bytes,
            wide: &bytes[54..59] == b"FAT16",
            cluster: usize::from(bytes[13]) * 512,
            table,
            root,
            root_length: word(bytes, 17) * 32,
        })
    }

    fn next(&self, cluster: usize) -> Option<usize> {
        let (next, end) = if self.wide {
            (word(self.bytes, self.table + 2 * cluster), 0xfff8)
        } else {
            let pair = word(self.bytes, self.table + cluster * 3 / 2);
            (if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }, 0xff8)
        };
        (next < end).then_some(next)
    }

    /// The bytes of a chain of clusters.
    fn chain(&self, first: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = (first >= 2).then_some(first);
        while let Some(cluster) = at.filter(|_| out.len() < self.bytes.len()) {
            let start = self.root + self.root_length + (cluster - 2) * self.cluster;
            out.extend(&self.bytes[start..start + self.cluster]);
            at = self.next(cluster);
        }
        out
    }

    /// Every file below a folder: its path and its bytes.
    fn files(&self, folder: &[u8], path: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let mut long: Vec<u16> = Vec::new();
        for entry in folder.chunks_exact(32).take_while(|e| e[0] != 0) {
            if entry[0] == 0xe5 {
                continue;
            }
            if entry[11] == 0x0f {
                let part = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                let part: Vec<u16> = part.chunks_exact(2).map(|c| word(c, 0) as u16).collect();
                long.splice(0..0, part);
                continue;
            }
            let end = long.iter().position(|c| *c == 0).unwrap_or(long.len());
            let name = match String::from_utf16_lossy(&long[..end]) {
                name if name.is_empty() => short_name(entry),
                name => name,
            };
            long.clear();
            let data = || self.chain(word(entry, 26));
            let path = format!("{path}/{name}");
            match entry[11] {
                _ if entry[0] == b'.' => {}
                kind if kind & 0x08 != 0 => {}
                kind if kind & 0x10 != 0 => self.files(&data(), &path, found),
                _ => {
                    let length = word(entry, 28) | word(entry, 30) << 16;
                    found.insert(path, data().into_iter().take(length).collect());
                }
            }
        }
    }
}

fn short_name(entry: &[u8]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match (part(&entry[..8]), part(&entry[8..11])) {
        (name, ending) if ending.is_empty() => name,
        (name, ending) => format!("{name}.{ending}"),
    }
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let dir = t.path("dir");
    let text: Vec<u8> = (0..70_000).map(|n| (n / 512 + n % 249) as u8).collect();
    let wanted: BTreeMap<String, Vec<u8>> = [
        ("/HELLO.TXT", b"hello\n".to_vec()),
        ("/empty", Vec::new()),
        ("/a name that is longer than thirteen letters.txt", text[..5000].to_vec()),
        ("/sub/one cluster", text[..512].to_vec()),
        ("/sub/deeper/large.bin", text),
    ]
    .map(|(name, data)| (name.to_owned(), data))
    .into();
    std::fs::create_dir_all(dir.join("sub/deeper"))?;
    for (name, data) in &wanted {
        std::fs::write(dir.join(name.trim_start_matches('/')), data)?;
    }

    for (what, options, size) in [
        ("a floppy disk", r#""floppy": true"#, 2949120),
        ("a smaller floppy disk", r#""floppy": true, "fat-type": 12"#, 1474560),
        ("a hard disk, FAT12", r#""fat-type": 12"#, 33030144),
        ("a hard disk, FAT16", r#""fat-type": 16, "label": "IOTEST""#, 528482304),
    ] {
        t.section(what);
        let name = format!(r#"json:{{"driver": "vvfat", "dir": "TEST_DIR/dir", {options}}}"#);
        let reported = t.img(["info", "--output=json", &name]).quiet().await?.json()?;
        t.log(format!("virtual size {}", reported["virtual-size"]));
        ensure!(reported["virtual-size"] == size, "its size is another one");
        t.img(["dd", "-O", "raw", "bs=64k", "count=32", &format!("if={name}"), "of=TEST_DIR/flat"])
            .quiet()
            .await?;
        let disk = std::fs::read(t.path("flat"))?;
        let fat = Fat::open(&disk)?;
        t.log(format!("FAT16: {}", fat.wide));
        let mut found = BTreeMap::new();
        fat.files(&fat.bytes[fat.root..fat.root + fat.root_length], "", &mut found);
        for (name, data) in &found {
            t.log(format!("{name}: {} bytes", data.len()));
        }
        ensure!(found == wanted, "the files are others");
        t.io(&name, ["write 0 512"]).options(["-r"]).fails().quiet().await?;
    }
    for (name, data) in &wanted {
        ensure!(
            std::fs::read(dir.join(name.trim_start_matches('/')))? == *data,
            "{name} has changed"
        );
    }
    std::fs::remove_dir_all(dir)?;
    let _ = std::fs::remove_file(t.path("flat"));
    Ok(())
}
