//! Commands given with `-c`: the JSON of the old fuzzer or a line as typed.

use anyhow::{Context, Result, bail};

use super::{Command, Programs};
use image_mutations::rng::Rng;

/// Bytes in a sector, the unit `$off` and `$len` are aligned to.
const SECTOR: u64 = 512;

/// The commands that one `-c` names.
///
/// JSON is an array of commands, each an array of strings. Anything else is read
/// as a shell would split it, and `$test_img` is added at the end where the line
/// does not name it.
pub fn parse(text: &str) -> Result<Vec<Command>> {
    if text.trim_start().starts_with('[') {
        let commands: Vec<Vec<String>> = serde_json::from_str(text).with_context(|| {
            format!(
                "the command {text} is not a JSON array of arrays of strings, \
                 such as [[\"qemu-img\", \"info\", \"$test_img\"]]"
            )
        })?;
        if commands.is_empty() || commands.iter().any(Vec::is_empty) {
            bail!("the list of commands {text} is empty or has an empty command");
        }
        return Ok(commands.into_iter().map(Command).collect());
    }
    let Some(mut words) = shlex::split(text) else {
        bail!("the command {text} has an unclosed quotation mark");
    };
    if words.is_empty() {
        bail!("the command is empty");
    }
    if !words.iter().any(|word| word.contains("$test_img")) {
        words.push("$test_img".into());
    }
    Ok(vec![Command(words)])
}

/// The commands whose program is there, and a line about each other one.
pub fn runnable(commands: Vec<Command>, programs: &Programs) -> (Vec<Command>, Vec<String>) {
    let mut problems = Vec::new();
    let mut found = |command: &Command| match programs.find(command.program()) {
        Ok(_) => true,
        Err(why) => {
            problems.push(format!("command '{}': {why}", command.shell()));
            false
        }
    };
    let kept = commands.into_iter().filter(|it| found(it)).collect();
    (kept, problems)
}

/// `commands` with `$off` and `$len` drawn: a range of whole sectors inside a
/// disk of `virtual_size` bytes.
pub fn resolve(commands: &[Command], virtual_size: u64, rng: &mut Rng) -> Vec<Command> {
    let sectors = (virtual_size / SECTOR).max(1);
    commands
        .iter()
        .map(|command| {
            let offset = rng.below(sectors);
            let length = rng.between(1, (sectors - offset).max(1));
            let fill = |word: &String| {
                word.replace("$off", &(offset * SECTOR).to_string())
                    .replace("$len", &(length * SECTOR).to_string())
            };
            Command(command.0.iter().map(fill).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gets_the_image_at_its_end() {
        assert_eq!(
            parse("qemu-img info").unwrap(),
            [Command::new(["qemu-img", "info", "$test_img"])]
        );
        assert_eq!(
            parse("qemu-io -c 'read $off $len' $test_img -r").unwrap(),
            [Command::new([
                "qemu-io",
                "-c",
                "read $off $len",
                "$test_img",
                "-r"
            ])]
        );
    }

    #[test]
    fn the_old_json_is_read() {
        assert_eq!(
            parse(r#"[["qemu-img", "info", "$test_img"], ["qemu-img", "check"]]"#).unwrap(),
            [
                Command::new(["qemu-img", "info", "$test_img"]),
                Command::new(["qemu-img", "check"])
            ]
        );
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        for bad in ["", "  ", "[]", "[[]]", "[1]", "a 'b", "[[\"a\"]"] {
            let said = format!("{}", parse(bad).unwrap_err());
            assert!(!said.contains('\n') && !said.is_empty(), "{bad}: {said}");
        }
    }

    #[test]
    fn ranges_lie_inside_the_disk() {
        let command = parse("qemu-io -c 'read $off $len'").unwrap();
        let mut rng = Rng::from_text("ranges");
        for size in [0, 512, 1024, 1 << 20] {
            let words = resolve(&command, size, &mut rng)[0].0[2].clone();
            let mut numbers = words.split(' ').skip(1).map(|n| n.parse::<u64>().unwrap());
            let (offset, length) = (numbers.next().unwrap(), numbers.next().unwrap());
            assert!(offset % 512 == 0 && length % 512 == 0 && length > 0);
            assert!(offset + length <= size.max(512), "{words}");
        }
    }
}
