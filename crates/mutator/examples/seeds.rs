//! Writes valid images for a seed corpus: `seeds FORMAT COUNT MAX_BYTES FOLDER`. The files
//! `seed-N` of an earlier run are replaced; the images are the same at each run.

use std::path::Path;
use std::process::ExitCode;

use image_mutator::{Format, seeds};

fn run(words: &[String]) -> Result<(), String> {
    let [format, count, max_bytes, folder] = words else {
        return Err("usage: seeds FORMAT COUNT MAX_BYTES FOLDER".to_owned());
    };
    let known = || Format::ALL.map(Format::name).join(", ");
    let format = Format::from_name(format)
        .ok_or_else(|| format!("seeds: unknown format '{format}'; known are {}", known()))?;
    let number = |text: &str| {
        let number = text.parse::<usize>();
        number.map_err(|_| format!("seeds: '{text}' is not a number"))
    };
    let images = seeds(format, number(count)?, number(max_bytes)?, "seeds");
    if images.is_empty() {
        return Err(format!(
            "seeds: no {format} image has at most {max_bytes} bytes"
        ));
    }
    for (number, image) in images.iter().enumerate() {
        let path = Path::new(folder).join(format!("seed-{number}"));
        atomic_write::write(&path, |out| out.write_all(image))
            .map_err(|error| format!("seeds: cannot write '{}': {error}", path.display()))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
