//! The commands of an example as they ran, with what they printed.

use serde::{Deserialize, Serialize};

use super::Example;
use crate::commands::Command;
use crate::commands::adapted;
use crate::oracle::end_word;

/// One command as it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// As it is typed in the folder of the image.
    pub command: String,
    /// The first lines that it printed on its standard error.
    pub output: Vec<String>,
    /// How it ended: `exit 1`, `signal 6`.
    pub end: String,
    /// Whether it is the command that shows the finding.
    pub shows: bool,
}

/// The most lines of output that are kept of one command, and the most characters of one.
const MAX_LINES: usize = 12;
const MAX_CHARS: usize = 1000;

/// The commands of an example, those that an oracle runs around the one that shows the finding
/// among them. `summary` ends with what the last of these said.
pub(super) fn steps(example: &Example, summary: &str) -> Vec<Step> {
    let around = example.violation();
    let around = around.and_then(|_| example.key.class.oracle().around(&example.key.signature));
    let image = example.recipe.base.image_name();
    let own = |command: Command| typed(&adapted(&example.recipe.base, command), &image);
    let step = |command: String, output: Vec<String>, end: &str| Step {
        command,
        output,
        end: end.to_owned(),
        shows: false,
    };
    let mut steps = Vec::new();
    for ran in &example.outcome.ran {
        let Some(command) = example.recipe.commands.get(ran.index) else {
            continue;
        };
        let shows = ran.index == example.command();
        // What is run before it is told only where something is run behind it too.
        let around = around.clone().filter(|_| shows);
        let around = around.and_then(|it| it.after.map(|after| (it.before, after, it.status)));
        if let Some((Some(before), ..)) = &around {
            steps.push(step(own(before.clone()), Vec::new(), "exit 0"));
        }
        let output = String::from_utf8_lossy(&ran.seen.stderr);
        steps.push(Step {
            shows,
            ..step(
                typed(command, &image),
                output.lines().take(MAX_LINES).map(printable).collect(),
                &end_word(&ran.seen.end),
            )
        });
        if let Some((_, after, status)) = around {
            let said = summary.split_once(": ").map_or("", |(_, said)| said);
            steps.push(step(own(after), vec![printable(said)], status));
        }
    }
    steps
}

/// A command as it is typed in the folder of the image.
fn typed(command: &Command, image: &str) -> String {
    let line = command.shell().replace("\"$test_img\"", image);
    line.replace("$test_img", image)
}

/// A line of a program's output as text.
pub(super) fn printable(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .take(MAX_CHARS)
        .collect()
}
