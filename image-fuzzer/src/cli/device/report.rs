//! `report` of the work folder of a device.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::OK;
use crate::cli::args::ReportArgs;
use crate::device::report::c_test;
use crate::device::store::{self, DEVICE, Finding, TRACE, read_trace};
use crate::output::{self, counted, duration};

/// Whether `dir` is the work folder of a device.
pub(in crate::cli) fn is_work_folder(dir: &Path) -> bool {
    dir.join(DEVICE).is_file()
}

/// What there is to say of how sure a finding is.
pub(super) fn state(finding: &Finding) -> &'static str {
    match (finding.confirmed, finding.minimised) {
        (true, true) => "",
        (true, false) => " (minimisation pending)",
        (false, _) => " (not reproducible)",
    }
}

/// Prints the findings as a table, as JSON, or as tests in C.
///
/// # Errors
///
/// An option is not for devices, or a finding is damaged.
pub(in crate::cli) fn report(args: &ReportArgs) -> Result<u8> {
    for (is_given, option) in [
        (args.against.is_some(), "--against"),
        (args.sarif.is_some(), "--sarif"),
        (args.html.is_some(), "--html"),
    ] {
        if is_given {
            bail!(
                "{option} is for campaigns on images, and '{}' is one on a device",
                args.dir.display()
            );
        }
    }
    let mut findings = store::findings(&args.dir)?;
    findings.retain(|(_, finding)| {
        let text = format!("{} {}", finding.key, finding.summary);
        (args.class.is_empty() || args.class.contains(&finding.key.class))
            && args.matching.as_ref().is_none_or(|it| it.is_match(&text))
    });
    if args.qtest_c {
        for (folder, finding) in &findings {
            let program = read_trace(&folder.join(TRACE))?;
            output::print(&c_test(finding, &program))?;
        }
    } else if args.json {
        let rows: Vec<_> = findings
            .iter()
            .map(|(folder, finding)| json!({"folder": folder, "finding": finding}))
            .collect();
        let value = json!({
            "machine": store::machine(&args.dir)?,
            "totals": store::totals(&args.dir),
            "findings": rows,
        });
        output::line(&serde_json::to_string_pretty(&value)?)?;
    } else {
        output::print(&text(&args.dir, &findings)?)?;
    }
    Ok(OK)
}

fn text(dir: &Path, findings: &[(PathBuf, Finding)]) -> Result<String> {
    let (machine, totals) = (store::machine(dir)?, store::totals(dir));
    let mut text = format!(
        "{}: {} in {}, {} of the emulator\n",
        machine.name,
        counted(totals.inputs, "input"),
        duration(totals.seconds),
        counted(totals.starts, "start"),
    );
    for (folder, finding) in findings {
        let _ = writeln!(
            text,
            "{:>6}  {}: {}{}\n        {}",
            finding.hits,
            finding.key.class,
            finding.key.signature.title(&finding.summary),
            state(finding),
            folder.display()
        );
    }
    let _ = writeln!(text, "{}", counted(findings.len() as u64, "group"));
    Ok(text)
}
