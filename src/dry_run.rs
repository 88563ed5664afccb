//! `-n` and `--list`: the selected tests.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::args::LowArgs;
use crate::model::Test;

/// The names of `tests`, one a line.
#[must_use]
pub fn names(tests: &[Arc<Test>]) -> String {
    tests
        .iter()
        .map(|test| format!("{}\n", test.name))
        .collect()
}

/// Name, groups and first sentence of each of `tests`, one a line, in columns.
#[must_use]
pub fn listing(tests: &[Arc<Test>]) -> String {
    let rows = tests.iter().map(|test| (&test.name, about(test)));
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let wide = rows.iter().map(|(_, [groups, _])| groups.len()).max();
    let wide = wide.unwrap_or(0);
    let lines = rows.iter().map(|(name, [groups, sentence])| {
        let line = format!("{name:width$}  {groups:wide$}  {sentence}");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// The same as JSON, an object for each test, one a line.
#[must_use]
pub fn json(tests: &[Arc<Test>]) -> String {
    let line = |test: &Arc<Test>| {
        let object = serde_json::json!({
            "test": test.name, "groups": test.groups, "summary": test.summary,
        });
        format!("{object}\n")
    };
    tests.iter().map(line).collect()
}

/// Groups and first sentence of a test.
#[must_use]
pub fn about(test: &Test) -> [String; 2] {
    let groups: Vec<&str> = test.groups.iter().map(String::as_str).collect();
    [groups.join(" "), first_sentence(&test.summary).to_owned()]
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").map_or(text, |end| &text[..=end])
}

/// `tests`, less those that say they support none of the formats given.
///
/// # Errors
///
/// A test cannot be read.
pub fn supported(tests: Vec<Arc<Test>>, args: &LowArgs) -> Result<Vec<Arc<Test>>> {
    let mut formats = args.formats.clone();
    formats.extend(args.format.clone());
    if formats.is_empty() {
        return Ok(tests);
    }
    let mut supported = Vec::new();
    for test in tests {
        if supports_any(&test, &formats)? {
            supported.push(test);
        }
    }
    Ok(supported)
}

fn supports_any(test: &Test, formats: &[String]) -> Result<bool> {
    let source = std::fs::read(&test.source)
        .with_context(|| format!("cannot read {}", test.source.display()))?;
    let source = String::from_utf8_lossy(&source);
    Ok(formats.iter().any(|f| testdecl::may_support(&source, f)))
}
