//! Source files as people name them.

/// A file by whose folder the source tree of QEMU is known: the first of these.
const AT_THE_TOP: [&str; 2] = ["/block.c", "/qemu-img.c"];

/// The folder that most paths are to be shown without, with a slash at its end; empty for none.
pub(super) fn top(files: &[&str]) -> String {
    for name in AT_THE_TOP {
        let tops = files.iter().filter_map(|file| file.strip_suffix(name));
        let shortest = tops.min_by_key(|top| top.len());
        if let Some(top) = shortest {
            return format!("{top}/");
        }
    }
    String::new()
}

/// Whether `path`, or the end of it from a slash on, is `name`.
pub(super) fn ends_in(path: &str, name: &str) -> bool {
    let before = path.strip_suffix(name);
    before.is_some_and(|before| before.is_empty() || before.ends_with('/') || name.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_where_the_block_layer_is() {
        let files = [
            "/b/qemu/util/block.c",
            "/b/qemu/block.c",
            "/usr/include/x.h",
        ];
        assert_eq!(top(&files), "/b/qemu/");
        assert_eq!(top(&["/b/main.c"]), "");
    }

    #[test]
    fn files_are_named_by_the_end_of_their_path() {
        for (path, name, same) in [
            ("block/qcow2.c", "block/qcow2.c", true),
            ("block/qcow2.c", "qcow2.c", true),
            ("/b/block/qcow2.c", "block/qcow2.c", true),
            ("block/myqcow2.c", "qcow2.c", false),
            ("block/qcow2.c", "block/qcow2.h", false),
        ] {
            assert_eq!(ends_in(path, name), same, "{path} {name}");
        }
    }
}
