//! How much is changed, and of what: `--intensity` and `--config`.

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use image_formats::{Field, nearest};

use super::{MutationContext, interesting, numeric, set};
use crate::input::map::{Map, structure};
use crate::input::recipe::{Edit, Mutation};
use crate::rng::Rng;

/// How many mutations an image gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intensity {
    /// From so many to so many mutations.
    Mutations(u64, u64),
    /// From so many to so many percent of the fields.
    Share(u64, u64),
}

impl Default for Intensity {
    fn default() -> Self {
        Self::Mutations(1, 3)
    }
}

impl FromStr for Intensity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = "give a number of edits (2), a range (1-3), or a share of the fields (20%-50%)";
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let share = high.ends_with('%');
        let number = |part: &str| {
            let digits = part.strip_suffix('%').unwrap_or(part);
            digits.parse::<u64>().context(wrong)
        };
        let (low, high) = (number(low)?, number(high)?);
        if low > high || (share && high > 100) || high > 10_000 {
            bail!(wrong);
        }
        Ok(if share {
            Self::Share(low, high)
        } else {
            Self::Mutations(low, high)
        })
    }
}

/// What may be changed, as `--config` says it: structures and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    wanted: Vec<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    structure: Structure,
    field: Option<String>,
}

/// The structures that can be named, and where their fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Structure {
    Header,
    BackingFileName,
    BackingFileFormat,
    FeatureNameTable,
    EndOfExtensions,
    L1Table,
    L2Tables,
    RefcountTable,
    RefcountBlocks,
    Snapshots,
    Bitmaps,
}

/// Their names; the last two are ours.
const STRUCTURES: [(&str, Structure); 11] = [
    ("header", Structure::Header),
    ("backing_file_name", Structure::BackingFileName),
    ("backing_file_format", Structure::BackingFileFormat),
    ("feature_name_table", Structure::FeatureNameTable),
    ("end_of_extension_area", Structure::EndOfExtensions),
    ("l1_table", Structure::L1Table),
    ("l2_tables", Structure::L2Tables),
    ("refcount_table", Structure::RefcountTable),
    ("refcount_blocks", Structure::RefcountBlocks),
    ("snapshots", Structure::Snapshots),
    ("bitmaps", Structure::Bitmaps),
];

impl Structure {
    /// The names of its fields: those that `show` has for them, and before them those that
    /// the old fuzzer had.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Header => &[
                "snapshot_offset",
                "magic",
                "version",
                "backing_file_offset",
                "backing_file_size",
                "cluster_bits",
                "size",
                "crypt_method",
                "l1_size",
                "l1_table_offset",
                "refcount_table_offset",
                "refcount_table_clusters",
                "nb_snapshots",
                "snapshots_offset",
                "incompatible_features",
                "dirty",
                "corrupt",
                "data_file",
                "compression",
                "extended_l2",
                "compatible_features",
                "lazy_refcounts",
                "autoclear_features",
                "bitmaps",
                "raw_data_file",
                "reserved",
                "refcount_order",
                "header_length",
                "compression_type",
            ],
            Self::BackingFileName => &["bf_name", "backing_file_name"],
            Self::BackingFileFormat => &[
                "ext_magic",
                "ext_length",
                "bf_format",
                "type",
                "length",
                "text",
            ],
            Self::FeatureNameTable => &[
                "ext_magic",
                "ext_length",
                "feature_type",
                "feature_bit_number",
                "feature_name",
                "type",
                "length",
                "bit",
                "name",
            ],
            Self::EndOfExtensions => &["ext_magic", "ext_length", "type", "length"],
            Self::L1Table => &[
                "l1_entry",
                "offset",
                "copied",
                "reserved_high",
                "reserved_low",
            ],
            Self::L2Tables => &[
                "l2_entry",
                "offset",
                "copied",
                "compressed",
                "zero",
                "compressed_offset",
                "sectors",
                "subclusters",
                "subclusters_allocated",
                "subclusters_zero",
                "reserved_high",
                "reserved_low",
            ],
            Self::RefcountTable => &["refcount_table_entry", "offset", "reserved"],
            Self::RefcountBlocks => &["refcount_block_entry"],
            Self::Snapshots => &[
                "l1_table_offset",
                "l1_size",
                "id_size",
                "name_size",
                "date_sec",
                "date_nsec",
                "vm_clock_nsec",
                "vm_state_size",
                "extra_data_size",
                "vm_state_size_large",
                "disk_size",
                "icount",
                "id",
                "name",
            ],
            Self::Bitmaps => &[
                "table_offset",
                "table_size",
                "flags",
                "in_use",
                "auto",
                "extra_data_compatible",
                "reserved",
                "type",
                "granularity_bits",
                "name_size",
                "extra_data_size",
                "name",
            ],
        }
    }
}

