//! The names of entries in the queue of an instance, as AFL++ gives them: `id:000012` and more
//! behind a comma.

use image_mutations::edit::Mutation;

/// An entry in the queue of an instance, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::campaign) struct EntryName {
    /// Its number in that queue.
    pub(in crate::campaign) id: u32,
    /// The name of the file.
    pub(in crate::campaign) name: String,
}

impl EntryName {
    /// The entry of that name; `None` for other files.
    pub(in crate::campaign) fn parse(name: &str) -> Option<Self> {
        let id = number(name.strip_prefix("id:")?)?;
        let name = name.to_owned();
        Some(Self { id, name })
    }

    /// The instance whose entry it is a copy of.
    pub(in crate::campaign) fn copied_from(&self) -> Option<&str> {
        self.part("sync:")
    }

    /// The number in the queue of the work folder that an entry of our own has in its name.
    pub(in crate::campaign) fn origin(&self) -> Option<u32> {
        number(self.part("orig:")?)
    }

    fn part(&self, label: &str) -> Option<&str> {
        self.name.split(',').find_map(|it| it.strip_prefix(label))
    }
}

/// The number that `text` begins with; six digits or more, as AFL++ writes them.
fn number(text: &str) -> Option<u32> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    (digits.len() >= 6).then_some(())?;
    digits.parse().ok()
}

/// The name of entry `id` of our own: that of entry `origin` in the queue of the work folder,
/// which was made so many milliseconds and commands after the campaign was begun.
pub(in crate::campaign) fn own_name(
    id: u32,
    origin: u32,
    (time_ms, execs): (u64, u64),
    op: &str,
) -> String {
    // AFL++ knows an entry by the nine characters of its number.
    format!("id:{id:06},orig:{origin:06},time:{time_ms},execs:{execs},op:{op}")
}

/// The operation in the name of an entry: the families of its mutations.
pub(in crate::campaign) fn operation(edits: &[Mutation]) -> String {
    let mut families: Vec<&str> = edits.iter().map(|it| it.family.as_str()).collect();
    families.dedup();
    let mut text = families.join("+");
    text.truncate(60);
    if text.is_empty() { "none".into() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_both_fuzzers_are_read() {
        let parse = |name: &str| EntryName::parse(name);
        let afl = parse("id:000123,sync:other,src:000045,time:1,execs:2,op:havoc,rep:2,+cov");
        let afl = afl.unwrap();
        assert_eq!((afl.id, afl.copied_from()), (123, Some("other")));
        assert_eq!(afl.origin(), None);
        // Of a seed: its name, which may begin with a number.
        let seed = parse("id:000000,time:0,execs:0,orig:12.qcow2").unwrap();
        assert_eq!(
            (seed.id, seed.copied_from(), seed.origin()),
            (0, None, None)
        );
        let own = parse(&own_name(7, 34, (5000, 99), "pointer")).unwrap();
        assert_eq!(
            (own.id, own.origin(), own.copied_from()),
            (7, Some(34), None)
        );
        assert_eq!(parse("id:1234567").map(|it| it.id), Some(1_234_567));
        for other in [
            "id:12",
            "id:",
            "ID:000001",
            ".new-x",
            "id:99999999999",
            "README.txt",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_panic(name in "(id:)?[0-9a-z:,+é]{0,30}") {
            if let Some(entry) = EntryName::parse(&name) {
                entry.copied_from();
                entry.origin();
            }
        }
    }
}
