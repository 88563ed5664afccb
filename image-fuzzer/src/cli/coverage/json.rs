//! Coverage as JSON.

use serde_json::{Value, json};

use super::Coverage;
use super::lines::UnreachedLines;
use super::model::{Code, Count, CoveredFunction, CoveredProgram, SourceFile};
use crate::input::recipe::FUZZER;

/// All of it.
pub(super) fn value(coverage: &Coverage) -> Value {
    json!({
        "fuzzer": FUZZER,
        "programs": coverage.programs.iter().map(program).collect::<Vec<_>>(),
    })
}

fn program(program: &CoveredProgram) -> Value {
    let code = program.code.as_ref();
    json!({
        // JSON has no other names than those of characters.
        "path": program.file.path.to_string_lossy(),
        "build_id": program.file.build_id,
        "blocks": count(program.blocks),
        "functions": code.ok().map(|code| count(code.functions)),
        "problem": code.err(),
        "install_symbols": code.ok().and_then(|code| code.install.as_deref()),
        "files": code.ok().map(files),
    })
}

fn files(code: &Code) -> Value {
    let file = |file: &SourceFile| {
        json!({
            "path": file.path,
            "blocks": count(file.blocks()),
            "functions": file.functions.iter().map(function).collect::<Vec<_>>(),
        })
    };
    code.files.iter().map(file).collect()
}

fn function(function: &CoveredFunction) -> Value {
    let lines = UnreachedLines::of(&function.lines);
    json!({
        "name": function.name,
        "line": function.line,
        "address": function.address,
        "blocks": count(function.blocks),
        "unreached_lines": lines.whole,
        "lines_reached_in_part": lines.in_part,
    })
}

fn count(count: Count) -> Value {
    json!({ "reached": count.reached, "all": count.all })
}
