//! Images of other formats than qcow2.

use super::rules::{Noticed, noticed};
use super::{verdict, without_indices};
use crate::commands::Command;
use crate::oracle::Verdict;
use crate::oracle::subject::Subject;

/// Judges a `command` that succeeded. `are_readers` is whether programs other than QEMU's tools
/// are held to be readers.
pub(super) fn judge(command: &Command, subject: &Subject<'_>, are_readers: bool) -> Verdict {
    if !opens(command, subject, are_readers) {
        return None;
    }
    let format = subject.format();
    let of = |wanted| {
        let mut broken = subject.broken().iter();
        broken.find(move |defect| noticed(format, defect.name) == Some(wanted))
    };
    let defect = of(Noticed::Opened).or_else(|| {
        let defect = of(Noticed::Read)?;
        let mut reads = command.reads().into_iter();
        let unread = reads.any(|it| it.data && subject.is_unreadable(it.range));
        unread.then_some(defect)
    })?;
    let place = without_indices(&defect.path);
    let text = format!("{format} {place}: {}", defect.name);
    Some(verdict(command, text, defect))
}

/// Whether `command` opens the image as one of its format, and does not repair it.
fn opens(command: &Command, subject: &Subject<'_>, are_readers: bool) -> bool {
    let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
    let is_given = words.iter().any(|word| word.contains("$test_img"));
    // What cannot be read cannot be noticed.
    let repairs = command.program() == "qemu-img" && words.contains(&"-r");
    if !is_given || repairs || command.injects_errors() {
        return false;
    }
    match command.program() {
        "qemu-img" | "qemu-io" => command.names_format(subject.format()),
        _ => are_readers && subject.has_signature(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::{FUZZER, Recipe};
    use image_formats::{AnySpec, Format};
    use image_mutations::base::{Base, OtherBase};
    use image_mutations::case::Maker;
    use image_mutations::edit::{Edit, Mutation, Number};

    /// What is said of a command that succeeds on such an image with these fields set.
    fn judged(line: &str, spec: AnySpec, edits: &[(&str, u64)]) -> Option<String> {
        let set = |(path, value): &(&str, u64)| Mutation {
            family: String::new(),
            edit: Edit::Set {
                path: (*path).to_owned(),
                value: Number(*value),
            },
        };
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: String::new(),
            base: Base::Other(OtherBase { spec, parent: None }),
            edits: edits.iter().map(set).collect(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        };
        let files = Maker::default().files(&recipe.base, &recipe.edits).unwrap();
        let command = Command(shlex::split(line).unwrap());
        let subject = Subject::new(&recipe, &files);
        let (_, signature, _) = judge(&command, &subject, true)?;
        Some(signature.to_string())
    }

    fn plain(format: Format) -> AnySpec {
        AnySpec::plain(format).unwrap()
    }

    #[test]
    fn what_is_broken_in_the_header_is_noticed_when_it_is_opened() {
        let vdi = |line: &str| judged(line, plain(Format::Vdi), &[("header.image_type", 9)]);
        let found = Some("vdi header.image_type: image-type".to_owned());
        assert_eq!(vdi("qemu-img info -f vdi $test_img"), found);
        assert_eq!(vdi("reader $test_img"), found);
        // It may be opened as another format, or not at all.
        assert_eq!(vdi("qemu-img info $test_img"), None);
        assert_eq!(vdi("qemu-img check -f vdi -r all $test_img"), None);
        assert_eq!(vdi("reader other.img"), None);
        let raw = |value| {
            let edits = [("header.image_type", 9), ("header.signature", value)];
            judged("reader $test_img", plain(Format::Vdi), &edits)
        };
        assert_eq!(raw(0), None);
    }

    #[test]
    fn what_need_not_be_noticed_is_not() {
        let recommended = [("header.block_extra", 3)];
        let line = "qemu-img info -f vdi $test_img";
        assert_eq!(judged(line, plain(Format::Vdi), &recommended), None);
        let accepted = [("header.header", 0)];
        let line = "qemu-img info -f bochs $test_img";
        let found = judged(line, plain(Format::Bochs), &accepted);
        assert!(!found.unwrap_or_default().contains("header-size"));
    }

    #[test]
    fn what_is_broken_in_a_table_is_noticed_where_it_is_read() {
        let spec = image_formats::qed::Spec {
            blocks: vec![image_formats::Block {
                index: 0,
                content: image_formats::Content::Data(image_formats::Pattern::Fill(1)),
            }],
            ..Default::default()
        };
        let qed = |line: &str| {
            let edits = [("l2[0].entry[0]", 0x1234)];
            judged(line, AnySpec::Qed(spec.clone()), &edits)
        };
        let found = Some("qed l2[].entry[]: cluster-aligned".to_owned());
        assert_eq!(
            qed("qemu-img convert -f qed -O raw $test_img out.img"),
            found
        );
        assert_eq!(qed("qemu-io -f qed -c 'read 0 512' $test_img"), found);
        assert_eq!(qed("qemu-io -f qed -c 'read 1M 512' $test_img"), None);
        assert_eq!(qed("qemu-img info -f qed $test_img"), None);
    }
}
