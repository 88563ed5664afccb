//! The graph for people: as text, and for Graphviz.

use std::fmt::Write;

use super::{BLOCK, CD, Emulator, Kind, SERVED, nodes, paths};

/// The paths to disks and CD drives that are run, and those that are not with the reason, a line
/// each.
#[must_use]
pub fn text(emulator: &Emulator) -> String {
    let mut text = String::new();
    for interface in [BLOCK, SERVED, CD] {
        let (run, not_run) = paths(interface, emulator);
        let _ = writeln!(text, "{interface}: {} paths", run.len());
        for path in run {
            let _ = writeln!(text, "  {path}");
        }
        if !not_run.is_empty() {
            let _ = writeln!(text, "not run: {} paths", not_run.len());
        }
        for not_run in not_run {
            let _ = writeln!(text, "  {}: {}", not_run.path, not_run.reason);
        }
    }
    text
}

/// The graph in the language of Graphviz; what the emulator does not have is grey.
#[must_use]
pub fn dot(emulator: &Emulator) -> String {
    let mut text = String::from("digraph devices {\n  rankdir=LR;\n  node [fontname=sans];\n");
    for node in nodes() {
        let shape = match node.kind {
            Kind::Machine(_) => "box3d",
            Kind::Device(_) => "box",
            Kind::Global(_) | Kind::BuiltIn => "component",
            Kind::Driver(_) => "cds",
        };
        let alone = super::Path { nodes: vec![node] };
        let colour = if emulator.lacks(&alone).is_some() {
            "grey"
        } else {
            "black"
        };
        let _ = writeln!(
            text,
            "  \"{0}\" [shape={shape}, color={colour}, fontcolor={colour}];",
            node.name
        );
        if let Some(needs) = node.needs {
            let _ = writeln!(text, "  \"({needs})\" -> \"{}\";", node.name);
        }
        for (given, _) in node.gives {
            let _ = writeln!(text, "  \"{}\" -> \"({given})\";", node.name);
        }
    }
    text + "}\n"
}
