//! `-n`: the names of the selected tests.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::args::LowArgs;
use crate::model::Test;

/// The names of `tests`, one a line. Where formats are given, tests that say
/// they support none of them are left out.
///
/// # Errors
///
/// A test cannot be read.
pub fn dry_run(tests: &[Arc<Test>], args: &LowArgs) -> Result<String> {
    let mut formats = args.formats.clone();
    formats.extend(args.format.clone());
    let mut lines = String::new();
    for test in tests {
        if formats.is_empty() || supports_any(test, &formats)? {
            lines.push_str(&test.name);
            lines.push('\n');
        }
    }
    Ok(lines)
}

fn supports_any(test: &Test, formats: &[String]) -> Result<bool> {
    let source = std::fs::read(&test.source)
        .with_context(|| format!("cannot read {}", test.source.display()))?;
    let source = String::from_utf8_lossy(&source);
    Ok(formats.iter().any(|f| testdecl::may_support(&source, f)))
}
