//! Messages that say the same in other words from one QEMU version to the next.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// A pattern of one version's words, and the words all versions get.
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
        // Parts of a driver that are packed apart and that nothing here needs.
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

/// Gives every version's messages the same words.
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
