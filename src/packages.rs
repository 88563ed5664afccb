//! Which package of the distribution a program comes from, as the files say in which package
//! managers keep it: those of dpkg, apk and pacman are text, and small enough to be read at
//! every start. Of rpm, whose database is not, its own program is asked.

use std::fs::read;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

/// Name and version of the package that `program` is from: `qemu-utils 1:10.0.2+ds-2`.
/// `None` where it is from none, or that cannot be found out. `ask_rpm` gives what the
/// program `rpm` prints when it is started with such arguments.
#[must_use]
pub fn package(
    program: &Path,
    ask_rpm: &dyn Fn(&Path, &[&str]) -> Option<String>,
) -> Option<String> {
    let root = Path::new("/");
    let real = program.canonicalize().ok();
    let files = [Some(program), real.as_deref()];
    let mut files = files.into_iter().flatten();
    files.find_map(|file| {
        let name = file.strip_prefix(root).ok()?.to_str()?;
        let found = dpkg(root, name).or_else(|| apk(root, name));
        found
            .or_else(|| pacman(root, name))
            .or_else(|| rpm(root, file, ask_rpm))
    })
}

/// dpkg has a list of files for each package, and one file with what it knows of all.
fn dpkg(root: &Path, file: &str) -> Option<String> {
    let lists = root.join("var/lib/dpkg/info");
    let wanted = format!("/{file}");
    let name = names(&lists).find_map(|list| {
        let name = list.strip_suffix(".list")?;
        let files = read(lists.join(&list)).ok()?;
        let found = files.lines().any(|line| line == wanted.as_bytes());
        // Where several architectures can be installed: `NAME:amd64`.
        found.then(|| name.split(':').next().unwrap_or(name).to_owned())
    })?;
    let status = read(root.join("var/lib/dpkg/status")).ok()?;
    let start = format!("Package: {name}\n");
    let at = match status.starts_with(start.as_bytes()) {
        true => 0,
        false => status.find(format!("\n{start}"))? + 1,
    };
    let version = field(status[at..].lines(), "Version: ")?;
    Some(format!("{name} {version}"))
}

/// apk has one file, with a paragraph for each package.
fn apk(root: &Path, file: &str) -> Option<String> {
    let installed = read(root.join("lib/apk/db/installed")).ok()?;
    let (mut name, mut version, mut dir) = (String::new(), String::new(), String::new());
    for line in installed.lines() {
        let Some((letter, text)) = line.split_once_str(":") else {
            continue;
        };
        let text = text.to_str_lossy();
        match letter {
            b"P" => name = text.into_owned(),
            b"V" => version = text.into_owned(),
            b"F" => dir = text.into_owned(),
            b"R" if format!("{dir}/{text}") == file => return Some(format!("{name} {version}")),
            _ => {}
        }
    }
    None
}

/// pacman has a directory for each package.
fn pacman(root: &Path, file: &str) -> Option<String> {
    let local = root.join("var/lib/pacman/local");
    let dir = names(&local).find(|dir| {
        let files = read(local.join(dir).join("files")).unwrap_or_default();
        files.lines().any(|line| line == file.as_bytes())
    })?;
    let about = read(local.join(dir).join("desc")).ok()?;
    let behind = |title: &str| {
        let mut lines = about.lines().skip_while(|line| *line != title.as_bytes());
        lines.nth(1).map(|line| line.to_str_lossy().into_owned())
    };
    Some(format!("{} {}", behind("%NAME%")?, behind("%VERSION%")?))
}

/// rpm tells names and versions of what has a file.
fn rpm(root: &Path, file: &Path, ask: &dyn Fn(&Path, &[&str]) -> Option<String>) -> Option<String> {
    let databases = ["var/lib/rpm", "usr/lib/sysimage/rpm"];
    let program = root.join("usr/bin/rpm");
    if !databases.iter().any(|dir| root.join(dir).is_dir()) || !program.is_file() {
        return None;
    }
    let format = "%{NAME} %{EVR}\\n";
    let said = ask(&program, &["-qf", "--queryformat", format, file.to_str()?])?;
    said.lines().next().map(str::to_owned)
}

/// The files in `dir` that are about packages of QEMU.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("qemu"))
}