impl FromStr for Scope {
    type Err = anyhow::Error;

    /// Reads a JSON array of arrays: `[["header"], ["header", "version"]]`.
    fn from_str(text: &str) -> Result<Self> {
        let list: Vec<Vec<String>> = serde_json::from_str(text).context(
            "give a JSON array of structures and fields, such as [[\"header\", \"version\"]]",
        )?;
        if list.is_empty() {
            bail!("the list names no structure, so nothing would be changed");
        }
        let wanted = list
            .iter()
            .map(|words| wanted(words))
            .collect::<Result<_>>()?;
        Ok(Self { wanted })
    }
}

/// One element of the list.
fn wanted(words: &[String]) -> Result<Wanted> {
    let (name, field) = match words {
        [name] => (name, None),
        [name, field] => (name, Some(field.clone())),
        _ => bail!("each element names a structure, or a structure and a field, not {words:?}"),
    };
    let known = STRUCTURES.iter().find(|(known, _)| known == name);
    let Some((_, structure)) = known else {
        let names: Vec<&str> = STRUCTURES.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no structure '{name}'; there are {}",
            names.join(", ")
        );
    };
    if let Some(field) = &field
        && !structure.names().contains(&field.as_str())
    {
        let names = structure.names();
        let near = nearest(field, names.iter().copied());
        match near {
            Some(near) => bail!("there is no field '{field}' in '{name}'; did you mean '{near}'?"),
            None => bail!(
                "there is no field '{field}' in '{name}'; there are {}",
                names.join(", ")
            ),
        }
    }
    Ok(Wanted {
        structure: *structure,
        field,
    })
}

impl Scope {
    /// How much is changed where nobody says it: of a structure what the old fuzzer did.
    pub fn intensity(&self) -> Intensity {
        if self.wanted.iter().any(|wanted| wanted.field.is_none()) {
            Intensity::Share(20, 50)
        } else {
            Intensity::default()
        }
    }

    /// Draws the edits: of a structure a random share of its fields, of a named
    /// field always that field.
    pub fn draw(
        &self,
        context: MutationContext<'_>,
        intensity: Intensity,
        rng: &mut Rng,
    ) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        for wanted in &self.wanted {
            let mut fields = wanted.fields(context.map);
            if wanted.field.is_none() {
                rng.shuffle(&mut fields);
                fields.truncate(intensity.count(fields.len(), rng));
            }
            mutations.extend(
                fields
                    .into_iter()
                    .filter_map(|field| mutation(context, field, rng)),
            );
        }
        mutations
    }
}

impl Intensity {
    /// The most edits that an image of so many fields gets.
    pub fn most(self, there: usize) -> usize {
        match self {
            Self::Mutations(_, high) => high as usize,
            Self::Share(_, percent) => there * percent as usize / 100,
        }
    }

