//! Writes the man page and the completions of the runner, from the options themselves, below a
//! folder: `cargo run --example pages -- PREFIX/share NAME`. NAME is what the program is called
//! where it is installed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use check::args::{ABOUT, Flag, MORE, SECTIONS, Takes, commands, flags};
use check::exit::MEANINGS;
use roff::{Roff, bold, italic, roman};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(share), Some(name)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: pages DIR NAME");
    };
    let (share, name) = (PathBuf::from(share), name.to_string_lossy().into_owned());
    for (file, text) in [
        (format!("man/man1/{name}.1"), page(&name)),
        (format!("bash-completion/completions/{name}"), bash(&name)),
        (format!("zsh/site-functions/_{name}"), zsh(&name)),
        (
            format!("fish/vendor_completions.d/{name}.fish"),
            fish(&name),
        ),
    ] {
        write(&share.join(file), &text)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let dir = file.parent().context("a file in a folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The name of the program in the texts of the help.
fn renamed(text: &str, name: &str) -> String {
    text.replace("  check ", &format!("  {name} "))
        .replace(" check [", &format!(" {name} ["))
}

fn page(name: &str) -> String {
    let version = concat!("check ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::default();
    page.control("TH", [&name.to_uppercase(), "1", "", version]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - runs numbered disk-image tests"))]);
    page.control("SH", ["SYNOPSIS"]);
    let mut uses = vec!["[options] [TEST ...]", "[options] -- COMMAND [ARG ...]"];
    uses.extend(commands().map(|command| command.usage));
    for line in uses {
        page.text([bold(name), roman(" "), italic(line)]);
        page.control("br", []);
    }
    let (about, examples) = ABOUT.split_once("\nexamples:\n").unwrap_or((ABOUT, ""));
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(about)]);
    page.control("SH", ["COMMANDS"]);
    for command in commands() {
        item(&mut page, command.usage, command.short, command.long);
    }
    page.control("SH", ["OPTIONS"]);
    for (heading, flags) in SECTIONS {
        page.control("SS", [*heading]);
        for flag in *flags {
            item(&mut page, flag.usage, flag.short, flag.long);
        }
    }
    for (heading, text) in sections(MORE) {
        page.control("SH", [heading.to_uppercase().as_str()]);
        verbatim(&mut page, &text);
    }
    page.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in MEANINGS {
        item(&mut page, &status.to_string(), meaning, "");
    }
    page.control("SH", ["EXAMPLES"]);
    verbatim(&mut page, &renamed(examples, name));
    page.to_roff()
}

fn item(page: &mut Roff, title: &str, short: &str, long: &str) {
    page.control("TP", []);
    page.text([bold(title)]);
    let mut text = short.to_owned();
    if !(short.is_empty() || long.is_empty()) {
        text.push_str(". ");
    }
    page.text([roman(text + long)]);
}

/// Lines as they are.
fn verbatim(page: &mut Roff, text: &str) {
    page.control("nf", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

/// Headings, which end in a colon at the start of a line, and the text below each.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_suffix(':'), found.last_mut()) {
            (Some(heading), _) if !line.starts_with(' ') => {
                found.push((heading.to_owned(), String::new()));
            }
            (_, Some((_, below))) => {
                let _ = writeln!(below, "{line}");
            }
            _ => {}
        }
    }
    found
}

/// What is completed behind an option: its value.
enum Value {
    Nothing,
    Groups,
    Words(Vec<&'static str>),
    Other,
}

fn value(flag: &Flag) -> Value {
    if flag.takes() != Takes::Value {
        return Value::Nothing;
    }
    let word = flag.usage.rsplit(' ').next().unwrap_or_default();
    match word {
        "G1,G2,..." => Value::Groups,
        // Words to choose from are in lower case.
        words if !words.contains(|c: char| c.is_ascii_uppercase() || c == '.') => {
            Value::Words(words.split('|').collect())
        }
        _ => Value::Other,
    }
}

fn bash(name: &str) -> String {
    let function = name.replace('-', "_");
    let words: Vec<_> = flags().flat_map(Flag::words).collect();
    let commands: Vec<_> = commands().map(|c| first(c.usage)).collect();
    let mut cases = String::new();
    for flag in flags() {
        let words = flag.words().collect::<Vec<_>>().join("|");
        let given = match value(flag) {
            Value::Nothing | Value::Other => continue,
            Value::Groups => format!("$({name} --list-groups 2>/dev/null | cut -d' ' -f1)"),
            Value::Words(words) => words.join(" "),
        };
        let _ = writeln!(
            cases,
            "        {words}) COMPREPLY=($(compgen -W \"{given}\" -- \"$word\")); return ;;"
        );
    }
    format!(
        "# Completion of {name} in bash.\n_{function}() {{\n    local word=${{COMP_WORDS[COMP_CWORD]}}\n    \
         case ${{COMP_WORDS[COMP_CWORD - 1]}} in\n{cases}    esac\n    case $word in\n        \
         -*) COMPREPLY=($(compgen -W \"{}\" -- \"$word\")) ;;\n        \
         *) COMPREPLY=($(compgen -f -- \"$word\") $(compgen -W \"{}\" -- \"$word\")) ;;\n    \
         esac\n}}\ncomplete -F _{function} {name}\n",
        words.join(" "),
        commands.join(" ")
    )
}

fn zsh(name: &str) -> String {
    let mut text = format!("#compdef {name}\n\n_arguments \\\n");
    for flag in flags() {
        let all: Vec<_> = flag.words().collect();
        for word in &all {
            let short = quoted_for_zsh(flag.short);
            let value = match (flag.takes(), value(flag)) {
                (Takes::Nothing, _) => String::new(),
                (Takes::Maybe, _) => "::value: ".to_owned(),
                (_, Value::Words(words)) => format!(":value:({})", words.join(" ")),
                (_, Value::Groups) => {
                    format!(":groups:($({name} --list-groups 2>/dev/null | cut -d\" \" -f1))")
                }
                _ => ":value:_files".to_owned(),
            };
            let joined = if flag.takes() == Takes::Maybe {
                "=-"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "  '({}){word}{joined}[{short}]{value}' \\",
                all.join(" ")
            );
        }
    }
    text.push_str("  '*:test:_files'\n");
    text
}

fn quoted_for_zsh(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\'', "'\\''")
        .replace('[', "\\[")
        .replace(']', "\\]")
        .replace(':', "\\:")
}

fn fish(name: &str) -> String {
    let mut text = format!("# Completion of {name} in fish.\n");
    for flag in flags() {
        let _ = write!(text, "complete -c {name}");
        for word in flag.words() {
            let (kind, word) = match word.strip_prefix("--") {
                Some(word) => ("-l", word),
                None if word.len() == 2 => ("-s", &word[1..]),
                None => ("-o", &word[1..]),
            };
            let _ = write!(text, " {kind} {word}");
        }
        match value(flag) {
            Value::Nothing => {}
            Value::Other => text.push_str(" -r"),
            Value::Words(words) => {
                let _ = write!(text, " -x -a '{}'", words.join(" "));
            }
            Value::Groups => {
                let _ = write!(text, " -x -a '({name} --list-groups | cut -d\" \" -f1)'");
            }
        }
        let short = flag.short.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = writeln!(text, " -d '{short}'");
    }
    for command in commands() {
        let word = first(command.usage);
        let _ = writeln!(text, "complete -c {name} -n __fish_is_first_arg -a {word}");
    }
    text
}

fn first(usage: &str) -> &str {
    usage.split(' ').next().unwrap_or(usage)
}
