//! One self-contained page: tests by combination with filters, failures with their
//! differences and logs, times, and a comparison with the previous run. It is
//! rewritten in one piece while the run goes on.

mod changes;
mod chart;
mod details;
mod page;
mod results;
mod table;

pub(super) use details::DIFF_LINES;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::Sink;
use super::changes::Comparison;
use super::combos::ComboNames;
use super::live_file::LiveFile;
use super::rendered::Rendered;
use crate::history::Previous;
use crate::model::{Combo, Event, HeaderLine, Kind};
use crate::words;

/// All details together may be so long (bytes); what comes after is told in its
/// line alone, so that a run in which everything fails still makes a page that can
/// be opened.
const DETAILS: usize = 24 << 20;

/// Verdicts in the order in which the page shows them.
const KINDS: [Kind; 6] = [
    Kind::Fail,
    Kind::Flaky,
    Kind::KnownFail,
    Kind::Interrupted,
    Kind::NotRun,
    Kind::Pass,
];

/// One result, as the page shows it.
struct Entry {
    test: usize,
    combo: usize,
    /// Name with repetition.
    name: String,
    kind: Kind,
    /// Seconds; `None` where nothing was started.
    secs: Option<f64>,
    cpu: f64,
    description: String,
    /// The details that are shown when it is opened, as HTML; may be empty.
    details: String,
}

/// What the page is made of.
#[derive(Default)]
struct Page {
    header: Vec<HeaderLine>,
    tests: Vec<String>,
    summaries: HashMap<usize, String>,
    combos: Vec<Arc<Combo>>,
    /// Short names of the combinations.
    names: Vec<String>,
    /// Creation options that the names leave out.
    options: Option<String>,
    /// Position of each test's name.
    rows: HashMap<String, usize>,
    jobs: usize,
    at: Option<SystemTime>,
    entries: Vec<Entry>,
    /// Bytes of all details.
    details: usize,
    not_reached: Vec<String>,
    /// How long the run took and whether it was interrupted, once it has ended.
    ended: Option<(Duration, bool)>,
    comparison: Comparison,
}

/// The HTML reporter.
pub(super) struct Html {
    file: LiveFile<Page>,
}

impl Html {
    /// Makes `dir` and an empty page in it.
    pub(super) fn create(dir: &Path, previous: Previous) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the directory {}", dir.display()))?;
        let path = dir.join("index.html");
        let page = Page {
            comparison: Comparison::new(previous),
            ..Page::default()
        };
        let file = LiveFile::create(&path, page)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file })
    }
}

impl Page {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        self.comparison.event(event);
        match event {
            Event::RunStarted {
                header,
                jobs,
                combos,
                tests,
                at,
                ..
            } => {
                self.header.clone_from(header);
                self.tests.clone_from(tests);
                self.rows = tests.iter().cloned().zip(0..).collect();
                self.combos.clone_from(combos);
                self.name_combos();
                self.jobs = *jobs;
                self.at = Some(*at);
            }
            Event::Finished(_) => {
                if let Some(rendered) = rendered {
                    self.add(rendered);
                }
            }
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            } => {
                let title = |job: &crate::model::Job| {
                    self.name(&words::name(job), self.position(&job.combo))
                };
                self.not_reached = not_reached.iter().map(title).collect();
                self.ended = Some((*wall, *interrupted));
            }
            _ => {}
        }
    }

    fn add(&mut self, rendered: &Rendered<'_>) {
        let finished = rendered.finished;
        let job = &finished.job;
        let test = *self.rows.entry(job.test.name.clone()).or_insert_with(|| {
            self.tests.push(job.test.name.clone());
            self.tests.len() - 1
        });
        let combo = self.position(&job.combo);
        if combo == self.combos.len() {
            self.combos.push(Arc::clone(&job.combo));
            self.name_combos();
        }
        self.summaries
            .entry(test)
            .or_insert_with(|| job.test.summary.clone());
        let mut text = details::html(rendered);
        if self.details + text.len() > DETAILS && !text.is_empty() {
            text = "<p class=\"dim\">Not shown, to limit the size of this page.</p>".to_owned();
        }
        self.details += text.len();
        let kind = Kind::from(&finished.verdict);
        let outcome = finished.outcome.as_ref();
        self.entries.push(Entry {
            test,
            combo,
            name: words::name(job),
            kind,
            secs: outcome.map(|o| o.wall.as_secs_f64()),
            cpu: outcome.map_or(0.0, |o| o.cpu.as_secs_f64()),
            description: rendered.description.clone(),
            details: text,
        });
    }

    fn name_combos(&mut self) {
        let names = ComboNames::new(&self.combos);
        self.names = names.all().collect();
        self.options = names.options();
    }

    /// The column of a combination; one behind the last where it has none.
    fn position(&self, combo: &Combo) -> usize {
        let known = self.combos.iter().position(|c| **c == *combo);
        known.unwrap_or(self.combos.len())
    }

    fn before(&self, entry: &Entry) -> Option<(Kind, f64)> {
        let (test, combo) = (&self.tests[entry.test], &self.combos[entry.combo]);
        self.comparison.before(test, combo)
    }
}

/// `text` as HTML shows it, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A verdict's name in the page's classes.
fn class(kind: Kind) -> String {
    words::kind(kind).replace(' ', "-")
}