/// The rest of the line that begins so, within a paragraph.
fn field<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<String> {
    let mut paragraph = lines.take_while(|line| !line.is_empty());
    let value = paragraph.find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(value.to_str_lossy().into_owned())
}

/// The distribution in words, from its `os-release`: `Debian GNU/Linux 12 (bookworm)`.
#[must_use]
pub fn distribution() -> Option<String> {
    let files = ["/etc/os-release", "/usr/lib/os-release"].map(PathBuf::from);
    let text = files.iter().find_map(|file| read(file).ok())?;
    pretty_name(&text)
}

fn pretty_name(text: &[u8]) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?;
    // Quoted as in a shell.
    let words = shlex::split(value.to_str().ok()?)?;
    words.into_iter().next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let file = root.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    #[test]
    fn dpkg_knows_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(dpkg(root, "usr/bin/qemu-img"), None);
        let info = "var/lib/dpkg/info";
        put(
            root,
            &format!("{info}/qemu-utils.list"),
            "/.\n/usr/bin/qemu-img\n",
        );
        put(
            root,
            &format!("{info}/qemu-x:amd64.list"),
            "/usr/bin/qemu-io",
        );
        assert_eq!(dpkg(root, "usr/bin/qemu-img"), None, "no version is known");
        put(
            root,
            "var/lib/dpkg/status",
            "Package: qemu-utils-extra\nVersion: 1\n\nPackage: qemu-x\nVersion: 7\n\n\
             Package: qemu-utils\nStatus: install ok installed\nVersion: 1:10.0.2+ds-2\n\n",
        );
        let found = dpkg(root, "usr/bin/qemu-img");
        assert_eq!(found.as_deref(), Some("qemu-utils 1:10.0.2+ds-2"));
        assert_eq!(dpkg(root, "usr/bin/qemu-io").as_deref(), Some("qemu-x 7"));
        assert_eq!(dpkg(root, "usr/bin/qemu"), None);
    }

    #[test]
    fn apk_and_pacman_do_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(
            root,
            "lib/apk/db/installed",
            "C:Q1=\nP:musl\nV:1.2\nF:lib\nR:libc.so\n\n\
             P:qemu-img\nV:9.1.2-r1\nF:usr\nF:usr/bin\nR:qemu-img\na:0:0:755\nR:qemu-io\n\n",
        );
        let found = apk(root, "usr/bin/qemu-io");
        assert_eq!(found.as_deref(), Some("qemu-img 9.1.2-r1"));
        assert_eq!(apk(root, "lib/qemu-io"), None);
        let local = "var/lib/pacman/local/qemu-img-10.0.2-1";
        put(
            root,
            &format!("{local}/files"),
            "%FILES%\nusr/\nusr/bin/qemu-img\n",
        );
        put(
            root,
            &format!("{local}/desc"),
            "%NAME%\nqemu-img\n\n%VERSION%\n10.0.2-1\n\n",
        );
        let found = pacman(root, "usr/bin/qemu-img");
        assert_eq!(found.as_deref(), Some("qemu-img 10.0.2-1"));
        assert_eq!(pacman(root, "usr/bin/qemu-io"), None);
    }

    #[test]
    fn rpm_is_asked_where_it_has_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let file = Path::new("/usr/bin/qemu-img");
        let ask = |program: &Path, args: &[&str]| {
            assert!(program.ends_with("usr/bin/rpm"));
            assert_eq!((args[0], args[3]), ("-qf", "/usr/bin/qemu-img"));
            Some("qemu-img 2:9.2.4-1.fc42\n".to_owned())
        };
        put(root, "usr/bin/rpm", "");
        assert_eq!(rpm(root, file, &ask), None);
        put(root, "var/lib/rpm/rpmdb.sqlite", "");
        let found = rpm(root, file, &ask);
        assert_eq!(found.as_deref(), Some("qemu-img 2:9.2.4-1.fc42"));
        assert_eq!(rpm(root, file, &|_, _| None), None);
    }

    #[test]
    fn distributions_tell_their_names() {
        let text = b"NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let name = pretty_name(text);
        assert_eq!(name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name(b"PRETTY_NAME=Void\n").as_deref(), Some("Void"));
        assert_eq!(pretty_name(b"NAME=x\nPRETTY_NAME=\"\n"), None);
    }
}
