//! The image: bytes, and the structure that was found in them.

use crate::defect::Defect;
use crate::field::{Field, Kind, PlaceError};
use crate::io::{ReadAt, WriteAt};
use crate::path::{Path, PathSyntax, nearest};
use crate::qcow2::header::Header;
use crate::qcow2::read::layout::Layout;
use crate::qcow2::read::node::Node;
use crate::qcow2::read::tree::Tree;
use crate::qcow2::rules;
use crate::row::Leaf;
use crate::store::Store;
use crate::value::Value;
use std::io;
use std::sync::Arc;

/// Why a field cannot be read or set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The text is not a path.
    #[error(transparent)]
    Syntax(#[from] PathSyntax),
    /// The image has no such field.
    #[error("the image has no field '{path}'{}", hint(suggestion.as_deref()))]
    Missing {
        /// The path that was asked for.
        path: String,
        /// The most similar path there is.
        suggestion: Option<String>,
    },
    /// The field cannot hold the value.
    #[error("cannot set {path}: {problem}")]
    Value {
        /// The path that was to be set.
        path: String,
        /// Why not.
        problem: PlaceError,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |path| format!("; did you mean '{path}'?"))
}

/// A qcow2 image, valid or not.
///
/// The bytes are the truth, and every byte that is not changed stays as it was, so
/// encoding what was decoded gives the same bytes. The structure is found once, when
/// decoding: a path keeps its meaning while fields are changed, also when the changed
/// fields are those that led to it. [`Image::redecode`] looks again.
///
/// Cloning is cheap: the original bytes are shared, only changes are copied.
#[derive(Clone)]
pub struct Image {
    source: Arc<dyn ReadAt>,
    layout: Arc<Layout>,
    bytes: Store,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image")
            .field("layout", &self.layout)
            .field("bytes", &self.bytes)
            .finish()
    }
}

impl Image {
    /// Reads any bytes as an image, and says what is wrong with them.
    ///
    /// Memory is bounded whatever the image says: the reader is asked again for bytes
    /// that are needed later, and changes alone are kept.
    #[must_use]
    pub fn decode(source: Arc<dyn ReadAt>) -> (Self, Vec<Defect>) {
        let image = Self::open(source);
        let defects = image.defects();
        (image, defects)
    }

    /// As [`Image::decode`], without looking for defects.
    #[must_use]
    pub fn open(source: Arc<dyn ReadAt>) -> Self {
        Self {
            layout: Arc::new(Layout::read(&*source)),
            bytes: Store::over(Arc::clone(&source)),
            source,
        }
    }

    /// Finds the structure anew in the bytes as they are now.
    #[must_use]
    pub fn redecode(&self) -> (Self, Vec<Defect>) {
        Self::decode(Arc::new(self.bytes.clone()))
    }

    /// Finds the structure anew, in place.
    pub(crate) fn relocate(&mut self) {
        *self = Self::open(Arc::new(self.bytes.clone()));
    }

    /// What is wrong with the bytes as they are now.
    #[must_use]
    pub fn defects(&self) -> Vec<Defect> {
        rules::check(&self.bytes)
    }

    /// Writes the image to `out`, which is empty. Holes are not written.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn encode(&self, out: &mut dyn WriteAt) -> io::Result<()> {
        self.bytes.copy_to(out)
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &Store {
        &self.bytes
    }

    /// The bytes as they are now, to be changed at will.
    pub fn bytes_mut(&mut self) -> &mut Store {
        &mut self.bytes
    }

    /// The header as it is now.
    #[must_use]
    pub fn header(&self) -> Header {
        Header::read(&self.bytes)
    }

    /// Where the structures lay when the image was decoded.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Every field of the image, in the order header, backing file name, extensions,
    /// refcounts, mapping, snapshots, bitmaps, encryption; tables by index. Lazy: a
    /// large image has many millions.
    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.walk(true)
    }

    /// As [`Image::fields`], without the entries of tables that are zero, but for the
    /// first one behind each used one.
    pub fn used_fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.walk(false)
    }

    fn walk(&self, all: bool) -> impl Iterator<Item = Field> + '_ {
        let tree = self.tree();
        tree.nodes(all).flat_map(move |node| {
            let prefix = node.path();
            // Contents of clusters are reached by their path; here only what is short
            // or has a structure of its own is listed.
            let listed = |leaf: &Leaf| leaf.name != "data" || is_compressed_data(leaf);
            let leaves = tree.leaves(node).into_iter().filter(listed);
            leaves.map(move |leaf| leaf.field(&prefix, &self.bytes))
        })
    }

    /// The field at `path`.
    ///
    /// # Errors
    /// When `path` is not a path, or the image has no such field.
    pub fn field(&self, path: &str) -> Result<Field, FieldError> {
        let (node, leaf) = self.leaf(path)?;
        Ok(leaf.field(&node.path(), &self.bytes))
    }

    /// What the field at `path` holds, if there is one.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (_, leaf) = self.find(&path.parse().ok()?)?;
        Some(leaf.place.get(&self.bytes))
    }

    /// The number in the field at `path`, if there is one.
    #[must_use]
    pub fn get_uint(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_uint()
    }

    /// Puts any value that its bits can hold into the field at `path`, and changes
    /// nothing else. Text shorter than its field is padded with zeros.
    ///
    /// # Errors
    /// When there is no such field, or it cannot hold the value.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), FieldError> {
        let (_, leaf) = self.leaf(path)?;
        let set = leaf.place.set(&mut self.bytes, &value.into());
        set.map_err(|problem| FieldError::Value {
            path: path.to_owned(),
            problem,
        })
    }

    fn leaf(&self, path: &str) -> Result<(Node, Leaf), FieldError> {
        let parsed: Path = path.parse()?;
        self.find(&parsed).ok_or_else(|| FieldError::Missing {
            path: path.to_owned(),
            suggestion: self.suggestion(path),
        })
    }

    fn find(&self, path: &Path) -> Option<(Node, Leaf)> {
        let (node, name) = Node::resolve(path)?;
        let leaves = self.tree().leaves(node);
        leaves
            .into_iter()
            .find(|leaf| leaf.name == name)
            .map(|leaf| (node, leaf))
    }

    fn suggestion(&self, path: &str) -> Option<String> {
        const LOOKED_AT: usize = 20_000;
        let paths: Vec<String> = self
            .used_fields()
            .take(LOOKED_AT)
            .map(|field| field.path)
            .collect();
        nearest(path, paths.iter().map(String::as_str)).map(str::to_owned)
    }

    pub(crate) fn tree(&self) -> Tree<'_> {
        Tree {
            source: &*self.source,
            layout: &self.layout,
        }
    }
}

fn is_compressed_data(leaf: &Leaf) -> bool {
    leaf.kind == Kind::Bytes && !leaf.rule.is_empty()
}
