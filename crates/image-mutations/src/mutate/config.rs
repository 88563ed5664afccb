//! Which structures and fields are changed: `--config`.
//!
//! Those of qcow2 have names of their own, many of them from QEMU's image fuzzer; those of other
//! formats are found out from the paths of images of the format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use image_formats::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_END, EXT_FEATURE_NAMES,
};
use image_formats::{Field, Format, Kind, nearest};

use super::boundary::interesting;
use super::edits::{numeric, set};
use super::intensity::Intensity;
use super::legacy_names;
use super::paths::{self, can_change};
use crate::base::Formats;
use crate::edit::{Edit, Mutation};
use crate::map::{self, Map};
use crate::rng::Rng;

use Location::{Extension, OtherExtensions, Prefix, Table};

/// The structures and fields that alone are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSelection {
    selectors: Vec<Selector>,
}

/// A structure, or one field of it in each of its places.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    structure: String,
    field: Option<String>,
}

/// A structure of qcow2 that can be named; those of other formats have the names that their
/// paths begin with (`paths`).
#[derive(Debug, PartialEq, Eq)]
struct Structure {
    name: &'static str,
    location: Location,
    /// The names that `image-fuzzer show` has for its fields, separated by spaces.
    fields: &'static str,
}

/// Where the fields of a structure are.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    /// Where paths begin with this.
    Prefix(&'static str),
    /// In the tables or records of this name.
    Table(&'static str),
    /// In the header extensions of this type.
    Extension(u32),
    /// In the header extensions of all other types.
    OtherExtensions,
}

/// The structures; from `snapshots` on QEMU's image fuzzer did not have them.
const STRUCTURES: &[Structure] = &[
    structure(
        "header",
        Prefix("header."),
        "magic version backing_file_offset \
        backing_file_size cluster_bits size crypt_method l1_size l1_table_offset \
        refcount_table_offset refcount_table_clusters nb_snapshots snapshots_offset \
        incompatible_features dirty corrupt data_file compression extended_l2 \
        compatible_features lazy_refcounts autoclear_features bitmaps raw_data_file \
        reserved refcount_order header_length compression_type",
    ),
    structure(
        "backing_file_name",
        Prefix("backing_file_name"),
        "backing_file_name",
    ),
    structure(
        "backing_file_format",
        Extension(EXT_BACKING_FORMAT),
        "type length text",
    ),
    structure(
        "feature_name_table",
        Extension(EXT_FEATURE_NAMES),
        "type length bit name",
    ),
    structure("end_of_extension_area", Extension(EXT_END), "type length"),
    structure(
        "l1_table",
        Table("l1"),
        "offset copied reserved_high reserved_low",
    ),
    structure(
        "l2_tables",
        Table("l2"),
        "offset copied compressed zero compressed_offset \
        sectors subclusters subclusters_allocated subclusters_zero reserved_high \
        reserved_low",
    ),
    structure("refcount_table", Table("refcount_table"), "offset reserved"),
    structure("refcount_blocks", Table("refcount_block"), ""),
    structure(
        "snapshots",
        Table("snapshot"),
        "l1_table_offset l1_size id_size name_size \
        date_sec date_nsec vm_clock_nsec vm_state_size extra_data_size \
        vm_state_size_large disk_size icount id name",
    ),
    structure(
        "bitmaps",
        Table("bitmap"),
        "table_offset table_size flags in_use auto \
        extra_data_compatible reserved type granularity_bits name_size extra_data_size \
        name",
    ),
    structure(
        "bitmap_tables",
        Table("bitmap_table"),
        "offset all_ones reserved_high reserved_low",
    ),
    structure(
        "bitmaps_extension",
        Extension(EXT_BITMAPS),
        "type length nb_bitmaps reserved bitmap_directory_size bitmap_directory_offset",
    ),
    structure(
        "encryption_extension",
        Extension(EXT_ENCRYPTION),
        "type length encryption_offset encryption_length",
    ),
    structure(
        "data_file_name",
        Extension(EXT_DATA_FILE),
        "type length text",
    ),
    structure("unknown_extensions", OtherExtensions, "type length"),
    structure(
        "luks",
        Table("luks"),
        "version cipher_name cipher_mode hash_spec payload_offset key_bytes \
        mk_digest_iterations uuid active iterations key_material_offset stripes",
    ),
];

const fn structure(name: &'static str, location: Location, fields: &'static str) -> Structure {
    Structure {
        name,
        location,
        fields,
    }
}

impl Structure {
    /// All names of its fields.
    fn names(&self) -> Vec<&'static str> {
        let legacy = legacy_names::of(self.name).map(|(_, name, _)| *name);
        legacy.chain(self.fields.split_ascii_whitespace()).collect()
    }

    /// Its fields.
    fn fields<'a>(&self, map: &'a Map) -> impl Iterator<Item = &'a Field> {
        let wanted = |magic: u64| match self.location {
            Extension(wanted) => magic == u64::from(wanted),
            OtherExtensions => !STRUCTURES.iter().any(
                |known| matches!(known.location, Extension(known) if magic == u64::from(known)),
            ),
            _ => false,
        };
        let extensions: Vec<String> = (0..map.fields().len())
            .map(|index| format!("ext[{index}]."))
            .map_while(|prefix| Some((map.number(&format!("{prefix}type"))?, prefix)))
            .filter(|(magic, _)| wanted(*magic))
            .map(|(_, prefix)| prefix)
            .collect();
        map.fields()
            .iter()
            .filter(move |field| match self.location {
                Prefix(prefix) => field.path.starts_with(prefix),
                Table(name) => map::structure(&field.path) == name,
                Extension(_) | OtherExtensions => extensions
                    .iter()
                    .any(|prefix| field.path.starts_with(prefix)),
            })
    }
}

