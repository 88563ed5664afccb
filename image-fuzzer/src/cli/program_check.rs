//! Checks, before any test, that programs can be run as tests run them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail, ensure};

use crate::commands::{Command, Programs, given};
use crate::exec::{End, GAP, NOT_NOTED, Observation};
use crate::input::recipe::{FUZZER, Recipe};
use crate::oracle::end_word;
use crate::oracle::readers::{KnownReader, SecondReader};
use crate::oracle::runner::{Settings, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use crate::path::find_program;
use image_mutations::base::{Base, Formats};
use image_mutations::case::Maker;
use image_mutations::edit::{Edit, Mutation, Number};
use image_mutations::rng::Rng;

/// Runs programs once, to check that they can be run.
pub(super) struct ProgramCheck {
    runner: TestRunner,
    other: Option<SecondReader>,
    /// The option or file that names programs other than QEMU's tools, for messages.
    named_by: &'static str,
    /// The valid image that they are run on.
    base: Base,
}

impl ProgramCheck {
    /// Runs programs as `settings` say, on a plain image of the first of `formats`; `named_by`
    /// names those that are not QEMU's tools.
    ///
    /// # Errors
    ///
    /// The scratch folder cannot be created.
    pub(super) fn new(
        settings: &Settings,
        formats: &Formats,
        named_by: &'static str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let mut settings = settings.clone();
        let other = settings.compare_with.take();
        // What is reached here would not be new in the campaign any more.
        let own = settings.blocks.as_ref().map(|blocks| blocks.afresh());
        settings.blocks = own.map(Arc::new);
        let mut runner = TestRunner::new(settings)?;
        runner.set_stop(Arc::clone(stop));
        Ok(Self {
            runner,
            other,
            named_by,
            base: formats.plain(),
        })
    }

    /// Runs each of QEMU's tools among `programs`, and the one to compare with, with
    /// `--version`. Returns what each of the former says, by its name.
    ///
    /// # Errors
    ///
    /// One of them cannot be run.
    pub(super) fn tools(&mut self, programs: &BTreeSet<&str>) -> Result<BTreeMap<String, String>> {
        let own = self.runner.settings().programs.clone();
        let mut versions = BTreeMap::new();
        for program in programs.iter().filter(|name| name.starts_with("qemu-")) {
            let seen = self.tool(&own, program, false)?;
            versions.extend(seen.first_line().map(|line| ((*program).to_owned(), line)));
        }
        match self.other.clone() {
            Some(SecondReader::QemuImg(other)) => {
                self.tool(&other, "qemu-img", true)?;
            }
            Some(SecondReader::Known(reader)) => self.reader(reader)?,
            None => {}
        }
        Ok(versions)
    }

    /// Warnings about how programs are run here, a line each: parts of the sandbox that are
    /// missing, programs whose blocks are not noted, and a missing debugger.
    pub(super) fn gaps(&mut self) -> BTreeSet<String> {
        let mut gaps: BTreeSet<String> = self.runner.take_notes().into_iter().collect();
        gaps.retain(|note| note.starts_with(GAP) || note.contains(NOT_NOTED));
        if find_program(Path::new("gdb")).is_err() {
            gaps.insert(
                "gdb not found: crashes are distinguished by their signal only, and hangs by \
                 their command; install gdb"
                    .into(),
            );
        }
        gaps
    }

    /// Checks that a second reader reads a plain valid image.
    fn reader(&mut self, reader: &KnownReader) -> Result<()> {
        let command = reader.command();
        let Some(seen) = self.on_image(&command, Vec::new())? else {
            return Ok(());
        };
        let programs = self.runner.settings().programs.clone();
        self.check(&programs, &command, "--compare-with", &seen)?;
        let stderr = String::from_utf8_lossy(&seen.stderr);
        ensure!(
            seen.end == End::Exit(0),
            "'{}' (from --compare-with) cannot read a valid image ({}): {}",
            reader.name,
            end_word(&seen.end),
            stderr.lines().last().unwrap_or("no diagnostic output")
        );
        Ok(())
    }

    fn tool(&mut self, programs: &Programs, program: &str, other: bool) -> Result<Observation> {
        let version = Command::new([program, "--version"]);
        let seen = self.runner.start_with(programs, &version)?;
        let variable = program.replace('-', "_").to_uppercase();
        let is_set = std::env::var_os(&variable).is_some_and(|value| !value.is_empty());
        let from = match program {
            _ if other => "--compare-with",
            "qemu-img" | "qemu-io" if is_set => &variable,
            _ => "PATH",
        };
        self.check(programs, &version, from, &seen)?;
        Ok(seen)
    }

    /// Runs `command` on a plain valid image; `None` where it was interrupted.
    ///
    /// # Errors
    ///
    /// Its program cannot be run, or the scratch folder cannot be used.
    pub(super) fn on_valid_image(&mut self, command: &Command) -> Result<Option<Observation>> {
        let seen = self.on_image(command, Vec::new())?;
        if let Some(seen) = &seen {
            let programs = self.runner.settings().programs.clone();
            self.check(&programs, command, self.named_by, seen)?;
        }
        Ok(seen)
    }

    /// Whether `command` fails on an image without the magic bytes, as readers of the format
    /// do, and programs that only look at bytes do not.
    ///
    /// # Errors
    ///
    /// The scratch folder cannot be used.
    pub(super) fn refuses_other_files(&mut self, command: &Command) -> Result<bool> {
        let edit = match self.base {
            Base::Qcow2(_) => Edit::Set {
                path: "header.magic".into(),
                value: Number(0),
            },
            // Others have theirs elsewhere, or several; an empty file has none.
            Base::Other(_) | Base::Imported(_) => Edit::Length { bytes: Number(0) },
        };
        let family = "field".into();
        let seen = self.on_image(command, vec![Mutation { family, edit }])?;
        Ok(seen.is_some_and(|seen| matches!(seen.end, End::Exit(status) if status != 0)))
    }

    /// Runs `command` on a plain image with these edits; `None` where it was interrupted.
    fn on_image(&mut self, command: &Command, edits: Vec<Mutation>) -> Result<Option<Observation>> {
        let seed = "valid";
        let base = self.base.clone();
        let size = base.virtual_size();
        let given = std::slice::from_ref(command);
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: seed.into(),
            base,
            edits,
            commands: given::resolve(given, size, &mut Rng::from_text(seed)),
            fresh_copies: true,
            guard: None,
        };
        let files = Maker::default().files(&recipe.base, &recipe.edits)?;
        // Programs that serve, and those that are slow, are not waited for.
        let policy = TimeoutPolicy::Short;
        let outcome = self.runner.run_with(&recipe, &files, policy)?;
        let Some(ran) = outcome.ran.into_iter().next() else {
            return Ok(None);
        };
        if self.runner.is_aborted() {
            return Ok(None);
        }
        Ok(Some(ran.seen))
    }

    /// Checks by `seen` that the program of `command`, named by `from`, can be run.
    ///
    /// # Errors
    ///
    /// It cannot.
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
        let stderr = String::from_utf8_lossy(&seen.stderr).into_owned();
        let message = stderr.lines().find(|line| !line.trim().is_empty());
        let reason = match (&seen.end, message) {
            (End::NotStarted(why), _) => format!(": {why}"),
            (_, Some(line)) => format!(" ({}): {}", end_word(&seen.end), line.trim()),
            (end, None) => format!(" ({})", end_word(end)),
        };
        let (place, advice) = if self.runner.settings().sandbox {
            let advice = "; allow the folders that it needs with --allow-read DIR";
            (" in the sandbox", advice)
        } else {
            ("", "")
        };
        bail!(
            "'{}' (from {from}) cannot run{place}{reason}{advice}",
            program.unwrap_or_default()
        );
    }
}
