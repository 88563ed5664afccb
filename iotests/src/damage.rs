//! What `qemu-img check` counts, whatever the layout of the file.

use anyhow::Result;

use crate::image::Image;
use crate::test::Test;

/// What a check found and repaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exit status of `qemu-img check`.
    pub status: i32,
    /// Corruptions that are left.
    pub corruptions: u64,
    /// Leaked clusters that are left.
    pub leaks: u64,
    /// Corruptions repaired.
    pub corruptions_fixed: u64,
    /// Leaked clusters freed.
    pub leaks_fixed: u64,
    /// Places that could not be checked.
    pub check_errors: u64,
}

impl Test {
    /// Checks an image with these options (such as `-r all`) and logs the counts
    /// and the exit status; where it cannot be opened, the output.
    ///
    /// # Errors
    ///
    /// Fails if the check is ended by a signal.
    pub async fn check_counts(&self, image: &Image, options: &[&str]) -> Result<Counts> {
        let counts = self.counts(image, options, true).await?;
        let asked: String = options.iter().flat_map(|o| [" ", o]).collect();
        let some = |n: u64, what: &str| (n > 0).then(|| format!("{what} {n}"));
        let found: Vec<String> = [
            some(counts.corruptions, "corruptions"),
            some(counts.leaks, "leaks"),
            some(counts.corruptions_fixed, "corruptions fixed"),
            some(counts.leaks_fixed, "leaks fixed"),
            some(counts.check_errors, "not checked"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let found = if found.is_empty() {
            "no errors counted".to_owned()
        } else {
            found.join(", ")
        };
        self.log(format!(
            "check{asked} {image}: {found}; exit status {}",
            counts.status
        ));
        Ok(counts)
    }

    /// As [`Test::check_counts`], and logs nothing.
    ///
    /// # Errors
    ///
    /// Fails if the check is ended by a signal.
    pub async fn check_counts_quietly(&self, image: &Image, options: &[&str]) -> Result<Counts> {
        self.counts(image, options, false).await
    }

    async fn counts(&self, image: &Image, options: &[&str], logged: bool) -> Result<Counts> {
        let mut words = vec!["check".to_owned(), "--output=json".to_owned()];
        words.extend(options.iter().map(|o| (*o).to_owned()));
        words.push(image.to_string());
        let output = self.img(words).quiet().any_status().await?;
        let status = output.status.unwrap_or(-1);
        let Ok(report) = output.json() else {
            if logged {
                self.ctx.log_output(&output.all());
            }
            return Ok(Counts {
                status,
                ..Counts::default()
            });
        };
        let number = |key: &str| report[key].as_u64().unwrap_or(0);
        Ok(Counts {
            status,
            corruptions: number("corruptions"),
            leaks: number("leaks"),
            corruptions_fixed: number("corruptions-fixed"),
            leaks_fixed: number("leaks-fixed"),
            check_errors: number("check-errors"),
        })
    }
}
