//! Which registers a machine has and whose they are, as the monitor's `info mtree -o` and
//! `info qom-tree` print it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Where registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Ports.
    Ports,
    /// Memory.
    Memory,
}

/// Registers, or memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// Whether they are ports.
    pub space: Space,
    /// The first address.
    pub start: u64,
    /// The last address.
    pub last: u64,
    /// Whether it is memory of the machine, which holds what is written.
    pub is_memory: bool,
    /// Its name, such as `nvme`.
    pub name: String,
    /// The path of the object it belongs to; empty where none is named.
    pub owner: String,
}

impl Region {
    /// In bytes; as large as a number can be for one that is all there is.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }

    /// Whether it has no bytes, which none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// How deep aliases are followed.
const DEEPEST: usize = 6;

/// A line of a tree.
#[derive(Clone, Debug)]
struct Row {
    start: u64,
    last: u64,
    kind: String,
    name: String,
    owner: String,
    /// The section and the part of it that it stands for.
    alias: Option<(String, u64)>,
}

/// The registers and the memory of a machine, sorted, each once.
#[must_use]
pub fn parse_mtree(text: &str) -> Vec<Region> {
    let mut sections: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut roots: Vec<(Space, String)> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if let Some(name) = line.strip_prefix("address-space: ") {
            // Those with the same contents are named one behind the other.
            let section = format!("\0{name}");
            roots.extend(space_of(name).map(|space| (space, section.clone())));
            names.push(section);
        } else if let Some(name) = line.strip_prefix("memory-region: ") {
            names.push(name.to_owned());
        } else if line.is_empty() {
            names.clear();
        } else if let Some(row) = row(line) {
            for name in &names {
                sections.entry(name.clone()).or_default().push(row.clone());
            }
        }
    }
    let mut regions = Vec::new();
    for (space, section) in &roots {
        let window = Window {
            from: 0,
            last: u64::MAX,
            to: 0,
        };
        add(&sections, section, *space, window, 0, &mut regions);
    }
    regions.sort();
    regions.dedup();
    regions
}

/// The part of a section that is seen, and where.
#[derive(Clone, Copy)]
struct Window {
    from: u64,
    last: u64,
    to: u64,
}

fn space_of(name: &str) -> Option<Space> {
    match name {
        "I/O" => Some(Space::Ports),
        "memory" => Some(Space::Memory),
        _ => None,
    }
}

fn add(
    sections: &BTreeMap<String, Vec<Row>>,
    section: &str,
    space: Space,
    window: Window,
    depth: usize,
    regions: &mut Vec<Region>,
) {
    for row in sections.get(section).into_iter().flatten() {
        let (start, last) = (row.start.max(window.from), row.last.min(window.last));
        if start > last {
            continue;
        }
        let moved = |address: u64| window.to.saturating_add(address - window.from);
        match &row.alias {
            Some((target, offset)) if depth < DEEPEST => {
                let from = offset.saturating_add(start - row.start);
                let window = Window {
                    from,
                    last: from.saturating_add(last - start),
                    to: moved(start),
                };
                add(sections, target, space, window, depth + 1, regions);
            }
            Some(_) => {}
            None => regions.push(Region {
                space,
                start: moved(start),
                last: moved(last),
                is_memory: row.kind != "i/o" && row.kind != "romd",
                name: row.name.clone(),
                owner: row.owner.clone(),
            }),
        }
    }
}

/// A line such as `0000000000000000-0000000000000003 (prio 0, i/o): acpi-evt owner:{dev path=/x}`.
fn row(line: &str) -> Option<Row> {
    let (range, rest) = line.trim_start().split_once(" (prio ")?;
    let (start, last) = hexadecimals(range)?;
    let (kind, rest) = rest.split_once("): ")?;
    let kind = kind.split_once(", ")?.1.to_owned();
    let (rest, owner) = owner(rest);
    let (alias, name) = match rest.strip_prefix("alias ") {
        Some(rest) => {
            let (name, target) = rest.split_once(" @")?;
            let (target, part) = target.rsplit_once(' ')?;
            let (offset, _) = hexadecimals(part)?;
            (Some((target.to_owned(), offset)), name)
        }
        None => (None, rest),
    };
    (start <= last).then(|| Row {
        start,
        last,
        kind,
        name: name.replace(" [disabled]", ""),
        owner,
        alias,
    })
}

