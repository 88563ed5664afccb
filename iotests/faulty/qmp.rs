//! Faults between a monitor and its client.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Where a command goes.
pub(crate) enum Route {
    /// To the daemon, changed or not.
    Forward,
    /// Answered with success; the daemon never gets it.
    Answer,
}

/// What was seen so far: the backing node of nodes, by their names.
pub(crate) type Seen = HashMap<String, String>;

/// One fault: what it does to commands, and to messages of the daemon.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) command: fn(&mut Value, &Seen) -> Route,
    pub(crate) message: fn(&mut Value),
}

/// Changes nothing.
pub(crate) const NONE: Fault = Fault {
    command: |_, _| Route::Forward,
    message: |_| {},
};

/// Streams what is above the backing file, which is nothing.
pub(crate) const STREAM_EMPTY: Fault = Fault {
    command: |message, seen| {
        if message["execute"] == "block-stream" {
            let args = &mut message["arguments"];
            let backing = args["device"].as_str().and_then(|d| seen.get(d));
            if let (Some(backing), Some(args)) = (backing, args.as_object_mut()) {
                args.remove("base");
                args.insert("base-node".to_owned(), json!(backing));
            }
        }
        Route::Forward
    },
    message: |_| {},
};

/// Mirrors only what is written from now on.
pub(crate) const MIRROR_EMPTY: Fault = Fault {
    command: |message, _| {
        if message["execute"] == "blockdev-mirror" {
            message["arguments"]["sync"] = json!("none");
        }
        Route::Forward
    },
    message: |_| {},
};

/// Takes the error away from jobs, in events and in lists.
pub(crate) const JOB_ERROR_HIDDEN: Fault = Fault {
    command: |_, _| Route::Forward,
    message: |message| {
        if message["event"] == "BLOCK_JOB_COMPLETED" {
            hide_error(&mut message["data"]);
        }
        if let Some(list) = message.get_mut("return").and_then(Value::as_array_mut) {
            list.iter_mut()
                .filter(|job| job["status"].is_string())
                .for_each(hide_error);
        }
    },
};

/// Answers errors as successes.
pub(crate) const ERROR_SUCCEEDS: Fault = Fault {
    command: |_, _| Route::Forward,
    message: |message| {
        if message.get("error").is_some() {
            hide_error(message);
            message["return"] = json!({});
        }
    },
};

/// Leaves bitmaps of nodes as they are.
pub(crate) const BITMAP_STALE: Fault = Fault {
    command: |message, _| match message["execute"].as_str() {
        Some("block-dirty-bitmap-clear" | "block-dirty-bitmap-merge") => Route::Answer,
        _ => Route::Forward,
    },
    message: |_| {},
};

fn hide_error(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove("error");
    }
}

/// Remembers the backing node of a node that is added.
pub(crate) fn note_backing(message: &Value, seen: &mut Seen) {
    let args = &message["arguments"];
    let pair = args["node-name"].as_str().zip(args["backing"].as_str());
    if let (Some("blockdev-add"), Some((node, backing))) = (message["execute"].as_str(), pair) {
        seen.insert(node.to_owned(), backing.to_owned());
    }
}
