//! Which build of QEMU is tested.

use std::path::Path;
use std::time::Duration;

use crate::build_id::build_id;
use crate::packages::package;
use crate::programs::{Programs, ask};

/// How long a program may take to tell its version, which nothing depends on.
const TELLS_VERSION_WITHIN: Duration = Duration::from_secs(5);

impl Programs {
    /// What is tested: lines for the header with the version of QEMU, the packages that
    /// `qemu-img` and the emulator are from, and the build ids of both. The emulator's are
    /// told where they are others; what is not known is left out, except the version.
    #[must_use]
    pub fn identity(&self) -> Vec<(&'static str, String)> {
        let img = &self.img.path;
        let Some(qemu) = self.qemu.as_ref().map(|qemu| &qemu.path) else {
            return lines_of(identity(img), None);
        };
        // Most of the time is spent waiting for what the programs print.
        let (img, qemu) = std::thread::scope(|scope| {
            let other = scope.spawn(|| identity(qemu));
            (identity(img), other.join().unwrap_or_default())
        });
        lines_of(img, Some(qemu))
    }
}

/// What is known of a program.
#[derive(Debug, Default)]
struct Identity {
    name: String,
    version: Option<String>,
    package: Option<String>,
    build_id: Option<String>,
}

fn identity(program: &Path) -> Identity {
    let told = |program: &Path, args: &[&str]| ask(program, args, TELLS_VERSION_WITHIN).ok();
    let name = program.file_name().unwrap_or_default();
    Identity {
        name: name.to_string_lossy().into_owned(),
        version: told(program, &["--version"])
            .and_then(|said| parse_version(&said).map(str::to_owned)),
        package: package(program, &told),
        build_id: build_id(program),
    }
}

/// [`Programs::identity`] of `qemu-img` and the emulator.
fn lines_of(img: Identity, qemu: Option<Identity>) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let version = img.version.unwrap_or_else(unknown);
    let Some(qemu) = qemu else {
        let mut lines = vec![("QEMU_VERSION", version)];
        lines.extend(img.package.map(|package| ("QEMU_PACKAGE", package)));
        let id = img.build_id.map(|id| format!("{} {id}", img.name));
        lines.extend(id.map(|id| ("BUILD_ID", id)));
        return lines;
    };
    let emulator = |of_img: &str, of_qemu: Option<String>| match of_qemu {
        Some(other) if other != of_img => format!("{of_img}; emulator {other}"),
        _ => of_img.to_owned(),
    };
    let qemu_version = Some(qemu.version.unwrap_or_else(unknown));
    let mut lines = vec![("QEMU_VERSION", emulator(&version, qemu_version))];
    match (img.package, qemu.package) {
        (Some(img), qemu) => lines.push(("QEMU_PACKAGE", emulator(&img, qemu))),
        (None, Some(qemu)) => lines.push(("QEMU_PACKAGE", format!("emulator {qemu}"))),
        (None, None) => {}
    }
    let ids = [(img.name, img.build_id), (qemu.name, qemu.build_id)];
    let ids = ids.into_iter();
    let ids: Vec<_> = ids
        .filter_map(|(name, id)| Some(format!("{name} {}", id?)))
        .collect();
    if !ids.is_empty() {
        lines.push(("BUILD_ID", ids.join("; ")));
    }
    lines
}

/// The version in what `--version` prints, with the package that distributions put behind it:
/// `10.0.2 (Debian 1:10.0.2+ds-2)`.
fn parse_version(said: &str) -> Option<&str> {
    let line = said.lines().next()?;
    let (_, version) = line.split_once(" version ")?;
    Some(version.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tested_is_told_in_a_few_lines() {
        let known = |name: &str, version: &str, package: &str, id: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Identity {
                name: name.into(),
                version: some(version),
                package: some(package),
                build_id: some(id),
            }
        };
        let img = || known("qemu-img", "10.0.2", "qemu-utils 1:10", "5fe1");
        let alone = lines_of(img(), None);
        assert_eq!(
            alone,
            [
                ("QEMU_VERSION", "10.0.2".to_owned()),
                ("QEMU_PACKAGE", "qemu-utils 1:10".to_owned()),
                ("BUILD_ID", "qemu-img 5fe1".to_owned()),
            ]
        );
        let qemu = known("qemu-system-arm", "9.2.0", "qemu-system-arm 1:9", "77");
        let both = lines_of(img(), Some(qemu));
        assert_eq!(
            both,
            [
                ("QEMU_VERSION", "10.0.2; emulator 9.2.0".to_owned()),
                (
                    "QEMU_PACKAGE",
                    "qemu-utils 1:10; emulator qemu-system-arm 1:9".to_owned()
                ),
                ("BUILD_ID", "qemu-img 5fe1; qemu-system-arm 77".to_owned()),
            ]
        );
        let scripts = lines_of(
            known("i", "10.0.2", "", ""),
            Some(known("e", "10.0.2", "", "")),
        );
        assert_eq!(scripts, [("QEMU_VERSION", "10.0.2".to_owned())]);
    }

    #[test]
    fn versions_are_told_with_their_package() {
        let said = "qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003\n";
        assert_eq!(parse_version(said), Some("10.0.2 (Debian 1:10.0.2+ds-2)"));
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22\n"),
            Some("7.2.22")
        );
        assert_eq!(parse_version(""), None);
    }
}