impl FromStr for FieldSelection {
    type Err = anyhow::Error;

    /// Reads a JSON array of arrays about qcow2 images: `[["header"], ["header", "version"]]`.
    fn from_str(text: &str) -> Result<Self> {
        Self::for_formats(text, &Formats::default())
    }
}

/// The names of structures, and of the fields of each.
type Names = BTreeMap<String, Vec<String>>;

/// The names in images of `formats`.
fn names(formats: &Formats) -> Names {
    let mut names = Names::new();
    if formats.names().contains(&Format::Qcow2.name()) {
        let known = STRUCTURES.iter().map(|known| {
            let fields = known.names().into_iter().map(str::to_owned);
            (known.name.to_owned(), fields.collect())
        });
        names.extend(known);
    }
    for (structure, fields) in paths::names(formats) {
        let known = names.entry(structure).or_default();
        known.extend(fields);
        let mut seen = BTreeSet::new();
        known.retain(|name| seen.insert(name.clone()));
    }
    names
}

/// One element of the list.
fn selector(words: &[String], known: &Names) -> Result<Selector> {
    let (name, field) = match words {
        [name] => (name, None),
        [name, field] => (name, Some(field.clone())),
        _ => bail!("each element names a structure, or a structure and a field, not {words:?}"),
    };
    let Some(fields) = known.get(name) else {
        let mut names: Vec<&str> = known.keys().map(String::as_str).collect();
        // In the order of the image, where that is known.
        let place = |name: &str| STRUCTURES.iter().position(|known| known.name == name);
        names.sort_by_key(|name| place(name).unwrap_or(usize::MAX));
        bail!("unknown structure '{name}'; known: {}", names.join(", "));
    };
    if let Some(field) = &field
        && !fields.contains(field)
    {
        match nearest(field, fields.iter().map(String::as_str)) {
            Some(near) => bail!("no field '{field}' in '{name}'; did you mean '{near}'?"),
            None => bail!(
                "no field '{field}' in '{name}'; known: {}",
                fields.join(", ")
            ),
        }
    }
    Ok(Selector {
        structure: name.clone(),
        field,
    })
}

/// As JSON, in the form that is read.
impl fmt::Display for FieldSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |selector: &Selector| -> Vec<String> {
            let structure = selector.structure.clone();
            std::iter::once(structure)
                .chain(selector.field.clone())
                .collect()
        };
        let list: Vec<Vec<String>> = self.selectors.iter().map(words).collect();
        f.write_str(&serde_json::to_string(&list).map_err(|_| fmt::Error)?)
    }
}

impl FieldSelection {
    /// Reads a JSON array of arrays about images of `formats`: `[["footer"], ["bat"]]`. Names
    /// that one of them has are known.
    ///
    /// # Errors
    ///
    /// It is not such a list, or none of the formats has a structure or field of that name; the
    /// error says which there are.
    pub fn for_formats(text: &str, formats: &Formats) -> Result<Self> {
        let list = Self::list(text)?;
        let known = names(formats);
        let selectors = list.iter().map(|words| selector(words, &known));
        let selectors = selectors.collect::<Result<_>>()?;
        Ok(Self { selectors })
    }

    /// The elements of a selection, whatever they name.
    ///
    /// # Errors
    ///
    /// It is not a list of lists of names, or has none.
    pub fn list(text: &str) -> Result<Vec<Vec<String>>> {
        let list: Vec<Vec<String>> = serde_json::from_str(text).context(
            "give a JSON array of structures and fields, such as [[\"header\", \"version\"]]",
        )?;
        if list.is_empty() {
            bail!("the list names no structure, so nothing would be changed");
        }
        Ok(list)
    }

    /// How much is changed where no intensity is given: of whole structures the share that
    /// QEMU's image fuzzer changed.
    pub fn intensity(&self) -> Intensity {
        if self
            .selectors
            .iter()
            .any(|selector| selector.field.is_none())
        {
            Intensity::Share(20, 50)
        } else {
            Intensity::default()
        }
    }

