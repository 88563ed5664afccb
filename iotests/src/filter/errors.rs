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
        // Since 11.1 qemu-io reports what no earlier one does: that the flush of an image that it
        // closes has failed, after the command that failed before.
        (
            r"(?m)^qemu-io: Failed flush for '[^\n]*' during close: [^\n]*\n",
            b"",
        ),
        // Before 11.1 any object that is in use had the same words.
        (
            r"Cannot delete throttle group '([^'\n]*)' with active references",
            b"object '$1' is in use, can not be deleted",
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
        assert_eq!(RULES.0.len(), 5);
    }

    #[test]
    fn what_newer_versions_say_is_what_older_ones_do() {
        let new = b"read failed: Input/output error\n\
            qemu-io: Failed flush for 'nbd+unix:///q?socket=s' during close: Input/output error\n";
        assert_eq!(unify(new), b"read failed: Input/output error\n");
        let new = b"\"desc\": \"Cannot delete throttle group 'free' with active references\"";
        let old = b"\"desc\": \"object 'free' is in use, can not be deleted\"";
        assert_eq!(unify(new), old);
    }
}
