//! Disk images: where one is, and how tools and QMP name it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// An image: where it is and what it is. Its [`Display`] text is its name in
/// command lines and goldens.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) entry: Entry,
}

/// What the library knows of an image.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name in command lines and goldens, such as `TEST_DIR/t.IMGFMT`.
    pub(crate) shown: String,
    /// What a tool is given for it: a path or a URL.
    pub(crate) real: String,
    /// Its bytes as a local file.
    pub(crate) local: PathBuf,
    /// Its format.
    pub(crate) format: String,
    /// Options of its node other than driver and file, such as `key-secret`.
    pub(crate) node: Value,
    /// The socket of its NBD server, where it has one.
    pub(crate) socket: Option<PathBuf>,
    /// The protocol node, where it is reached over ssh.
    pub(crate) remote: Option<Value>,
    /// Files to remove at the end.
    pub(crate) files: Vec<PathBuf>,
}

impl Entry {
    /// Whether tools need more than a file name and `-f` to open it.
    pub(crate) fn needs_node(&self) -> bool {
        self.node.as_object().is_some_and(|o| !o.is_empty())
    }

    fn protocol_node(&self) -> Value {
        match (&self.socket, &self.remote) {
            (Some(path), _) => json!({"driver": "nbd", "server": {"type": "unix", "path": path}}),
            (_, Some(node)) => node.clone(),
            _ => json!({"driver": "file", "filename": self.local}),
        }
    }

    /// A node for QMP or a `json:` name, without node name and cache mode.
    fn node(&self) -> Value {
        let mut node = json!({"driver": self.format, "file": self.protocol_node()});
        extend(&mut node, &self.node);
        node
    }

    /// The node as the options of `--image-opts`, where no `json:` name is accepted.
    pub(crate) fn image_opts(&self) -> String {
        let mut options = Vec::new();
        flatten("", &self.node(), &mut options);
        options.join(",")
    }

    /// Its argument on a command line.
    pub(crate) fn word(&self) -> String {
        if self.needs_node() {
            format!("json:{}", self.node())
        } else {
            self.real.clone()
        }
    }
}

/// Adds the members of the object `more` to `object`, or replaces them there.
pub(crate) fn extend(object: &mut Value, more: &Value) {
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
}

/// As [`extend`], and objects that both have become one in the same way.
pub(crate) fn extend_deep(object: &mut Value, more: &Value) {
    let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) else {
        return;
    };
    for (key, value) in more {
        match object.get_mut(key) {
            Some(old) if old.is_object() && value.is_object() => extend_deep(old, value),
            _ => {
                object.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A value in options of QEMU, where a comma is written twice.
pub(crate) fn option_value(text: &str) -> String {
    text.replace(',', ",,")
}

/// A JSON object as dotted keys; commas in values are doubled.
fn flatten(prefix: &str, value: &Value, options: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, options);
            }
        }
        Value::String(text) => options.push(format!("{prefix}={}", option_value(text))),
        other => options.push(format!("{prefix}={other}")),
    }
}

impl Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entry.shown)
    }
}

impl Image {
    /// Its bytes as a file on this machine, whatever the protocol.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.entry.local
    }

    /// What a tool is given for it: a path or a URL.
    #[must_use]
    pub fn real(&self) -> &str {
        &self.entry.real
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> &str {
        &self.entry.format
    }

    /// The node that opens it over its protocol, for `blockdev-add`: driver,
    /// file, secrets. Options can be added to it as to any JSON object.
    #[must_use]
    pub fn node(&self, name: &str) -> Value {
        let mut node = self.entry.node();
        node["node-name"] = name.into();
        node
    }

    /// The protocol node, below the format.
    #[must_use]
    pub fn protocol_node(&self, name: &str) -> Value {
        let mut node = self.entry.protocol_node();
        node["node-name"] = name.into();
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_dotted_options() {
        let mut options = Vec::new();
        let node = json!({"driver": "luks", "file": {"filename": "a,b", "x": true}});
        flatten("", &node, &mut options);
        options.sort();
        assert_eq!(
            options,
            ["driver=luks", "file.filename=a,,b", "file.x=true"]
        );
    }
}
