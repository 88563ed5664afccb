//! Faults of `qemu-img`.

use std::process::{ExitCode, Output};

use anyhow::Result;
use serde_json::Value;

use crate::call::{Call, print, status, without_effect};

/// How much sizes are wrong by.
const SECTOR: u64 = 512;
/// How much of an image's end is lost: the default cluster size of qcow2.
const CLUSTER: u64 = 64 << 10;

/// A size as the tools take it, such as `64k` or `1048576`, in bytes.
pub(crate) fn size(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &word[digits.len()..] {
        "" | "b" | "B" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        "p" | "P" => 50,
        "e" | "E" => 60,
        _ => return None,
    };
    let number: u64 = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_shl(shift).filter(|n| n >> shift == number)
}

/// The index of the size in a command line, and its value.
fn size_at_end(args: &[String]) -> Option<(usize, u64)> {
    let at = args
        .iter()
        .rposition(|a| size(a.trim_start_matches(['+', '-'])).is_some())?;
    let bytes = size(args[at].trim_start_matches(['+', '-']))?;
    Some((at, bytes)).filter(|_| at + 1 == args.len() && bytes >= SECTOR)
}

fn replaced(args: &[String], at: usize, word: String) -> Vec<String> {
    let mut args = args.to_vec();
    args[at] = word;
    args
}

fn unchanged(output: &Output) -> Result<ExitCode> {
    print(output, &output.stdout, status(output)?)
}

pub(crate) fn create_short(call: &Call) -> Result<ExitCode> {
    let Some((at, bytes)) = size_at_end(&call.args) else {
        return Err(call.exec(&call.args));
    };
    let short = bytes - SECTOR;
    let output = call.output(&replaced(&call.args, at, short.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let text = text.replace(&format!("size={short}"), &format!("size={bytes}"));
    print(&output, text.as_bytes(), status(&output)?)
}

pub(crate) fn resize_short(call: &Call) -> Result<ExitCode> {
    let Some((at, bytes)) = size_at_end(&call.args) else {
        return Err(call.exec(&call.args));
    };
    let word = match call.args[at].as_bytes()[0] {
        b'+' => format!("+{}", bytes - SECTOR),
        b'-' => format!("-{}", bytes + SECTOR),
        _ => format!("{}", bytes - SECTOR),
    };
    Err(call.exec(&replaced(&call.args, at, word)))
}

/// Writes zeroes over the end of what was converted.
pub(crate) fn convert_truncated(call: &Call) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    let target = call.args.last().map_or("", String::as_str);
    let format = call.after(&["-O"]).unwrap_or("raw");
    if output.status.success() {
        let info = call.helper("qemu-img", &["info", "--output=json", "-f", format, target])?;
        let info: Value = serde_json::from_slice(&info.stdout).unwrap_or_default();
        let end = info["virtual-size"].as_u64().unwrap_or(0);
        let length = end.min(CLUSTER);
        let write = format!("write -z {} {length}", end - length);
        call.helper("qemu-io", &["-f", format, "-c", &write, target])?;
    }
    unchanged(&output)
}

pub(crate) fn convert_uncompressed(call: &Call) -> Result<ExitCode> {
    let kept = call.args.iter().filter(|a| *a != "-c").cloned();
    Err(call.exec(&kept.collect::<Vec<_>>()))
}

pub(crate) fn rebase_unsafe(call: &Call) -> Result<ExitCode> {
    let mut args = call.args.clone();
    if !call.has(&["-u"]) {
        args.insert(1, "-u".to_owned());
    }
    Err(call.exec(&args))
}

/// Runs the call without effect where one of these words is given.
pub(crate) fn without_effect_of(call: &Call, words: &[&str]) -> Result<ExitCode> {
    if call.has(words) {
        return without_effect(call);
    }
    Err(call.exec(&call.args))
}

pub(crate) fn check_clean(call: &Call) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    if !matches!(output.status.code(), Some(2 | 3)) {
        return unchanged(&output);
    }
    let clean = match serde_json::from_slice(&output.stdout) {
        Ok(Value::Object(mut report)) => {
            report.retain(|key, _| !key.contains("corruptions") && !key.contains("leaks"));
            format!("{}\n", Value::Object(report))
        }
        _ => "No errors were found on the image.\n".to_owned(),
    };
    print!("{clean}");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn compare_equal(call: &Call) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    if output.status.code() != Some(1) {
        return unchanged(&output);
    }
    println!("Images are identical.");
    Ok(ExitCode::SUCCESS)
}

