//! The report as a log that other tools read (SARIF 2.1.0, OASIS, section 3).

use serde_json::{Value, json};

use super::{Change, Report, Row};
use crate::oracle::{Class, Severity};

/// The log.
pub(super) fn log(report: &Report) -> Value {
    let rules = Class::ALL.iter().map(|class| {
        json!({
            "id": class.to_string(),
            "shortDescription": { "text": format!("The program {}.", class.meaning()) },
            "defaultConfiguration": { "level": level(*class) },
        })
    });
    let invocations = report.runs.iter().map(|run| {
        json!({
            "commandLine": run.command_line,
            "startTimeUtc": run.time,
            "executionSuccessful": true,
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "image-fuzzer",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            }},
            "invocations": invocations.collect::<Vec<_>>(),
            "results": report.rows.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// A group.
fn result(row: &Row) -> Value {
    let key = &row.record.key;
    let image = crate::finding::image_in(&row.folder);
    let mut result = json!({
        "ruleId": key.class.to_string(),
        "level": level(key.class),
        "message": { "text": format!("{}: {}", row.title(), row.record.command) },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": image.to_string_lossy() },
        }}],
        "partialFingerprints": { "group/v1": key.to_string() },
        "occurrenceCount": row.hits.max(1),
    });
    let state = row.change.map(|change| match change {
        Change::New => "new",
        Change::Kept => "unchanged",
        Change::Gone => "absent",
    });
    if let (Some(state), Some(fields)) = (state, result.as_object_mut()) {
        fields.insert("baselineState".into(), state.into());
    }
    result
}

/// How bad a class is, in the words of SARIF.
fn level(class: Class) -> &'static str {
    match class.severity() {
        Severity::Memory | Severity::Data | Severity::Crash | Severity::Hang => "error",
        Severity::Excess | Severity::Refusal => "warning",
    }
}
