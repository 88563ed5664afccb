//! What the inputs of a campaign are made of: the registers of a device, and what its driver does.

use anyhow::Result;
use image_mutations::rng::Rng;

use super::emulator::{Emulator, Setup};
use super::program::{Program, Step};
use super::surface::Surface;
use super::{draw, mutate, recording};

/// What inputs are made of.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What inputs can touch.
    pub surface: Surface,
    /// What makes the device ready, with which most inputs begin: what its driver does, or what
    /// gives its registers their places.
    pub opening: Vec<Step>,
    /// What a driver does: its setting up, and a request of each kind.
    pub recorded: Vec<Program>,
    /// Why nothing was recorded of a driver that there is.
    pub obstacle: Option<String>,
}

impl Model {
    /// Finds out what a machine has and, where inputs are to have `structure`, what a driver
    /// does with it.
    ///
    /// # Errors
    ///
    /// The emulator does not start or answer, or nothing of the machine is to be fuzzed.
    pub fn of(setup: &Setup<'_>, structure: bool) -> Result<Self> {
        let mut emulator = Emulator::start(setup, None)?;
        let surface = Surface::of(setup.machine, &mut emulator)?;
        drop(emulator);
        let path = setup.machine.graph_path().filter(|_| structure);
        let Some(path) = path else {
            return Ok(Self {
                opening: surface.setup.clone(),
                surface,
                ..Self::default()
            });
        };
        let mut emulator = Emulator::start(setup, None)?;
        Ok(match recording::record(&path, emulator.guest(), &surface) {
            Ok(recording) => Self {
                surface,
                opening: recording.opening,
                recorded: recording.programs,
                obstacle: None,
            },
            Err(why) => Self {
                opening: surface.setup.clone(),
                surface,
                recorded: Vec::new(),
                obstacle: Some(format!("the driver of {path} does not work here: {why}")),
            },
        })
    }

    /// An input that knows the registers and nothing else.
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> Program {
        draw::program(&self.surface, rng)
    }

    /// An input made from `program` by a few changes, some of which take steps of `other`.
    #[must_use]
    pub fn mutate(&self, program: &Program, other: &Program, rng: &mut Rng) -> Program {
        mutate::mutate(program, other, &self.surface, &self.opening, rng)
    }

    /// An input made from `program` by one change of a kind: `field`, `number`, `insert`, ...
    /// `None` where it finds nothing to change.
    #[must_use]
    pub fn change(&self, kind: &str, program: &Program, rng: &mut Rng) -> Option<Program> {
        mutate::change(kind, program, &self.surface, rng)
    }

    /// What an input does with a device that is ready; `None` for one that makes it so in
    /// another way.
    #[must_use]
    pub fn tail<'a>(&self, program: &'a Program) -> Option<&'a [Step]> {
        program.steps.strip_prefix(self.opening.as_slice())
    }
}
