use super::super::hex;
use super::*;
use crate::campaign::{NoveltySources, Totals};
use crate::exec::symbols::Symbols;
use crate::exec::trace::Trace;
use crate::exec::{End, Observation};
use crate::finding::test_examples::{edited, recipe};
use crate::finding::{Change, records, write_folder};
use crate::oracle::Violation;
use crate::oracle::runner::Ran;
use crate::signature::{Frame, Signature, Stack};
use image_mutations::edit::{Edit, Hex, Number};

/// What the program of the finding prints.
const PRINTED: &str = "qemu-img: block/a.c:7: f: Assertion `a < 3' failed.\n";

/// A work folder with one finding: an edit of a number, and one of bytes.
fn work(root: &Path) {
    let edits = vec![
        Edit::Set {
            path: "header.cluster_bits".into(),
            value: Number(63),
        },
        Edit::Bytes {
            at: Number(0x200),
            bytes: Hex(b"<b>text</b>".to_vec()),
        },
    ];
    let mut example = edited(recipe(&["qemu-img", "info", "$test_img"]), edits);
    let failure = crate::signature::failure(PRINTED.as_bytes()).unwrap();
    example.key.signature = failure.signature();
    example.version = Some("qemu-img version 9".into());
    let stack = Stack {
        frames: vec![Frame {
            place: Some(("block/a.c".into(), 7)),
            ..Frame::named("f")
        }],
    };
    example.stack = Some(Trace {
        install: Some("apt install f && f".into()),
        ..Trace::new(&stack, &mut Symbols::new(&[]))
    });
    example.outcome.violations = vec![Violation {
        class: Class::Crash,
        signature: Signature::crash("assertion: a.c: f: a < N"),
        command: 0,
        summary: format!("SIGABRT: {failure}"),
        assumed: false,
    }];
    example.outcome.ran = vec![Ran {
        index: 0,
        opened: false,
        seen: Observation {
            end: End::Signal(6),
            stderr: PRINTED.into(),
            ..Observation::not_started(String::new())
        },
    }];
    std::fs::create_dir_all(root.join("findings")).unwrap();
    write_folder(&root.join("findings/one & two"), &example).unwrap();
}

/// The report on that folder.
fn report(root: &Path) -> Report {
    let rows = records(root).unwrap();
    Report {
        dir: root.to_owned(),
        rows: rows
            .into_iter()
            .map(|(folder, record)| Row {
                folder,
                record,
                hits: 4,
                change: None,
            })
            .collect(),
        left_out: 0,
        totals: Totals::default(),
        sweep: None,
        blocks: None,
        runs: Vec::new(),
        novelty: NoveltySources::default(),
    }
}

#[test]
fn a_card_has_all_that_is_known_of_a_finding() {
    let root = tempfile::tempdir().unwrap();
    work(root.path());
    let report = report(root.path());
    let page = page(&report, root.path());
    let parts = [
        "<span class=\"crash\">crash</span> \
         <b>SIGABRT: assertion at block/a.c:7 in f: a &lt; 3</b>",
        "Seen with qemu-img version 9.",
        "4 hits, 2 edits, 12 bytes changed",
        "<code>header.cluster_bits</code> (at byte 0x14) is 63, where the valid image has 16.",
        "Rule: at least 9; QEMU reads up to 21; with extended_l2 at least 14 \
         (specification, section 'Header').",
        "<td class=\"field differs\" title=\"header.cluster_bits\">10</td>",
        "<td class=\"field differs\" title=\"header.cluster_bits\">3f</td>",
        "'&lt;b&gt;text&lt;/b&gt;'",
        "<code>qemu-img info test.qcow2</code></pre><button type=\"button\" class=\"copy\">",
        "qemu-img: block/a.c:7: f: Assertion `a &lt; 3' failed.\n\
         <span class=\"dim\">(signal 6)</span>",
        "<h3>Stack</h3>\n<pre>#0 f (block/a.c:7)</pre>",
        "<code>apt install f &amp;&amp; f</code>",
        "<a href=\"findings/one%20%26%20two/README.md\">README.md</a>",
        "<a href=\"findings/one%20%26%20two/test.qcow2\">test.qcow2</a>",
    ];
    for part in parts {
        assert!(page.contains(part), "no {part} in {page}");
    }
    assert!(!page.contains("<b>text"), "{page}");
    assert!(!page.contains(" src=") && !page.contains("http"), "{page}");
    // The report needs nothing but the record.
    let json = super::super::as_json(&report);
    assert_eq!(json["groups"][0]["changes"][0]["after"], "63");
    assert_eq!(json["groups"][0]["steps"][0]["end"], "signal 6");
    let log = super::super::sarif::log(&report).to_string();
    assert!(log.contains("a < 3"), "{log}");
}

/// Folders of earlier versions do not have the changes.
#[test]
fn a_finding_of_an_earlier_version_has_a_card_too() {
    let root = tempfile::tempdir().unwrap();
    work(root.path());
    let mut report = report(root.path());
    let record = &mut report.rows[0].record;
    record.changes.clear();
    record.steps.clear();
    let page = page(&report, root.path());
    assert!(page.contains("<summary>Explanation</summary>"), "{page}");
    assert!(page.contains("<code>qemu-img info "), "{page}");
}

#[test]
fn rows_of_bytes_that_differ_are_shown_twice() {
    let root = tempfile::tempdir().unwrap();
    work(root.path());
    let report = report(root.path());
    let change: &Change = &report.rows[0].record.changes[0];
    let table = hex::table(change);
    let count = |text: &str| table.matches(text).count();
    assert_eq!(count("<tr class=\"before\"><th>- 0x10</th>"), 1, "{table}");
    assert_eq!(count("<tr class=\"after\"><th>+ 0x10</th>"), 1, "{table}");
    assert_eq!(count("<tr class=\"\">"), 2, "{table}");
    assert_eq!(count("<td class=\"field"), 8, "{table}");
}

/// A moment with so many blocks.
fn moment(seconds: f64, blocks: u64) -> Moment {
    Moment {
        seconds,
        images: 9,
        opened: 8,
        messages: 7,
        blocks,
        groups: 0,
    }
}

#[test]
fn blocks_have_a_curve_where_they_were_noted() {
    let text = curves(&[moment(1.0, 20), moment(2.0, 30)]);
    assert!(text.contains("<figcaption>blocks: 30 "), "{text}");
    assert_eq!(text.matches("<figure>").count(), 5, "{text}");
    let text = curves(&[moment(1.0, 0), moment(2.0, 0)]);
    assert!(!text.contains("blocks"), "{text}");
    assert_eq!(text.matches("<figure>").count(), 4, "{text}");
}
