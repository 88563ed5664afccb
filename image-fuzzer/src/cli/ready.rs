//! Whether the programs can be run at all, as they will be: asked before anything is tested
//! with them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use image_formats::qcow2::Spec;

use crate::commands::{Command, Programs, given};
use crate::exec::{End, GAP, Observation};
use crate::input::base::Base;
use crate::input::case::Maker;
use crate::input::recipe::{FUZZER, Recipe};
use crate::oracle::end_word;
use crate::oracle::runner::{Settings, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use crate::path::find_program;
use crate::rng::Rng;

/// Runs programs once, to see whether they can.
pub(super) struct Ready {
    runner: TestRunner,
    other: Option<Programs>,
    /// What names programs other than QEMU's tools.
    named_by: &'static str,
}

impl Ready {
    /// Programs are run as `settings` say; those that are not QEMU's tools were named by
    /// `named_by`.
    ///
    /// Fails where there is no place for a scratch folder.
    pub(super) fn new(
        settings: &Settings,
        named_by: &'static str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut settings = settings.clone();
        let other = settings.compare_with.take();
        let mut runner = TestRunner::new(settings)?;
        runner.set_stop(Arc::clone(stop));
        Ok(Self {
            runner,
            other,
            named_by,
        })
    }

    /// Has each of QEMU's tools among `programs`, and the one to compare with, say its
    /// version.
    ///
    /// Fails, in a line for the user, where one cannot run.
    pub(super) fn tools(&mut self, programs: &BTreeSet<&str>) -> Result<()> {
        let own = self.runner.settings().programs.clone();
        for program in programs.iter().filter(|name| name.starts_with("qemu-")) {
            self.tool(&own, program, false)?;
        }
        match self.other.clone() {
            Some(other) => self.tool(&other, "qemu-img", true),
            None => Ok(()),
        }
    }

    /// What the user should know of how programs are run here, a line each: what of the
    /// sandbox could not be had, and that there is no debugger.
    pub(super) fn gaps(&mut self) -> BTreeSet<String> {
        let mut gaps: BTreeSet<String> = self.runner.take_notes().into_iter().collect();
        gaps.retain(|note| note.starts_with(GAP));
        if find_program(Path::new("gdb")).is_err() {
            gaps.insert(
                "there is no gdb: crashes are told apart by their signal alone, and hangs by \
                 their command"
                    .into(),
            );
        }
        gaps
    }

    fn tool(&mut self, programs: &Programs, program: &str, other: bool) -> Result<()> {
        let asked = Command::new([program, "--version"]);
        let seen = self.runner.start_with(programs, &asked)?;
        let variable = program.replace('-', "_").to_uppercase();
        let is_set = std::env::var_os(&variable).is_some_and(|value| !value.is_empty());
        let from = match program {
            _ if other => "--compare-with",
            "qemu-img" | "qemu-io" if is_set => &variable,
            _ => "PATH",
        };
        self.check(programs, &asked, from, &seen)
    }

    /// What comes of `command` on a plain valid image; `None` where the user interrupted it.
    ///
    /// Fails, in a line for the user, where its program cannot run, and where the machine
    /// does.
    pub(super) fn on_valid_image(&mut self, command: &Command) -> Result<Option<Observation>> {
        let seed = "valid";
        let base = Base {
            image: Spec {
                virtual_size: 1 << 20,
                ..Spec::default()
            },
            backing: None,
        };
        let size = base.image.virtual_size;
        let given = std::slice::from_ref(command);
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: seed.into(),
            base,
            edits: Vec::new(),
            commands: given::resolve(given, size, &mut Rng::from_text(seed)),
            fresh_copies: true,
        };
        let files = Maker::default().files(&recipe)?;
        // Programs that serve, and those that are slow, are not waited for.
        let policy = TimeoutPolicy::Short;
        let outcome = self.runner.run_with(&recipe, &files, policy)?;
        let Some(ran) = outcome.ran.into_iter().next() else {
            return Ok(None);
        };
        if self.runner.is_aborted() {
            return Ok(None);
        }
        let programs = self.runner.settings().programs.clone();
        self.check(&programs, command, self.named_by, &ran.seen)?;
        Ok(Some(ran.seen))
    }

    /// Fails where `seen` is of a program, named by `from`, that cannot run.
    fn check(
        &self,
        programs: &Programs,
        command: &Command,
        from: &str,
        seen: &Observation,
    ) -> Result<()> {
        if !seen.cannot_run() {
            return Ok(());
        }
        let argv = programs.argv(command, "");
        let program = argv.first().map(|name| name.display().to_string());
        let said = String::from_utf8_lossy(&seen.stderr).into_owned();
        let said = match (&seen.end, said.lines().find(|line| !line.trim().is_empty())) {
            (End::NotStarted(why), _) => format!(": {why}"),
            (_, Some(line)) => format!(" ({}): {}", end_word(&seen.end), line.trim()),
            (end, None) => format!(" ({})", end_word(end)),
        };
        let (place, advice) = if self.runner.settings().sandbox {
            let advice = "; name the folders that it needs with --readable DIR";
            (" in the sandbox", advice)
        } else {
            ("", "")
        };
        bail!(
            "'{}' (from {from}) cannot run{place}{said}{advice}",
            program.unwrap_or_default()
        );
    }
}
