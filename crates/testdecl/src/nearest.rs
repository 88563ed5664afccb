//! Suggestions for misspelt words.

/// The candidate nearest to `word`, where one is near enough to be meant: a
/// third of its letters, two at least, may differ.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(word, c), c))
        .filter(|&(distance, c)| distance <= limit && distance < c.chars().count())
        // Of equals the one that is as long.
        .min_by_key(|&(distance, c)| (distance, c.len().abs_diff(word.len()), c))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let groups = ["rw", "auto", "quick", "snapshot"];
        assert_eq!(nearest("snapshto", groups), Some("snapshot"));
        assert_eq!(nearest("qiuck", groups), Some("quick"));
        assert_eq!(nearest("migration", groups), None);
        assert_eq!(nearest("", groups), None);
        assert_eq!(nearest("qcow3", ["qcow", "qcow2"]), Some("qcow2"));
    }
}
