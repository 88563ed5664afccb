//! Names of functions and source files as people know them.

/// What compilers add to the name of a function of which they make several, or which they
/// split.
const SUFFIXES: [&str; 8] = [
    "cold",
    "constprop",
    "isra",
    "llvm",
    "localalias",
    "lto_priv",
    "part",
    "specialized",
];

/// The name of a function in the source: `qcow2_open` of `qcow2_open.part.0.cold`.
pub(crate) fn source_name(raw: &str) -> &str {
    let mut name = raw;
    while let Some((before, last)) = name.rsplit_once('.') {
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        let (before, word) = if is_number {
            before.rsplit_once('.').unwrap_or((before, ""))
        } else {
            (before, last)
        };
        if before.is_empty() || !SUFFIXES.contains(&word) {
            break;
        }
        name = before;
    }
    name
}

/// A path without `.`, `..` and empty parts, as far as its own parts tell.
pub(crate) fn source_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let goes_up = part == ".." && parts.last().is_some_and(|last| *last != "..");
        if goes_up {
            parts.pop();
        } else if part != ".." || !path.starts_with('/') {
            parts.push(part);
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compilers_add_to_names_is_removed() {
        for (raw, name) in [
            ("qcow2_open", "qcow2_open"),
            ("qcow2_open.cold", "qcow2_open"),
            ("qcow2_open.part.0", "qcow2_open"),
            ("qcow2_open.isra.0.constprop.12.cold", "qcow2_open"),
            ("run.llvm.8123", "run"),
            // A name of the source's own.
            ("a.b", "a.b"),
            ("counter.3", "counter.3"),
            (".cold", ".cold"),
            ("part", "part"),
            ("", ""),
        ] {
            assert_eq!(source_name(raw), name, "{raw}");
        }
    }

    #[test]
    fn paths_are_those_of_the_source_tree() {
        for (path, expected) in [
            (
                "/build/qemu/b/../block/qcow2.c",
                "/build/qemu/block/qcow2.c",
            ),
            ("../../block/./qcow2.c", "../../block/qcow2.c"),
            ("/../x//y.c", "/x/y.c"),
            ("a/../../b.c", "../b.c"),
            ("", ""),
        ] {
            assert_eq!(source_path(path), expected, "{path}");
        }
    }
}