fn hexadecimals(range: &str) -> Option<(u64, u64)> {
    let (start, last) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(last)?))
}

/// What stands before the owner, and its path; that of the parent where the owner has none.
fn owner(rest: &str) -> (&str, String) {
    let name = [" owner:{", " parent:{"]
        .iter()
        .filter_map(|word| rest.find(word))
        .min();
    let before = name.map_or(rest, |at| &rest[..at]);
    let word = |key: &str| {
        let value = rest.split(key).nth(1)?;
        value.split(['}', ' ']).next()
    };
    // A device that was given a name is in this folder.
    let named = word(" id=").map(|id| format!("/machine/peripheral/{id}"));
    let path = named.or_else(|| word(" path=").map(str::to_owned));
    (before.trim_end(), path.unwrap_or_default())
}

/// The type of each object of a machine, by its path, from `info qom-tree`.
#[must_use]
pub fn parse_qom_tree(text: &str) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    let mut path: Vec<&str> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = (line.len() - trimmed.len()) / 2;
        let Some((name, kind)) = trimmed.trim_end().rsplit_once(" (") else {
            continue;
        };
        let Some(name) = name.strip_prefix('/') else {
            continue;
        };
        path.truncate(depth);
        path.push(name);
        let kind = kind.trim_end_matches(')');
        types.insert(format!("/{}", path.join("/")), kind.to_owned());
    }
    types
}

/// What is fuzzed: patterns for types of objects and for names of regions, as QEMU's generic
/// fuzzer takes them.
#[derive(Clone, Debug)]
pub struct Objects {
    globs: GlobSet,
    /// Paths below which everything belongs to it.
    below: Vec<String>,
}

impl Objects {
    /// From patterns with blanks between, and paths of objects.
    ///
    /// # Errors
    ///
    /// One is no pattern.
    pub fn new(globs: &str, below: &[&str]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for glob in globs.split_ascii_whitespace() {
            let glob = GlobBuilder::new(glob).case_insensitive(true).build();
            set.add(glob.with_context(|| format!("the objects '{globs}'"))?);
        }
        Ok(Self {
            globs: set.build().context("the objects")?,
            below: below.iter().map(|it| (*it).to_owned()).collect(),
        })
    }

    /// Whether a region belongs to what is fuzzed: by its name, or as that of an object, or of
    /// one below an object, whose type or path matches.
    fn has(&self, region: &Region, types: &BTreeMap<String, String>) -> bool {
        if self.globs.is_match(&region.name) {
            return true;
        }
        let ends = region.owner.match_indices('/').map(|(at, _)| at).skip(1);
        let mut prefixes = ends
            .chain([region.owner.len()])
            .map(|at| &region.owner[..at]);
        prefixes.any(|path| {
            let is_type = types.get(path).is_some_and(|it| self.globs.is_match(it));
            let inside = |below: &String| {
                let rest = path.strip_prefix(below.as_str());
                rest.is_some_and(|rest| rest.starts_with('/'))
            };
            is_type || self.below.iter().any(inside)
        })
    }

