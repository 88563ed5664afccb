//! Messages whose words differ between QEMU versions.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// A pattern of one version's text, and the text that all versions get.
static RULES: LazyLock<Vec<(Regex, &'static [u8])>> = LazyLock::new(|| {
    let rules: [(&str, &[u8]); 3] = [
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
    ];
    rules
        .into_iter()
        .filter_map(|(re, to)| Some((Regex::new(&format!("(?-u){re}")).ok()?, to)))
        .collect()
});

/// Gives the messages of all versions the same text.
#[must_use]
pub fn unify(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (re, to) in RULES.iter() {
        if let std::borrow::Cow::Owned(new) = re.replace_all(&text, *to) {
            text = new;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_a_regex() {
        assert_eq!(RULES.len(), 3);
    }
}
