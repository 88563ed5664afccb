//! Commands that name the image under test by options of its driver (`--image-opts`) and not
//! by its file.

use super::Command;

/// `command` with each name of the image under test as `driver=qcow2,`, the `options`, each
/// with a comma behind it, and the file; `objects` are made first.
pub(super) fn with_options(command: Command, objects: &[&str], options: &str) -> Command {
    named_by(command, objects, &format!("driver=qcow2,{options}"))
}

/// `command` with `objects`, the image under test being named by `options`, driver included.
pub(super) fn named_by(command: Command, objects: &[&str], options: &str) -> Command {
    let formats = command.format_options();
    let mut words = command.0.into_iter();
    let mut out: Vec<String> = words.by_ref().take(1).collect();
    if out == ["qemu-img"] {
        out.extend(words.by_ref().take(1));
    }
    for object in objects {
        out.extend(["--object", object].map(String::from));
    }
    out.push("--image-opts".into());
    let verb = out.get(1).cloned().unwrap_or_default();
    let mut rest: Vec<String> = words.collect();
    // The format is among the options that name the image, and must not be twice.
    let is_format = |word: &String| formats.contains(&word.as_str());
    while let Some(at) = rest.iter().position(is_format) {
        rest.drain(at..rest.len().min(at + 2));
    }
    rest.retain(|word| word != "--image-opts");
    if verb == "convert" && rest.iter().any(|word| word == "-n") {
        rest.retain(|word| word != "-O" && word != "qcow2" && word != "--target-image-opts");
        rest.insert(0, "--target-image-opts".into());
    }
    out.extend(rest.into_iter().map(|word| named(&verb, options, word)));
    Command(out)
}

/// A word of a command, the image under test being named with options, driver included.
fn named(verb: &str, options: &str, word: String) -> String {
    if verb == "compare" && !word.contains(['$', '-', '=']) {
        return format!("driver=raw,file.filename={word}");
    }
    // Options that are there already stay, behind those that are added.
    let driver = options.split_inclusive(',').next().unwrap_or_default();
    let named_so = word
        .strip_prefix("driver=qcow2,")
        .or_else(|| word.strip_prefix(driver));
    if let Some(rest) = named_so {
        return format!("{options}{rest}");
    }
    match word.as_str() {
        "$test_img" => format!("{options}file.filename=$test_img"),
        "if=$test_img" => format!("if={options}file.filename=$test_img"),
        _ => word,
    }
}

/// `command` with the file of an image behind the driver that injects errors,
/// which does what `rules` say. The image must be named by options.
pub(super) fn behind_blkdebug(command: Command, rules: &str) -> Command {
    let file = ",file.filename=";
    let mut words = command.0;
    // Where two are named, it is the last that is written to.
    if let Some(word) = words.iter_mut().rev().find(|word| word.contains(file)) {
        let image = format!(",file.driver=blkdebug,{rules},file.image.filename=");
        *word = word.replacen(file, &image, 1);
    }
    Command(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "driver=qcow2,file.filename=$test_img";

    fn command(line: &str) -> Command {
        Command(shlex::split(line).unwrap())
    }

    #[test]
    fn the_image_that_is_written_to_is_behind_the_driver() {
        let file = "file.driver=blkdebug,RULES,file.image.filename=$test_img";
        for (line, expected) in [
            (
                "qemu-img amend -f qcow2 -o size=512 $test_img",
                format!("qemu-img amend --image-opts -o size=512 driver=qcow2,{file}"),
            ),
            (
                "qemu-img convert -n -O qcow2 $test_img $test_img",
                format!(
                    "qemu-img convert --image-opts --target-image-opts -n {PLAIN} \
                     driver=qcow2,{file}"
                ),
            ),
            (
                "qemu-img convert -f qcow2 -O raw $test_img out.img",
                format!("qemu-img convert --image-opts -O raw driver=qcow2,{file} out.img"),
            ),
            (
                "qemu-io -f qcow2 -c 'reopen -o file.filename=x' $test_img",
                format!("qemu-io --image-opts -c 'reopen -o file.filename=x' driver=qcow2,{file}"),
            ),
        ] {
            let named = with_options(command(line), &[], "");
            let behind = behind_blkdebug(named, "RULES");
            assert_eq!(behind, command(&expected), "{line}");
        }
    }
}