    /// How many of `there` fields are changed.
    pub fn count(self, there: usize, rng: &mut Rng) -> usize {
        match self {
            // The smaller of two draws: few mutations more often than many.
            Self::Mutations(low, high) => {
                rng.between(low, high).min(rng.between(low, high)) as usize
            }
            Self::Share(low, high) => {
                let percent = rng.between(low, high) as usize;
                (there * percent).div_ceil(100)
            }
        }
    }
}

impl Wanted {
    /// The fields meant.
    fn fields<'a>(&self, map: &'a Map) -> Vec<&'a Field> {
        let of_extension = |magic: u64| -> Vec<String> {
            (0..map.fields().len() as u64)
                .map(|index| format!("ext[{index}]."))
                .take_while(|prefix| map.get(&format!("{prefix}type")).is_some())
                .filter(|prefix| map.number(&format!("{prefix}type")) == Some(magic))
                .collect()
        };
        let extensions = match self.structure {
            Structure::BackingFileFormat => of_extension(0xe279_2aca),
            Structure::FeatureNameTable => of_extension(0x6803_f857),
            Structure::EndOfExtensions => of_extension(0),
            _ => Vec::new(),
        };
        map.filter(|_| true)
            .into_iter()
            .filter(|field| match self.structure {
                Structure::Header => field.path.starts_with("header."),
                Structure::BackingFileName => field.path.starts_with("backing_file_name"),
                Structure::L1Table => structure(&field.path) == "l1",
                Structure::L2Tables => structure(&field.path) == "l2",
                Structure::RefcountTable => structure(&field.path) == "refcount_table",
                Structure::RefcountBlocks => structure(&field.path) == "refcount_block",
                Structure::Snapshots => structure(&field.path) == "snapshot",
                Structure::Bitmaps => structure(&field.path) == "bitmap",
                _ => extensions
                    .iter()
                    .any(|prefix| field.path.starts_with(prefix)),
            })
            .filter(|field| self.named(field))
            .collect()
    }

    /// Whether `field` is the one named, by its own name or the one the old
    /// fuzzer had for it.
    fn named(&self, field: &Field) -> bool {
        let Some(name) = &self.field else {
            return numeric(field) || field.kind == image_formats::Kind::Text;
        };
        let last = field.path.rsplit('.').next().unwrap_or_default();
        // The features in an extension have types of their own.
        let within = field.path.contains(".feature[");
        match name.as_str() {
            "ext_magic" => last == "type" && !within,
            "ext_length" => last == "length" && !within,
            "bf_format" => last == "text",
            "bf_name" => field.path == "backing_file_name",
            "snapshot_offset" => last == "snapshots_offset",
            "feature_type" => last == "type" && within,
            "feature_bit_number" => last == "bit",
            "feature_name" => last == "name",
            "l1_entry" | "l2_entry" | "refcount_table_entry" => last.ends_with(']'),
            "refcount_block_entry" => structure(&field.path) == "refcount_block",
            name => last == name,
        }
    }
}

/// One field changed to an interesting value, or its text to another.
fn mutation(context: MutationContext<'_>, field: &Field, rng: &mut Rng) -> Option<Mutation> {
    let edit = if field.kind == image_formats::Kind::Text {
        let width = (field.width_bits / 8).min(64) as usize;
        let letter = char::from(rng.between(33, 126) as u8);
        Some(Edit::Text {
            path: field.path.clone(),
            text: letter.to_string().repeat(width),
        })
    } else {
        let values = interesting(context.map, field);
        (0..4).find_map(|_| set(field, *rng.pick(&values)?))
    };
    Some(Mutation {
        family: "config".into(),
        edit: edit?,
    })
}