    /// The registers among `regions` that are fuzzed. One that holds others is left out, unless
    /// it is all there is.
    #[must_use]
    pub fn registers(&self, regions: &[Region], types: &BTreeMap<String, String>) -> Vec<Region> {
        let matching = regions
            .iter()
            .filter(|it| !it.is_memory && self.has(it, types));
        let mut found: Vec<Region> = matching.cloned().collect();
        let all = found.clone();
        found.retain(|outer| {
            let is_inside = |inner: &&Region| {
                inner.space == outer.space
                    && inner.len() < outer.len()
                    && outer.start <= inner.start
                    && inner.last <= outer.last
            };
            let covered: u64 = all.iter().filter(is_inside).map(Region::len).sum();
            covered.saturating_mul(2) < outer.len()
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MTREE: &str = "\
address-space: I/O
  0000000000000000-000000000000ffff (prio 0, i/o): io parent:{obj path=/machine/unattached}
    0000000000000cf8-0000000000000cfb (prio 0, i/o): pci-conf-idx owner:{dev path=/machine/q35}

address-space: nvme
  0000000000000000-ffffffffffffffff (prio 0, i/o): bus master container owner:{dev path=/machine/peripheral/d}

address-space: cpu-memory-0
address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system parent:{obj path=/machine/unattached}
    0000000000000000-0000000007ffffff (prio 0, ram): alias ram-below-4g @pc.ram 0000000000000000-0000000007ffffff parent:{obj path=/machine/unattached}
    00000000e0000000-00000000e01fffff (prio 1, i/o): alias pci_bridge_mem @pci_bridge_pci 00000000e0000000-00000000e01fffff owner:{dev path=/machine/peripheral/b}

memory-region: pc.ram
  0000000000000000-0000000007ffffff (prio 0, ram): pc.ram owner:{obj path=/objects/pc.ram}

memory-region: pci_bridge_pci
  0000000000000000-ffffffffffffffff (prio 0, i/o): pci_bridge_pci owner:{dev path=/machine/peripheral/b}
    00000000e0000000-00000000e0003fff (prio 1, i/o): nvme-bar0 owner:{dev path=/machine/peripheral/d}
      00000000e0000000-00000000e0001fff (prio 0, i/o): nvme owner:{dev id=d}
      00000000e0002000-00000000e000240f (prio 0, i/o): msix-table owner:{dev path=/machine/peripheral/d}
";

    const TREE: &str = "\
/machine (pc-q35-10.0-machine)
  /peripheral (container)
    /b (pcie-root-port)
    /d (nvme)
      /nvme[0] (memory-region)
  /q35 (q35-pcihost)
/objects (container)
";

    #[test]
    fn registers_are_found_through_bridges() {
        let regions = parse_mtree(MTREE);
        let memory: Vec<_> = regions.iter().filter(|it| it.is_memory).collect();
        assert_eq!(memory.len(), 1);
        assert_eq!((memory[0].start, memory[0].last), (0, 0x7ff_ffff));
        let types = parse_qom_tree(TREE);
        assert_eq!(types["/machine/peripheral/d"], "nvme");
        assert_eq!(types["/objects"], "container");
        let names = |globs: &str, below: &[&str]| -> Vec<String> {
            let objects = Objects::new(globs, below).unwrap();
            let found = objects.registers(&regions, &types);
            found.into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names("nvm?", &[]), ["nvme", "msix-table"]);
        assert_eq!(names("msix*", &[]), ["msix-table"]);
        assert_eq!(names("Q35-*", &[]), ["pci-conf-idx"]);
        assert!(names("*bridge-x", &[]).is_empty());
        let all = names("", &["/machine/peripheral"]);
        assert!(all.contains(&"nvme".into()) && !all.contains(&"pci-conf-idx".into()));
        assert!(Objects::new("a[", &[]).is_err());
    }

    /// A register of one byte, such as the device control of ATA, was once left out.
    #[test]
    fn a_register_of_one_byte_is_one() {
        let region = Region {
            space: Space::Ports,
            start: 0x3f6,
            last: 0x3f6,
            is_memory: false,
            name: "ide".into(),
            owner: String::new(),
        };
        let objects = Objects::new("ide", &[]).unwrap();
        let regions = [region];
        assert_eq!(objects.registers(&regions, &BTreeMap::new()), regions);
    }

    proptest! {
        #[test]
        fn any_text_has_regions(text in r"((address-space|memory-region): |[0-9a-f]{1,17}|-| \(prio |, i/o\): |alias | @|\n|  |x|I/O|memory| owner:\{| path=/a\}){0,60}") {
            for region in parse_mtree(&text) {
                prop_assert!(region.start <= region.last);
            }
            prop_assert!(parse_qom_tree(&text).len() <= text.lines().count());
        }

        #[test]
        fn a_printed_region_is_read(start in 0u64..1 << 40, length in 1u64..1 << 20, name in "[a-z][a-z0-9 .-]{0,12}[a-z]") {
            let last = start + length - 1;
            let text = format!(
                "address-space: memory\n  {start:016x}-{last:016x} (prio 0, i/o): {name} owner:{{dev path=/machine/x[1]}}\n"
            );
            let region = Region {
                space: Space::Memory,
                start,
                last,
                is_memory: false,
                name,
                owner: "/machine/x[1]".into(),
            };
            prop_assert_eq!(region.len(), length);
            prop_assert_eq!(parse_mtree(&text), [region]);
        }
    }
}
