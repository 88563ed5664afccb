//! How a reader does on images of a format, feature by feature: which it reads right, which
//! it refuses, and which broken images it accepts.

mod reader;
mod sample;

pub use reader::{Outcome, Reader};
pub use sample::{Sample, Subject, broken, data, valid};

use serde::Serialize;

/// What a reader made of the images of one feature or rule.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The feature of valid images, or the rule that broken ones break.
    pub subject: Subject,
    /// What it made of each image, in order of their complexity.
    pub results: Vec<Result>,
}

/// What a reader made of one image.
#[derive(Clone, Debug, Serialize)]
pub struct Result {
    /// The seed of the image: `image-fuzzer generate` makes the same from it.
    pub seed: String,
    /// The features of the image.
    pub features: Vec<&'static str>,
    /// What the reader did.
    pub outcome: Outcome,
}

/// What a reader made of the images of one subject, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    /// All valid images were read, with the right data.
    Right,
    /// All broken images were refused.
    Refused,
    /// Broken images were accepted, or valid ones refused, some or all.
    Mixed,
    /// All valid images were refused.
    Unsupported,
    /// All broken images were accepted.
    Accepted,
    /// Some valid image was read with other data.
    WrongData,
    /// Some image was too much: a crash, or no end.
    Fails,
}

impl Row {
    /// The row in a word.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let is = |wanted: fn(&Outcome) -> bool| move |it: &Result| wanted(&it.outcome);
        let any = |wanted: fn(&Outcome) -> bool| self.results.iter().any(is(wanted));
        let all = |wanted: fn(&Outcome) -> bool| self.results.iter().all(is(wanted));
        let valid = matches!(self.subject, Subject::Feature { .. });
        if any(|it| matches!(it, Outcome::Crash { .. } | Outcome::Hang)) {
            Summary::Fails
        } else if any(|it| matches!(it, Outcome::WrongData { .. })) {
            Summary::WrongData
        } else if all(|it| matches!(it, Outcome::Refused { .. })) {
            match valid {
                true => Summary::Unsupported,
                false => Summary::Refused,
            }
        } else if all(|it| *it == Outcome::Right) {
            Summary::Right
        } else if all(|it| *it == Outcome::Accepted) {
            Summary::Accepted
        } else {
            Summary::Mixed
        }
    }
}

/// Runs `reader` on `samples`, which are in order; a row for each subject.
///
/// # Errors
///
/// The files cannot be written, or the reader cannot be started.
pub fn conform(
    reader: &mut Reader,
    samples: Vec<Sample>,
    mut done: impl FnMut(&Sample, &Outcome),
) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for sample in samples {
        let outcome = reader.read(&sample)?;
        done(&sample, &outcome);
        let result = Result {
            seed: sample.seed,
            features: sample.features,
            outcome,
        };
        match rows.last_mut().filter(|row| row.subject == sample.subject) {
            Some(row) => row.results.push(result),
            None => rows.push(Row {
                subject: sample.subject,
                results: vec![result],
            }),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_summed_up() {
        let row = |valid: bool, outcomes: &[Outcome]| {
            let subject = match valid {
                true => Subject::Feature {
                    name: "data".into(),
                    what: String::new(),
                },
                false => Subject::Rule {
                    name: "magic".into(),
                },
            };
            let result = |outcome: &Outcome| Result {
                seed: String::new(),
                features: Vec::new(),
                outcome: outcome.clone(),
            };
            let results = outcomes.iter().map(result).collect();
            Row { subject, results }.summary()
        };
        let refused = Outcome::Refused { said: None };
        assert_eq!(row(true, &[Outcome::Right, Outcome::Right]), Summary::Right);
        assert_eq!(
            row(true, &[Outcome::Right, refused.clone()]),
            Summary::Mixed
        );
        assert_eq!(
            row(true, std::slice::from_ref(&refused)),
            Summary::Unsupported
        );
        assert_eq!(row(false, std::slice::from_ref(&refused)), Summary::Refused);
        assert_eq!(row(false, &[Outcome::Accepted]), Summary::Accepted);
        let wrong = Outcome::WrongData { at: 0 };
        assert_eq!(
            row(true, &[wrong.clone(), refused.clone()]),
            Summary::WrongData
        );
        assert_eq!(row(true, &[wrong, Outcome::Hang]), Summary::Fails);
    }
}
