//! Faults of the emulator.

use serde_json::{Value, json};

/// Has a node answer flushes without doing them: QEMU's own option for disks whose loss does
/// not matter. A kill of the emulator loses what a format still had in memory; the rest, which
/// the host has, is lost where power fails, and tests bring that about with a log of writes.
pub(crate) fn lose_flushes(word: &str) -> String {
    match serde_json::from_str::<Value>(word) {
        Ok(mut node) if node["node-name"].is_string() && node["driver"].is_string() => {
            if !node["cache"].is_object() {
                node["cache"] = json!({});
            }
            node["cache"]["no-flush"] = json!(true);
            node.to_string()
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lose_flushes_and_other_words_stay() {
        let node = json!({"driver": "raw", "node-name": "a", "cache": {"direct": true}});
        let changed: Value = serde_json::from_str(&lose_flushes(&node.to_string())).expect("JSON");
        assert_eq!(changed["cache"], json!({"direct": true, "no-flush": true}));
        for word in ["-m", "256M", r#"{"driver":"nvme","drive":"a"}"#] {
            assert_eq!(lose_flushes(word), word);
        }
    }
}
