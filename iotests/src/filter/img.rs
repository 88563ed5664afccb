//! What `qemu-img`'s subcommands print.

use std::sync::LazyLock;

use bstr::ByteSlice;
use regex::bytes::Regex;

/// What of `qemu-img info` is the same for every format, option and version:
/// name, format, virtual size, backing file, snapshots. What is
/// specific to a format, the size on disk and the child nodes that newer
/// versions list are removed.
#[must_use]
pub fn info(text: &[u8]) -> Vec<u8> {
    // Not every format has a cluster size, is shown as encrypted, or stores the
    // format of its backing file.
    const OWN: [&[u8]; 4] = [
        b"disk size: ",
        b"cluster_size: ",
        b"encrypted: ",
        b"backing file format: ",
    ];
    let mut dropping = false;
    super::keep_lines(text, |line| {
        let nested = line.starts_with(b" ") || line.is_empty();
        if dropping && nested {
            return false;
        }
        dropping =
            line.starts_with(b"Format specific information") || line.starts_with(b"Child node ");
        !dropping && !OWN.iter().any(|own| line.starts_with(own))
    })
}

/// The line of `qemu-img create` without the options that formats add
/// themselves: size, backing file and what is in `asked` stay.
#[must_use]
pub fn create(text: &[u8], asked: &[&str]) -> Vec<u8> {
    static OPTION: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?-u) ([a-z_][a-z0-9_.-]*)=('[^']*'|[^ \n]*)").ok());
    let Some(option) = OPTION.as_ref() else {
        return text.to_vec();
    };
    let lines = text.split_inclusive(|b| *b == b'\n').map(|line| {
        if !line.starts_with(b"Formatting ") {
            return line.to_vec();
        }
        let keep = |key: &[u8]| {
            matches!(key, b"fmt" | b"size" | b"backing_file" | b"backing_fmt")
                || asked.iter().any(|a| a.as_bytes() == key)
        };
        option
            .replace_all(line, |c: &regex::bytes::Captures<'_>| {
                if keep(&c[1]) {
                    c[0].to_vec()
                } else {
                    Vec::new()
                }
            })
            .into_owned()
    });
    lines.collect::<Vec<_>>().concat()
}

/// `qemu-img check` without what depends on the layout of the file.
#[must_use]
pub fn check(text: &[u8]) -> Vec<u8> {
    super::keep_lines(text, |line| {
        !(line.starts_with(b"Image end offset: ")
            || line.contains_str("% allocated, ")
            || line.contains_str("% fragmented"))
    })
}

/// A table of snapshots (`qemu-img snapshot -l`, `info`) without the sizes,
/// dates and clocks, and with one blank between columns.
#[must_use]
pub fn snapshots(text: &[u8]) -> Vec<u8> {
    static ROW: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let size = r"[0-9.]+ ?(?:[KMGTPE]?i?B)?";
        let date = r"(?:[0-9]{4}-[0-9-]+ [0-9:]+|DATE TIME)";
        Regex::new(&format!(
            r"(?m-u)^(\S+) +(.*?) +{size} +{date} +[0-9:.]+(?: +(?:--|[0-9]+))?[ \t]*$"
        ))
        .ok()
    });
    static HEAD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?m-u)^ID +TAG +VM[ _]SIZE +DATE.*$").ok());
    let (Some(row), Some(head)) = (ROW.as_ref(), HEAD.as_ref()) else {
        return text.to_vec();
    };
    let text = head.replace_all(text, &b"ID TAG"[..]).into_owned();
    row.replace_all(&text, &b"$1 $2"[..]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFO: &str = "image: a\nfile format: qcow2\nvirtual size: 1 MiB (1048576 bytes)\ndisk size: 196 KiB\ncluster_size: 65536\nbacking file: b\nSnapshot list:\nID TAG\nFormat specific information:\n    compat: 1.1\n    a: b\nChild node '/file':\n    filename: a\n\n    x: y\nlast: one\n";

    #[test]
    fn info_keeps_what_all_formats_have() {
        assert_eq!(
            info(INFO.as_bytes()).as_bstr(),
            "image: a\nfile format: qcow2\nvirtual size: 1 MiB (1048576 bytes)\nbacking file: b\nSnapshot list:\nID TAG\nlast: one\n"
        );
    }

    #[test]
    fn create_keeps_what_was_asked() {
        let line = b"Formatting 'TEST_DIR/t', fmt=IMGFMT cluster_size=65536 extended_l2=off size=512 backing_file=a backing_fmt=raw lazy_refcounts=off refcount_bits=16\nx\n";
        assert_eq!(
            create(line, &["cluster_size"]).as_bstr(),
            "Formatting 'TEST_DIR/t', fmt=IMGFMT cluster_size=65536 size=512 backing_file=a backing_fmt=raw\nx\n"
        );
    }

    #[test]
    fn snapshot_rows_keep_id_and_tag() {
        let old = b"ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n1         one                   0 B 2024-01-02 03:04:05 00:00:00.000          0\n";
        let new = b"ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT\n1       one                   0 B DATE TIME  0000:00:00.000          --\n";
        assert_eq!(snapshots(old).as_bstr(), "ID TAG\n1 one\n");
        assert_eq!(snapshots(new).as_bstr(), "ID TAG\n1 one\n");
    }

    proptest! {
        #[test]
        fn twice_is_as_once(lines in prop::collection::vec(prop::sample::select(INFO.lines().chain([
            "Formatting 'x', fmt=a size=1 b=c", "1 one 0 B 2024-01-02 03:04:05 00:00:00.000 0", "",
            "Image end offset: 3", "1/2 = 3% allocated, 0.0% fragmented", "ID TAG VM SIZE DATE VM CLOCK",
        ]).collect::<Vec<_>>()), 0..12)) {
            let text = lines.join("\n").into_bytes();
            for f in [info as fn(&[u8]) -> Vec<u8>, check, snapshots, |t: &[u8]| create(t, &["size"])] {
                let once = f(&text);
                prop_assert_eq!(f(&once), once);
            }
        }
    }
}