    /// Whether the field of that path is among those that may be changed.
    pub fn contains(&self, map: &Map, path: &str) -> bool {
        let fields = |selector: &Selector| selector.fields(map);
        let mut fields = self.selectors.iter().flat_map(fields);
        fields.any(|field| field.path == path)
    }

    /// For how many of its elements the image has fields, and how many there are.
    pub fn presence(&self, map: &Map) -> (usize, usize) {
        let present = |selector: &&Selector| !selector.fields(map).is_empty();
        let count = self.selectors.iter().filter(present).count();
        (count, self.selectors.len())
    }

    /// Draws the edits: of a structure a random share of its fields, of a named
    /// field always that field.
    pub(super) fn draw(&self, map: &Map, intensity: Intensity, rng: &mut Rng) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        for selector in &self.selectors {
            let fields = selector.fields(map);
            mutations.extend(match selector.field {
                Some(_) => mutate_all(map, &fields, rng),
                None => mutate_some(map, fields, intensity, rng),
            });
        }
        mutations
    }

    /// Whether two selections, in their text form, are the same. The form that earlier
    /// versions wrote cannot be compared, and is taken for the same as any other selection.
    pub fn same_text(one: Option<&str>, other: Option<&str>) -> bool {
        let is_json = |text: &str| text.starts_with('[');
        match (one, other) {
            (Some(one), Some(other)) => one == other || !is_json(one) || !is_json(other),
            (one, other) => one == other,
        }
    }
}

/// Draws edits of a share of all fields, whatever their structure.
pub(super) fn share(map: &Map, intensity: Intensity, rng: &mut Rng) -> Vec<Mutation> {
    mutate_some(map, map.filter(numeric), intensity, rng)
}

impl Selector {
    /// The fields selected.
    fn fields<'a>(&self, map: &'a Map) -> Vec<&'a Field> {
        if map.format != Format::Qcow2 {
            return paths::fields(map, &self.structure, self.field.as_deref());
        }
        let structure = STRUCTURES.iter().find(|known| known.name == self.structure);
        let Some(structure) = structure else {
            return Vec::new();
        };
        let fields = structure.fields(map);
        let Some(name) = &self.field else {
            return fields.filter(|field| can_change(field)).collect();
        };
        match legacy_names::of(structure.name).find(|(_, known, _)| known == name) {
            Some((_, _, names)) => fields.filter(|field| names(field)).collect(),
            None => fields
                .filter(|field| legacy_names::last(field) == name)
                .collect(),
        }
    }
}

/// As many of `fields` as `intensity` says, each to another value.
fn mutate_some(
    map: &Map,
    mut fields: Vec<&Field>,
    intensity: Intensity,
    rng: &mut Rng,
) -> Vec<Mutation> {
    rng.shuffle(&mut fields);
    fields.truncate(intensity.count(fields.len(), rng));
    mutate_all(map, &fields, rng)
}

/// Each of `fields` to another value.
fn mutate_all(map: &Map, fields: &[&Field], rng: &mut Rng) -> Vec<Mutation> {
    fields
        .iter()
        .filter_map(|field| {
            Some(Mutation {
                family: "config".into(),
                edit: edit(map, field, rng)?,
            })
        })
        .collect()
}

