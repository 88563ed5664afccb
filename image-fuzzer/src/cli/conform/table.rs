//! How a reader does, as text.

use image_formats::Format;

use crate::conform::{Outcome, Row, Subject, Summary};

/// A line for each feature and each rule, those of interest first told.
pub(super) fn table(format: Format, reader: &[String], rows: &[Row]) -> String {
    let mut text = format!("{} on {format}\n", reader.join(" "));
    let width = rows.iter().map(|row| row.subject.name().len()).max();
    let width = width.unwrap_or(0);
    for valid in [true, false] {
        let of_kind = |row: &&Row| matches!(row.subject, Subject::Feature { .. }) == valid;
        let rows: Vec<&Row> = rows.iter().filter(of_kind).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(if valid {
            "\nfeatures\n"
        } else {
            "\nbroken rules\n"
        });
        for row in rows {
            text.push_str(&format!(
                "  {:width$}  {:12} {}\n",
                row.subject.name(),
                word(row.summary()),
                details(row)
            ));
        }
    }
    text
}

/// A summary as a word of the table.
pub(super) fn word(summary: Summary) -> &'static str {
    match summary {
        Summary::Right => "right",
        Summary::Refused => "refused",
        Summary::Mixed => "in part",
        Summary::Unsupported => "not read",
        Summary::Accepted => "accepted",
        Summary::WrongData => "WRONG DATA",
        Summary::Fails => "FAILS",
    }
}

/// How many images came to what, and what the reader said of the first that was not read.
pub(super) fn details(row: &Row) -> String {
    let mut counts: Vec<(String, u32)> = Vec::new();
    for result in &row.results {
        let name = name(&result.outcome);
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let mut text = counts.join(", ");
    let said = row.results.iter().find_map(|result| match &result.outcome {
        Outcome::Refused { said } => said.clone(),
        _ => None,
    });
    let valid = matches!(row.subject, Subject::Feature { .. });
    if let Some(said) = said.filter(|_| valid) {
        let said: String = said.chars().take(90).collect();
        text.push_str(&format!(": {said}"));
    }
    text
}

/// An outcome in a word or two.
fn name(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Right => "right".into(),
        Outcome::Refused { .. } => "refused".into(),
        Outcome::WrongData { at } => format!("wrong data at {at}"),
        Outcome::Accepted => "accepted".into(),
        Outcome::Crash { end } => end.clone(),
        Outcome::Hang => "no end".into(),
    }
}
