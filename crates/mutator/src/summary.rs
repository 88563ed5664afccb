//! A mutation in a few words that fit into the name of a file.

use image_mutations::edit::{Edit, Mutation};

/// The most edits that are named.
const MAX_EDITS: usize = 3;

/// The families and fields of edits: `op:pointer-l2.3.entry.17.offset+word`.
pub(crate) fn of_edits(edits: &[Mutation]) -> String {
    let named = edits
        .iter()
        .filter(|mutation| !matches!(mutation.edit, Edit::Recompute { .. }));
    let words: Vec<String> = named.take(MAX_EDITS).map(word).collect();
    match words.is_empty() {
        true => "op:recompute".to_owned(),
        false => format!("op:{}", words.join("+")),
    }
}

fn word(mutation: &Mutation) -> String {
    let path = match &mutation.edit {
        Edit::Set { path, .. } | Edit::Text { path, .. } => path.as_str(),
        _ => return mutation.family.clone(),
    };
    let path = path.replace('[', ".").replace(']', "");
    format!("{}-{path}", mutation.family)
}

#[cfg(test)]
mod tests {
    use image_mutations::edit::Number;

    use super::*;

    #[test]
    fn brackets_of_paths_are_not_in_names_of_files() {
        let edits = [Mutation {
            family: "pointer".to_owned(),
            edit: Edit::Set {
                path: "l2[3].entry[17].offset".to_owned(),
                value: Number(1),
            },
        }];
        assert_eq!(of_edits(&edits), "op:pointer-l2.3.entry.17.offset");
    }
}