/// A number to one of its boundary values, or a text to another.
fn edit(map: &Map, field: &Field, rng: &mut Rng) -> Option<Edit> {
    if field.kind == Kind::Text {
        let width = (field.width_bits / 8).min(64) as usize;
        let letter = char::from(rng.between(33, 126) as u8);
        return Some(Edit::Text {
            path: field.path.clone(),
            text: letter.to_string().repeat(width),
        });
    }
    let values = interesting(map, field);
    (0..4).find_map(|_| set(field, *rng.pick(&values)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base;
    use crate::case::Maker;

    fn selection(text: &str) -> Result<FieldSelection> {
        text.parse()
    }

    #[test]
    fn a_config_names_known_structures() {
        assert!(selection(r#"[["header"], ["header", "version"]]"#).is_ok());
        let error = selection(r#"[["haeder"]]"#).unwrap_err().to_string();
        assert!(
            error.contains("'haeder'") && error.contains("header,"),
            "{error}"
        );
        let of_header = |field: &str| selection(&format!(r#"[["header", "{field}"]]"#));
        let error = of_header("versoin").unwrap_err().to_string();
        assert!(error.ends_with("did you mean 'version'?"), "{error}");
        let error = of_header("x").unwrap_err().to_string();
        assert!(
            error.contains("no field 'x' in 'header'") && error.contains("l1_size,"),
            "{error}"
        );
        for bad in ["", "[]", "[[]]", r#"["header"]"#, r#"[["a","b","c"]]"#] {
            assert!(selection(bad).is_err(), "{bad}");
        }
    }

    /// Earlier versions kept a selection in another form.
    #[test]
    fn the_texts_of_selections_are_compared() {
        let text = r#"[["header"],["header","version"]]"#;
        assert_eq!(selection(text).unwrap().to_string(), text);
        let old = "Scope { wanted: [Wanted { structure: Header, field: None }] }";
        let same = FieldSelection::same_text;
        assert!(same(Some(text), Some(text)) && same(None, None));
        assert!(same(Some(old), Some(text)));
        assert!(!same(Some(r#"[["header"]]"#), Some(text)));
        assert!(!same(None, Some(text)) && !same(Some(old), None));
    }

    /// The names of features once counted as those of their extension, and a name that no
    /// field has was accepted silently.
    #[test]
    fn each_name_means_fields_of_its_structure_and_each_field_has_a_name() {
        let mut rng = Rng::from_text("names");
        let mut maker = Maker::default();
        let mut unseen: BTreeSet<(&str, &str)> = STRUCTURES
            .iter()
            .flat_map(|structure| {
                let fields = structure.names().into_iter();
                fields.map(|field| (structure.name, field))
            })
            .collect();
        for _ in 0..400 {
            let base = base::draw(&mut rng);
            let prepared = maker.prepared(&base).unwrap();
            for structure in STRUCTURES {
                let of = |field: Option<&str>| {
                    let fields = Selector {
                        structure: structure.name.to_owned(),
                        field: field.map(str::to_owned),
                    };
                    let fields = fields.fields(&prepared.map);
                    let paths = fields.iter().map(|field| field.path.clone());
                    paths.collect::<BTreeSet<String>>()
                };
                let mut named = BTreeSet::new();
                for field in structure.names() {
                    let fields = of(Some(field));
                    if !fields.is_empty() {
                        unseen.remove(&(structure.name, field));
                    }
                    if field.starts_with("ext_") {
                        let inner = fields.iter().find(|path| path.contains("].feature["));
                        assert_eq!(inner, None, "{field}");
                    }
                    named.extend(fields);
                }
                let without: Vec<String> = of(None).difference(&named).cloned().collect();
                assert!(without.is_empty(), "{}: {without:?}", structure.name);
            }
        }
        assert!(unseen.is_empty(), "{unseen:?}");
    }

    #[test]
    fn of_a_structure_a_share_is_changed() {
        let mut rng = Rng::from_text("share");
        let base = base::draw(&mut rng);
        let prepared = Maker::default().prepared(&base).unwrap();
        let map = &prepared.map;
        let header = selection(r#"[["header"]]"#).unwrap();
        let mutations = header.draw(map, header.intensity(), &mut rng).len();
        let fields = prepared.map.filter(numeric);
        let fields = fields
            .iter()
            .filter(|field| field.path.starts_with("header."));
        let fields = fields.count();
        assert!(
            mutations > 3 && mutations <= fields / 2 + 1,
            "{mutations} of {fields}"
        );
        let field = selection(r#"[["header", "version"]]"#).unwrap();
        assert_eq!(field.intensity(), Intensity::default());
    }

    #[test]
    fn other_formats_have_the_names_of_their_paths() {
        let of = |word: &str, text: &str| {
            FieldSelection::for_formats(text, &Formats::named(word).unwrap())
        };
        let vpc = r#"[["header"],["footer","checksum"],["bat"]]"#;
        assert_eq!(of("vpc", vpc).unwrap().to_string(), vpc);
        let error = of("vpc", r#"[["l1_table"]]"#).unwrap_err().to_string();
        assert!(
            error.contains("'l1_table'; known: ") && error.contains("footer"),
            "{error}"
        );
        let error = of("vpc", r#"[["footer","chekcsum"]]"#).unwrap_err();
        assert!(
            error.to_string().ends_with("did you mean 'checksum'?"),
            "{error}"
        );
        assert!(of("qcow2", r#"[["footer"]]"#).is_err());

        let base = Formats::named("vpc").unwrap().plain();
        let prepared = Maker::default().prepared(&base).unwrap();
        let selected = of("vpc", r#"[["footer","checksum"]]"#).unwrap();
        assert!(selected.contains(&prepared.map, "footer.checksum"));
        assert!(!selected.contains(&prepared.map, "header.checksum"));
        assert_eq!(selected.presence(&prepared.map), (1, 1));
        let mut rng = Rng::from_text("vpc");
        let mutations = selected.draw(&prepared.map, Intensity::default(), &mut rng);
        let [
            Mutation {
                edit: Edit::Set { path, .. },
                ..
            },
        ] = &mutations[..]
        else {
            panic!("{mutations:?}");
        };
        assert_eq!(path, "footer.checksum");
    }
}
