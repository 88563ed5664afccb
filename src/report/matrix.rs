//! The table at the end of a run over several combinations.

use std::collections::HashMap;
use std::fmt::Write as _;

use anstyle::Style;

use super::styles::style;
use crate::diff::Paint;
use crate::model::Kind;
use crate::words;

/// More tests than this are not all listed in the table.
const TABLE_ROWS: usize = 60;

/// Verdicts by test and combination.
#[derive(Debug, Default)]
pub(super) struct Table {
    tests: Vec<String>,
    combos: Vec<String>,
    rows: HashMap<String, usize>,
    /// Row by row; of several repetitions the worst.
    cells: Vec<Option<Kind>>,
}

impl Table {
    /// An empty one of these tests and combinations.
    pub(super) fn new(tests: &[String], combos: impl Iterator<Item = String>) -> Self {
        let combos: Vec<String> = combos.collect();
        Self {
            rows: tests.iter().cloned().zip(0..).collect(),
            cells: vec![None; tests.len() * combos.len()],
            tests: tests.to_vec(),
            combos,
        }
    }

    /// A test has ended so.
    pub(super) fn set(&mut self, test: &str, combo: &str, kind: Kind) {
        let row = self.rows.get(test).copied();
        let column = self.combos.iter().position(|c| c == combo);
        let (Some(row), Some(column)) = (row, column) else {
            return;
        };
        let cell = &mut self.cells[row * self.combos.len() + column];
        if cell.is_none_or(|old| old < kind) {
            *cell = Some(kind);
        }
    }

    /// The table, with a line on the rows that are left out: those that say nothing, and in
    /// a long one those in which all is well. Empty where nothing has ended.
    pub(super) fn text(&self, paint: Paint) -> String {
        let rows = self.tests.iter().zip(self.cells.chunks(self.combos.len()));
        let ended: Vec<_> = rows
            .filter(|(_, cells)| cells.iter().any(Option::is_some))
            .collect();
        if ended.is_empty() {
            return String::new();
        }
        let all = self.tests.len() <= TABLE_ROWS;
        let shown: Vec<_> = ended
            .iter()
            .filter(|(_, cells)| all || !is_good(cells))
            .collect();
        let mut out = String::from("\n");
        let left_out = ended.len() - shown.len();
        if shown.is_empty() {
            let _ = writeln!(
                out,
                "({left_out} tests passed or were not run in all combinations)\n"
            );
            return out;
        }
        let width = shown.iter().map(|(test, _)| test.len()).max().unwrap_or(0);
        let columns = self.columns(&shown);
        let mut title = format!("{:width$}", "");
        for (column, wide) in &columns {
            let _ = write!(title, "  {:wide$}", self.combos[*column]);
        }
        let _ = writeln!(out, "{}", title.trim_end());
        for (test, cells) in shown {
            let mut line = format!("{test:width$}");
            for (column, wide) in &columns {
                let word = word(cells[*column]);
                let style = cells[*column].map_or(Style::new(), style);
                let pad = wide - word.len();
                let _ = write!(line, "  {}{:pad$}", paint.apply(style, word), "");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if left_out > 0 {
            let _ = writeln!(
                out,
                "({left_out} tests that passed or were not run in all combinations are not listed)"
            );
        }
        out.push('\n');
        out
    }

    /// The columns in which anything has ended, with their widths.
    fn columns(&self, rows: &[&(&String, &[Option<Kind>])]) -> Vec<(usize, usize)> {
        let wide = |(column, title): (usize, &String)| {
            let cells = rows.iter().map(|(_, cells)| cells[column]);
            cells.clone().any(|cell| cell.is_some()).then(|| {
                let words = cells.map(|cell| word(cell).len());
                (column, words.max().unwrap_or(0).max(title.len()))
            })
        };
        let columns = self.combos.iter().enumerate();
        columns.filter_map(wide).collect()
    }
}

fn word(cell: Option<Kind>) -> &'static str {
    cell.map_or("-", words::kind)
}

fn is_good(cells: &[Option<Kind>]) -> bool {
    let good = |cell: &Option<Kind>| matches!(cell, Some(Kind::Pass | Kind::NotRun));
    cells.iter().all(good)
}