/// The old fuzzer's way: a share of all fields, wherever they are.
pub(super) fn share(
    context: MutationContext<'_>,
    intensity: Intensity,
    rng: &mut Rng,
) -> Vec<Mutation> {
    let mut fields = context.map.filter(numeric);
    rng.shuffle(&mut fields);
    fields.truncate(intensity.count(fields.len(), rng));
    fields
        .into_iter()
        .filter_map(|field| mutation(context, field, rng))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intensity_is_a_number_a_range_or_a_share() {
        let read = |text: &str| text.parse::<Intensity>().ok();
        assert_eq!(read("2"), Some(Intensity::Mutations(2, 2)));
        assert_eq!(read("0"), Some(Intensity::Mutations(0, 0)));
        assert_eq!(read("1-3"), Some(Intensity::Mutations(1, 3)));
        assert_eq!(read("20%-50%"), Some(Intensity::Share(20, 50)));
        for bad in ["", "-", "3-1", "x", "101%", "-1", "1-2-3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_config_names_known_structures() {
        assert!(r#"[["header"], ["header", "version"]]"#.parse::<Scope>().is_ok());
        let said = r#"[["haeder"]]"#.parse::<Scope>().unwrap_err().to_string();
        assert!(
            said.contains("'haeder'") && said.contains("header,"),
            "{said}"
        );
        let of_header = |field: &str| format!(r#"[["header", "{field}"]]"#).parse::<Scope>();
        let said = of_header("versoin").unwrap_err().to_string();
        assert!(said.ends_with("did you mean 'version'?"), "{said}");
        let said = of_header("x").unwrap_err().to_string();
        assert!(
            said.contains("no field 'x' in 'header'") && said.contains("l1_size,"),
            "{said}"
        );
        for bad in ["", "[]", "[[]]", r#"["header"]"#, r#"[["a","b","c"]]"#] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    /// The names of features once counted as those of their extension, and a name that no
    /// field has was taken without a word.
    #[test]
    fn each_name_means_fields_of_its_structure_and_each_field_has_a_name() {
        let mut rng = Rng::from_text("names");
        let mut maker = crate::input::case::Maker::default();
        let mut unseen: std::collections::BTreeSet<(&str, &str)> = STRUCTURES
            .iter()
            .flat_map(|(name, structure)| structure.names().iter().map(|field| (*name, *field)))
            .collect();
        for _ in 0..400 {
            let base = crate::input::base::draw(&mut rng);
            let prepared = maker.prepared(&base).unwrap();
            for (name, structure) in STRUCTURES {
                let of = |field: Option<&str>| {
                    let field = field.map(str::to_owned);
                    let fields = Wanted { structure, field }.fields(&prepared.map);
                    let paths = fields.iter().map(|field| field.path.clone());
                    paths.collect::<std::collections::BTreeSet<String>>()
                };
                let mut named = std::collections::BTreeSet::new();
                for field in structure.names() {
                    let fields = of(Some(field));
                    if !fields.is_empty() {
                        unseen.remove(&(name, *field));
                    }
                    if field.starts_with("ext_") {
                        let inner = fields.iter().find(|path| path.contains("].feature["));
                        assert_eq!(inner, None, "{field}");
                    }
                    named.extend(fields);
                }
                let without: Vec<String> = of(None).difference(&named).cloned().collect();
                assert!(without.is_empty(), "{name}: {without:?}");
            }
        }
        assert!(unseen.is_empty(), "{unseen:?}");
    }

    #[test]
    fn of_a_structure_a_share_is_changed() {
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let mut rng = Rng::from_text("share");
        let base = crate::input::base::draw(&mut rng);
        let prepared = crate::input::case::Maker::default()
            .prepared(&base)
            .unwrap();
        let context = MutationContext {
            base: &base,
            map: &prepared.map,
        };
        let header = scope(r#"[["header"]]"#);
        let mutations = header.draw(context, header.intensity(), &mut rng).len();
        let fields = prepared.map.filter(numeric);
        let fields = fields
            .iter()
            .filter(|field| field.path.starts_with("header."));
        let fields = fields.count();
        assert!(
            mutations > 3 && mutations <= fields / 2 + 1,
            "{mutations} of {fields}"
        );
        let field = scope(r#"[["header", "version"]]"#);
        assert_eq!(field.intensity(), Intensity::default());
    }
}
