//! Messages whose words differ between QEMU versions.

use std::sync::LazyLock;

use super::Rules;

/// A pattern of one version's text, and the text that all versions get.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new(&[
        // The program's name before a message depends on how it was started.
        (
            r"(?m)^(lt-)?(qemu-(?:img|io|nbd|storage-daemon)|qemu-system-[a-z0-9_]+)(?:\.bin)?: ",
            b"$2: ",
        ),
        // Each version names another page for the manual.
        (
            r"(?m)^Try '[^'\n]* --help' for more information\.?$",
            b"Try --help",
        ),
        // Modules of a driver that are in packages of their own and not needed here.
        (
            r"(?m)^[^\n]*: module \S+ not found, do you want to install [^\n]*\n",
            b"",
        ),
    ])
});

/// Gives the messages of all versions the same text.
#[must_use]
pub fn unify(text: &[u8]) -> Vec<u8> {
    RULES.apply(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_a_regex() {
        assert_eq!(RULES.0.len(), 3);
    }
}
