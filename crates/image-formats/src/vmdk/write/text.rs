//! The text of the descriptor.

use super::{Access, Spec, Subformat};
use crate::spec_error::{SpecError, ensure};
use crate::vmdk::layout::SECTOR;

/// The characters that end a line, or the text.
const END: [char; 3] = ['\n', '\r', '\0'];
/// Heads and sectors in a track of the geometry.
const GEOMETRY: (u64, u64) = (16, 63);

impl Spec {
    /// The descriptor of the image called `name`.
    pub(super) fn text(&self, name: &str) -> String {
        let mut lines = vec!["# Disk DescriptorFile".to_owned()];
        lines.extend(self.comments.iter().map(|comment| format!("# {comment}")));
        lines.push(format!("version={}", self.descriptor_version));
        if let Some(encoding) = &self.encoding {
            lines.push(format!("encoding=\"{encoding}\""));
        }
        let parent = self.parent.as_ref();
        let parent_id = parent.map_or(u32::MAX, |parent| parent.cid);
        lines.push(format!("CID={:08x}", self.cid));
        lines.push(format!("parentCID={parent_id:08x}"));
        lines.push(format!("createType=\"{}\"", self.subformat.name()));
        if let Some(parent) = parent {
            lines.push(format!("parentFileNameHint=\"{}\"", parent.name));
        }
        lines.extend([String::new(), "# Extent description".to_owned()]);
        lines.extend((0..self.extents()).map(|extent| self.extent_line(name, extent)));
        if let Some(path) = &self.change_track_path {
            lines.extend([String::new(), "# Change Tracking File".to_owned()]);
            lines.push(format!("changeTrackPath=\"{path}\""));
        }
        lines.extend(["", "# The Disk Data Base", "#DDB", ""].map(str::to_owned));
        let (heads, sectors) = GEOMETRY;
        let cylinders = self.virtual_size / SECTOR / heads / sectors;
        let geometry = [
            ("geometry.cylinders", cylinders.clamp(1, 16383)),
            ("geometry.heads", heads),
            ("geometry.sectors", sectors),
        ];
        let entry = |key: &str, value: &str| format!("ddb.{key} = \"{value}\"");
        lines.extend(self.ddb.iter().map(|(key, value)| entry(key, value)));
        lines.extend(geometry.map(|(key, value)| entry(key, &value.to_string())));
        let end = if self.crlf { "\r\n" } else { "\n" };
        lines.iter().map(|line| format!("{line}{end}")).collect()
    }

    fn extent_line(&self, name: &str, extent: u64) -> String {
        let access = match self.access {
            Access::ReadWrite => "RW",
            Access::ReadOnly => "RDONLY",
        };
        let (begin, end) = self.bytes_of(extent);
        let sectors = (end - begin) / SECTOR;
        if self.zero_extents && self.subformat.is_split() && self.is_empty(extent) {
            return format!("{access} {sectors} ZERO");
        }
        let kind = self.subformat.extent_type();
        let file = self.extent_name(name, extent);
        let line = format!("{access} {sectors} {kind} \"{file}\"");
        match kind {
            "FLAT" => format!("{line} {}", self.flat_offset),
            _ => line,
        }
    }

    /// The name of the file of an extent of the image called `name`.
    pub(super) fn extent_name(&self, name: &str, extent: u64) -> String {
        let base = name.strip_suffix(".vmdk").unwrap_or(name);
        let number = extent + 1;
        match self.subformat {
            Subformat::MonolithicSparse | Subformat::StreamOptimized => name.to_owned(),
            Subformat::MonolithicFlat | Subformat::Vmfs => format!("{base}-flat.vmdk"),
            Subformat::TwoGbMaxExtentSparse => format!("{base}-s{number:03}.vmdk"),
            Subformat::TwoGbMaxExtentFlat => format!("{base}-f{number:03}.vmdk"),
            Subformat::VmfsSparse => format!("{base}-delta.vmdk"),
            Subformat::SeSparse => format!("{base}-sesparse.vmdk"),
        }
    }

    /// What goes into the text must not end its line or its quotes.
    pub(super) fn validate_text(&self) -> Result<(), SpecError> {
        let version = self.descriptor_version;
        let known = (1..=3).contains(&version);
        ensure!(known, "descriptor version {version}: 1 to 3");
        if let Some(parent) = &self.parent {
            let known = parent.cid != u32::MAX && !parent.name.is_empty();
            ensure!(known, "a parent without a name or a content identifier");
        }
        let values = [&self.encoding, &self.change_track_path]
            .into_iter()
            .flatten();
        let values = values.chain(self.parent.iter().map(|parent| &parent.name));
        for value in values.chain(self.ddb.iter().map(|(_, value)| value)) {
            ensure!(!value.contains('"'), "text {value:?}: a quote");
            ensure!(!value.contains(END), "text {value:?}: the end of a line");
        }
        for comment in &self.comments {
            ensure!(
                !comment.contains(END),
                "comment {comment:?}: the end of a line"
            );
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        for (key, _) in &self.ddb {
            let valid = !key.is_empty() && key.bytes().all(word);
            ensure!(valid, "key {key:?}: letters, digits, '_' and '.'");
        }
        Ok(())
    }
}
