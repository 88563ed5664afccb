//! What users ask of the mutations, in environment variables.

use std::fmt;

use image_formats::Format;
use image_mutations::base::Formats;
use image_mutations::mutate::{FAMILIES, first_weights};
use image_mutations::rng::Rng;

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Options {
    /// The formats of new images; none: that of the inputs, any where none is recognised.
    pub(crate) formats: Vec<Format>,
    /// How often mutations of each family are drawn.
    pub(crate) weights: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            formats: Vec::new(),
            weights: first_weights(),
        }
    }
}

/// Why an environment variable cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError {
    variable: &'static str,
    word: String,
    known: Vec<&'static str>,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            variable,
            word,
            known,
        } = self;
        write!(
            f,
            "{variable}: unknown word '{word}'; known are {}",
            known.join(", ")
        )
    }
}

impl std::error::Error for OptionsError {}

impl Options {
    /// The variable with the formats of new images, separated by commas.
    pub const FORMATS: &str = "IMAGE_MUTATOR_FORMATS";
    /// The variable with the families that mutations are drawn from, separated by commas.
    pub const FAMILIES: &str = "IMAGE_MUTATOR_FAMILIES";

    /// The options in the variables that `var` gives; what is not set or empty is the default.
    ///
    /// ```
    /// use image_mutator::Options;
    ///
    /// let options = Options::from_vars(|name| std::env::var(name).ok())?;
    /// # let _ = options;
    /// # Ok::<(), image_mutator::OptionsError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A format or a family is unknown.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        for word in words(var(Self::FORMATS).as_deref()) {
            let format = Format::from_name(word).ok_or_else(|| OptionsError {
                variable: Self::FORMATS,
                word: word.to_owned(),
                known: Formats::words_of_one(),
            })?;
            options.formats.push(format);
        }
        let families = var(Self::FAMILIES);
        let mut chosen = Vec::new();
        for word in words(families.as_deref()) {
            let found = FAMILIES.iter().position(|family| family.name == word);
            chosen.push(found.ok_or_else(|| OptionsError {
                variable: Self::FAMILIES,
                word: word.to_owned(),
                known: FAMILIES.iter().map(|family| family.name).collect(),
            })?);
        }
        if !chosen.is_empty() {
            for (index, weight) in options.weights.iter_mut().enumerate() {
                *weight *= u64::from(chosen.contains(&index));
            }
        }
        Ok(options)
    }

    /// The formats of new images, where nothing is known of what they are for.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        match self.formats.as_slice() {
            [] => &Format::ALL,
            chosen => chosen,
        }
    }

    /// The format of a new image, where the inputs are of that format.
    pub(crate) fn fresh(&self, of_inputs: Option<Format>, rng: &mut Rng) -> Format {
        let drawn = match (self.formats.as_slice(), of_inputs) {
            ([], Some(format)) => return format,
            ([], None) => rng.pick(&Format::ALL),
            (formats, _) => rng.pick(formats),
        };
        drawn.copied().unwrap_or(Format::Qcow2)
    }
}

/// The words of a list with commas.
fn words(list: Option<&str>) -> impl Iterator<Item = &str> {
    let words = list.unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(formats: &str, families: &str) -> Result<Options, OptionsError> {
        Options::from_vars(|name| match name {
            Options::FORMATS => Some(formats.to_owned()),
            Options::FAMILIES => Some(families.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn variables_choose_formats_and_families() {
        let options = read("qcow2, vhdx", "pointer").unwrap();
        assert_eq!(options.formats, [Format::Qcow2, Format::Vhdx]);
        let mut rng = Rng::from_text("options");
        let drawn: BTreeSet<_> = (0..40).map(|_| options.fresh(None, &mut rng)).collect();
        assert_eq!(drawn, [Format::Qcow2, Format::Vhdx].into());
        let weighted = options.weights.iter().filter(|weight| **weight > 0).count();
        assert_eq!(weighted, 1);
        let defaults = read("", "").unwrap();
        assert_eq!(defaults.weights, first_weights());
        assert_eq!(defaults.fresh(Some(Format::Vdi), &mut rng), Format::Vdi);
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = read("qcow3", "").unwrap_err().to_string();
        assert!(
            error.starts_with("IMAGE_MUTATOR_FORMATS: unknown word 'qcow3'; known are qcow2,"),
            "{error}"
        );
        let error = read("", "pointers").unwrap_err().to_string();
        assert!(
            error.contains("'pointers'; known are boundary, pointer,"),
            "{error}"
        );
    }
}