/// Changes JSON that the real tool prints; other output stays.
fn with_json(call: &Call, change: impl Fn(&mut Value)) -> Result<Option<ExitCode>> {
    if !call.has(&["--output=json", "json"]) {
        return Ok(None);
    }
    let output = call.output(&call.args)?;
    let Ok(mut value) = serde_json::from_slice(&output.stdout) else {
        return unchanged(&output).map(Some);
    };
    change(&mut value);
    let text = format!("{value:#}\n");
    print(&output, text.as_bytes(), status(&output)?).map(Some)
}

/// The entries of a list, or a single one.
fn entries(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(list) => list.iter_mut().collect(),
        one => vec![one],
    }
}

/// Reduces a number.
fn reduce(value: &mut Value, less: u64) {
    if let Some(n) = value.as_u64() {
        *value = n.saturating_sub(less).into();
    }
}

/// `line` with the first number after `mark` reduced.
fn reduced(line: &str, mark: &str, less: u64) -> String {
    let Some(at) = line.find(mark).map(|n| n + mark.len()) else {
        return line.to_owned();
    };
    let digits = line[at..].chars().take_while(char::is_ascii_digit).count();
    match line[at..at + digits].parse::<u64>() {
        Ok(n) => {
            let rest = &line[at + digits..];
            format!("{}{}{rest}", &line[..at], n.saturating_sub(less))
        }
        Err(_) => line.to_owned(),
    }
}

/// Changes the lines that the real tool prints.
fn with_lines(call: &Call, change: impl Fn(&str) -> String) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let text: String = text.split_inclusive('\n').map(change).collect();
    print(&output, text.as_bytes(), status(&output)?)
}

pub(crate) fn map_all_data(call: &Call) -> Result<ExitCode> {
    let result = with_json(call, |map| {
        for extent in entries(map) {
            extent["data"] = true.into();
            extent["zero"] = false.into();
        }
    })?;
    result.map_or_else(|| Err(call.exec(&call.args)), Ok)
}

pub(crate) fn info_short(call: &Call) -> Result<ExitCode> {
    let result = with_json(call, |info| {
        for image in entries(info) {
            reduce(&mut image["virtual-size"], SECTOR);
        }
    })?;
    let lines = || {
        with_lines(call, |line| match line.starts_with("virtual size:") {
            true => reduced(line, "(", SECTOR),
            false => line.to_owned(),
        })
    };
    result.map_or_else(lines, Ok)
}

pub(crate) fn measure_little(call: &Call) -> Result<ExitCode> {
    let result = with_json(call, |sizes| reduce(&mut sizes["required"], CLUSTER))?;
    let lines = || with_lines(call, |line| reduced(line, "required size: ", CLUSTER));
    result.map_or_else(lines, Ok)
}

pub(crate) fn error_succeeds(call: &Call) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    let status = status(&output)?;
    print(
        &output,
        &output.stdout,
        if status == 1 { 0 } else { status },
    )
}

pub(crate) fn success_fails(call: &Call) -> Result<ExitCode> {
    let output = call.output(&call.args)?;
    let status = status(&output)?;
    print(
        &output,
        &output.stdout,
        if status == 0 { 1 } else { status },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_tools_do() {
        let sizes = ["64k", "1M", "512", "0x200", "t.qcow2", "", "16E"].map(size);
        let want = [
            Some(65536),
            Some(1 << 20),
            Some(512),
            Some(512),
            None,
            None,
            None,
        ];
        assert_eq!(sizes, want);
    }

    #[test]
    fn only_the_number_after_the_mark_is_reduced() {
        assert_eq!(
            reduced("size: 1 (1024 bytes)", "(", 512),
            "size: 1 (512 bytes)"
        );
        assert_eq!(reduced("none", "(", 512), "none");
    }
}
