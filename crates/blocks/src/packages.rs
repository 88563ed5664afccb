//! How the debug symbols of a program are installed: by the package that it is from.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The line that installs the debug symbols of the program at `path`, as it is typed into a
/// shell; `None` where no package has the program, and it has no build id to ask a server for.
#[must_use]
pub fn install_symbols(path: &Path, build_id: Option<&str>) -> Option<String> {
    debian(path)
        .or_else(|| fedora(path))
        .or_else(|| build_id.map(from_server))
}

/// What asks elfutils' public server for a debug file.
fn from_server(build_id: &str) -> String {
    format!("DEBUGINFOD_URLS=https://debuginfod.elfutils.org/ debuginfod-find debuginfo {build_id}")
}

/// Where there is rpm, `dnf` knows the archives.
fn fedora(path: &Path) -> Option<String> {
    const NAME: &str = "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}";
    let package = output(
        "rpm",
        &[
            "-qf".as_ref(),
            "--qf".as_ref(),
            NAME.as_ref(),
            path.as_ref(),
        ],
    )?;
    Some(format!("sudo dnf debuginfo-install {package}"))
}

/// Where there is dpkg: the package's own debug package, in the archive of the suite that the
/// package is from.
fn debian(path: &Path) -> Option<String> {
    let owner = |path: &Path| {
        let found = output("dpkg-query", &["-S".as_ref(), path.as_ref()])?;
        found.split([':', ',']).next().map(str::to_owned)
    };
    // A package may name the file by the folder that is now a link into /usr.
    let unmerged = || Some(Path::new("/").join(path.strip_prefix("/usr").ok()?));
    let package = owner(path).or_else(|| owner(&unmerged()?))?;
    let version = output(
        "dpkg-query",
        &["-W".as_ref(), "-f=${Version}".as_ref(), package.as_ref()],
    )?;
    let policy = |package: &str| {
        output("apt-cache", &["policy".as_ref(), package.as_ref()]).unwrap_or_default()
    };
    let debug_package = format!("{package}-dbgsym");
    let install = format!("sudo apt-get install {debug_package}={version}");
    if policy(&debug_package).contains(&version) {
        return Some(install);
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let archive = archive(&release, &version, &policy(&package))?;
    Some(format!(
        "echo 'deb {archive}' | sudo tee /etc/apt/sources.list.d/debug.list && \
         sudo apt-get update && {install}"
    ))
}

/// The archive of the debug packages, as a line of apt's sources names it: that of the suite
/// that `apt-cache policy` lists for the version, else what the version says itself.
/// `release` is the text of os-release(5).
fn archive(release: &str, version: &str, policy: &str) -> Option<String> {
    let field = |name: &str| {
        let value = release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"'))
    };
    match field("ID")? {
        "debian" => {}
        "ubuntu" => {
            let suite = field("VERSION_CODENAME")?;
            return Some(format!(
                "http://ddebs.ubuntu.com {suite} main restricted universe multiverse"
            ));
        }
        _ => return None,
    }
    let listed = suite(policy, version);
    let suite = match listed {
        Some(suite) => suite,
        None => {
            let name = field("VERSION_CODENAME")?;
            let more = if version.contains("~bpo") {
                "-backports"
            } else {
                ""
            };
            format!("{name}{more}")
        }
    };
    // Security updates have an archive of their own, and so have their symbols.
    let archive = if suite.ends_with("-security") {
        "debian-security-debug"
    } else {
        "debian-debug"
    };
    Some(format!(
        "http://deb.debian.org/{archive} {suite}-debug main"
    ))
}

/// The suite that `apt-cache policy` lists for a version:
///
/// ```text
///  *** 1:7.2+dfsg-7 500
///         500 http://deb.debian.org/debian bookworm/main amd64 Packages
/// ```
fn suite(policy: &str, version: &str) -> Option<String> {
    let mut lines = policy.lines().skip_while(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "***");
        let is_version = words.next() == Some(version);
        !(is_version && words.next().is_some())
    });
    lines.next()?;
    lines
        // The lines of an archive have a priority in front, those of a version behind.
        .take_while(|line| {
            line.split_whitespace()
                .next()
                .is_some_and(|it| it.parse::<i32>().is_ok())
        })
        .find_map(|line| {
            let place = line.split_whitespace().nth(2)?;
            place.split_once('/').map(|(suite, _)| suite.to_owned())
        })
}

/// What a program prints; `None` where it fails or is not installed.
fn output(program: &str, arguments: &[&OsStr]) -> Option<String> {
    let found = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(found.stdout).ok()?;
    let text = text.trim().to_owned();
    (found.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    const POLICY: &str = "\
qemu-utils:
  Installed: 1:7.2+dfsg-7+deb12u15
  Candidate: 1:7.2+dfsg-7+deb12u18
  Version table:
     1:7.2+dfsg-7+deb12u18 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
 *** 1:7.2+dfsg-7+deb12u15 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
        100 /var/lib/dpkg/status
     1:7.2+dfsg-7 500
        500 http://deb.debian.org/debian trixie/main amd64 Packages
";

    #[test]
    fn the_archive_is_that_of_the_suite_of_the_version() {
        let named = |version| archive(DEBIAN, version, POLICY).unwrap();
        assert_eq!(
            named("1:7.2+dfsg-7+deb12u18"),
            "http://deb.debian.org/debian-debug bookworm-debug main"
        );
        assert_eq!(
            named("1:7.2+dfsg-7+deb12u15"),
            "http://deb.debian.org/debian-security-debug bookworm-security-debug main"
        );
        assert_eq!(
            named("1:7.2+dfsg-7"),
            "http://deb.debian.org/debian-debug trixie-debug main"
        );
        // Sources that were removed, or a package that was installed by hand.
        assert_eq!(
            named("1:10.0.2+ds-2+deb13u1~bpo12+1"),
            "http://deb.debian.org/debian-debug bookworm-backports-debug main"
        );
        assert_eq!(
            named("1:10.0"),
            "http://deb.debian.org/debian-debug bookworm-debug main"
        );
    }

    #[test]
    fn other_distributions_have_other_archives_or_none() {
        let ubuntu = "NAME=Ubuntu\nID=ubuntu\nVERSION_CODENAME=noble\n";
        let found = archive(ubuntu, "1", "").unwrap();
        assert!(
            found.starts_with("http://ddebs.ubuntu.com noble "),
            "{found}"
        );
        assert_eq!(archive("ID=\"other\"\n", "1", ""), None);
        assert_eq!(archive("", "1", ""), None);
    }

    #[test]
    fn a_program_of_no_package_is_asked_for_by_its_build_id() {
        let own = std::env::current_exe().unwrap();
        let line = install_symbols(&own, Some("3a6f")).unwrap();
        assert!(line.ends_with("debuginfod-find debuginfo 3a6f"), "{line}");
        assert_eq!(install_symbols(&own, None), None);
    }
}