impl Sink for Html {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        match event {
            Event::RunStarted { .. } | Event::Finished(_) => {
                self.file.change(|page| page.event(event, rendered));
            }
            Event::RunFinished { .. } => {
                self.file.change(|page| page.event(event, rendered));
                self.file.close();
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Vec<String> {
        self.file.trouble("page").into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{History, Selection};
    use crate::model::{Failure, Mismatch, Reporter, Verdict};
    use crate::report::sample;

    fn page(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("index.html")).unwrap()
    }

    #[test]
    fn the_page_is_whole_at_any_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut html = Html::create(dir.path(), Previous::default()).unwrap();
        assert!(page(dir.path()).ends_with("</html>\n"));
        html.event(&sample::run_started(&["001", "002"], 0), None);
        while !page(dir.path()).contains("0 of 2 done") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let text = page(dir.path());
        assert!(text.ends_with("</html>\n"));
        assert!(text.contains("&lt;qcow2&gt;"));

        let mut f = sample::finished(
            sample::job(0, "001", "qcow2"),
            Verdict::Fail(vec![Failure::Output]),
        );
        f.mismatch = Some(Mismatch {
            expected: Arc::new(b"read 512 bytes\n".to_vec()),
            actual: Arc::new(b"read <b>1024</b> bytes\n".to_vec()),
        });
        let rendered = Rendered::new(&f);
        html.event(&Event::Finished(Box::new(f.clone())), Some(&rendered));
        html.event(
            &Event::RunFinished {
                not_reached: vec![sample::job(1, "002", "qcow2")],
                interrupted: true,
                wall: Duration::from_secs(2),
            },
            None,
        );
        assert!(html.finish().is_empty());
        let text = page(dir.path());
        assert!(text.ends_with("</html>\n"));
        assert!(text.contains("<mark>512</mark>"), "{text}");
        assert!(!text.contains("<b>1024"), "{text}");
        assert!(text.contains("Not started: 002"), "{text}");
        assert!(text.contains("./check -qcow2 001"), "{text}");
    }

    #[test]
    fn failures_come_first_and_what_passed_is_folded() {
        let dir = tempfile::tempdir().unwrap();
        let mut html = Html::create(dir.path(), Previous::default()).unwrap();
        let fail = Verdict::Fail(vec![Failure::ExitStatus(1)]);
        run([Verdict::Pass, fail], |event, rendered| {
            html.event(event, rendered);
        });
        let text = page(dir.path());
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        let failed =
            at("<details class=\"group\" id=\"fail\" open><summary><b class=\"fail\">Failed</b>");
        let passed =
            at("<details class=\"group\" id=\"pass\"><summary><b class=\"pass\">Passed</b>");
        assert!(failed < passed);
        assert!(!text.contains("Not run"), "a heading without rows: {text}");
        assert!(!text.contains("http"), "the page stands alone");
    }

    #[test]
    fn without_results_there_are_no_headings() {
        let dir = tempfile::tempdir().unwrap();
        let mut html = Html::create(dir.path(), Previous::default()).unwrap();
        html.event(&sample::run_started(&["001"], 0), None);
        drop(html);
        let text = page(dir.path());
        for title in ["Results", "Tests", "Times", "Changes"] {
            assert!(!text.contains(&format!("<h2>{title}")), "{text}");
        }
        assert!(text.contains("<h2>Environment"), "{text}");
    }

    /// One run of 001 and 002 with these verdicts, told to `reporter`.
    fn run(verdicts: [Verdict; 2], mut tell: impl FnMut(&Event, Option<&Rendered<'_>>)) {
        tell(&sample::run_started(&["001", "002"], 0), None);
        for (name, verdict) in ["001", "002"].into_iter().zip(verdicts) {
            let finished = sample::finished(sample::job(0, name, "qcow2"), verdict);
            let event = Event::Finished(Box::new(finished.clone()));
            tell(&event, Some(&Rendered::new(&finished)));
        }
        tell(
            &Event::RunFinished {
                not_reached: Vec::new(),
                interrupted: false,
                wall: Duration::from_secs(1),
            },
            None,
        );
    }

    #[test]
    fn the_page_compares_with_the_run_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path()).unwrap();
        run([Verdict::Pass, Verdict::Pass], |event, _| {
            history.event(event);
        });
        drop(history);
        let jobs = ["001", "002"].map(|name| sample::job(0, name, "qcow2"));
        let memory = History::open(dir.path()).unwrap().take_memory();
        let previous = memory.previous(&Selection::of(&jobs));
        let mut html = Html::create(dir.path(), previous).unwrap();
        let fail = Verdict::Fail(vec![Failure::ExitStatus(1)]);
        run([Verdict::Pass, fail], |event, rendered| {
            html.event(event, rendered);
        });
        let text = page(dir.path());
        let from = text.find("Changes since the previous run").unwrap();
        let part = text[from..].split("<h2>Results").next().unwrap();
        assert!(part.contains("the last of the same tests and combinations"));
        assert!(part.contains("<h3>Newly failing (1)</h3>"), "{part}");
        assert!(
            part.contains("<a href=\"#r1\">002</a></b> <span class=\"fail\">fail, was pass</span>"),
            "{part}"
        );
        assert!(!part.contains("001"), "{part}");
        assert!(text.contains("<i class=\"before\""), "no mark in the chart");
        assert!(!text.contains("was aborted"), "{text}");
    }
}
