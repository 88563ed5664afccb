//! Requests in the format of the run server ([`runserver::wire`]).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use runserver::wire::{Head, MAX_STRINGS, MAX_TEXT, UNLIMITED};

use super::Request;

/// A request, to be run with the environment `env`, in the server's format.
pub(super) fn encode(request: &Request, env: &[(OsString, OsString)]) -> io::Result<Vec<u8>> {
    let mut message = vec![0; Head::LEN];
    push(&mut message, &[request.cwd.as_os_str().as_bytes()])?;
    for argument in &request.argv {
        push(&mut message, &[argument.as_bytes()])?;
    }
    for (name, value) in env {
        push(&mut message, &[name.as_bytes(), b"=", value.as_bytes()])?;
    }
    let too_long = || {
        io::Error::new(
            io::ErrorKind::ArgumentListTooLong,
            "the command line is too long",
        )
    };
    let text = message.len() - Head::LEN;
    if text > MAX_TEXT || request.argv.len() + env.len() > MAX_STRINGS {
        return Err(too_long());
    }
    let number = |n: usize| u32::try_from(n).map_err(|_| too_long());
    let head = Head {
        len: number(text)?,
        argc: number(request.argv.len())?,
        envc: number(env.len())?,
        input: request.stdin.is_some(),
        trace: request.trace,
        cpu_seconds: cpu_seconds(request.limits.cpu),
        file_size: request.limits.file_size,
        address_space: request.limits.address_space.unwrap_or(UNLIMITED),
        open_files: request.limits.open_files,
    };
    if let Some(place) = message.first_chunk_mut() {
        *place = head.encode();
    }
    Ok(message)
}

/// Appends a string and a NUL byte.
fn push(message: &mut Vec<u8>, parts: &[&[u8]]) -> io::Result<()> {
    for part in parts {
        if part.contains(&0) {
            let text = "a NUL byte in an argument or environment variable";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        message.extend_from_slice(part);
    }
    message.push(0);
    Ok(())
}

fn cpu_seconds(limit: Duration) -> u32 {
    let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}
