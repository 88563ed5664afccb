//! The image: bytes, and the structure that was found in them.

use std::any::Any;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use crate::checker::Scope;
use crate::defect::Defect;
use crate::disk::{self, DiskError, Opening};
use crate::field::{Field, FieldError, Kind};
use crate::io::{ReadAt, ReadError};
use crate::model::Model;
use crate::path::Path;
use crate::qcow2::read::any_disk::{open_disk, references};
use crate::qcow2::read::guest::{Guest, GuestError};
use crate::qcow2::read::layout::{Disk, Layout};
use crate::qcow2::read::node::Node;
use crate::qcow2::read::tree::Tree;
use crate::qcow2::rules;
use crate::row::Leaf;
use crate::store::Store;
use crate::structure::Derivation;
use crate::value::Value;

/// A qcow2 image, valid or not.
///
/// The bytes are the truth, and every byte that is not changed stays as it was, so
/// encoding what was decoded gives the same bytes. The structure is found once, when
/// decoding: a path keeps its meaning while fields are changed, even when the changed
/// fields are those that led to it. To find the structure again, open the changed bytes.
///
/// Cloning is cheap: the original bytes are shared, only changes are copied.
#[derive(Clone)]
pub struct Image {
    /// The bytes as they were decoded, which determine the structure.
    original: Store,
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
    /// Decodes any bytes as an image and checks the rules of the format.
    ///
    /// Memory is bounded whatever the image holds: the source is read again for bytes
    /// that are needed later, and only changes are kept.
    ///
    /// # Errors
    ///
    /// The source cannot be read. No bytes that were read are an error.
    pub fn decode(source: Arc<dyn ReadAt>) -> Result<(Self, Vec<Defect>), ReadError> {
        let image = Self::open(source)?;
        let defects = image.defects()?;
        Ok((image, defects))
    }

    /// As [`Image::decode`], without looking for defects.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn open(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let image = Self::over(Store::over(source));
        image.bytes.check_reads()?;
        Ok(image)
    }

    /// Decodes the bytes of a store. The caller checks whether they could be read.
    pub(crate) fn over(original: Store) -> Self {
        Self {
            layout: Arc::new(Layout::read(&original)),
            bytes: original.clone(),
            original,
        }
    }

    /// What is wrong with the bytes as they are now.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn defects(&self) -> Result<Vec<Defect>, ReadError> {
        self.check(Scope::All)
    }

    /// The broken rules that a reader must enforce ([`Requirement::Must`]), in a part of the
    /// time that [`Image::defects`] takes; of a large table only the first entries are looked
    /// at.
    ///
    /// [`Requirement::Must`]: crate::Requirement::Must
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn binding_defects(&self) -> Result<Vec<Defect>, ReadError> {
        self.check(Scope::Binding)
    }

    fn check(&self, scope: Scope) -> Result<Vec<Defect>, ReadError> {
        let layout = Layout::read(&self.bytes);
        let defects = rules::check(&self.bytes, &layout, scope);
        self.bytes.check_reads()?;
        Ok(defects)
    }

    /// Writes the image to `out`, which is empty. Holes are not written.
    ///
    /// # Errors
    ///
    /// Those of `out`, or the source cannot be read.
    pub fn encode(&self, out: &mut (impl Write + Seek + ?Sized)) -> io::Result<()> {
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

    /// Where the structures were when the image was decoded.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The fields of the image, in the order header, backing file name, extensions,
    /// refcounts, mapping, snapshots, bitmaps, encryption; tables by index. Entries of
    /// tables that are zero are left out, but for the first one after each used one.
    ///
    /// Lazy: a large image has many millions. They end early where the source cannot be
    /// read, see [`Store::check_reads`].
    pub fn used_fields(&self) -> impl Iterator<Item = Field> + '_ {
        let tree = self.tree();
        self.fields_of(tree, tree.nodes())
    }

    /// The fields of nodes of the image.
    fn fields_of<'a>(
        &'a self,
        tree: Tree<'a>,
        nodes: impl Iterator<Item = Node> + 'a,
    ) -> impl Iterator<Item = Field> + 'a {
        let fields = nodes.flat_map(move |node| {
            let prefix = node.path();
            // Contents of clusters are reached by their path; here only what is short
            // or has a structure is listed.
            let listed = |leaf: &Leaf| leaf.name != "data" || is_compressed_data(leaf);
            let leaves = tree.leaves(node).into_iter().filter(listed);
            leaves.map(move |leaf| leaf.field(&prefix, &self.bytes))
        });
        fields.take_while(|_| self.bytes.check_reads().is_ok())
    }

    /// The field at `path`.
    ///
    /// # Errors
    ///
    /// `path` is not a path, the image has no such field, or the source cannot be read.
    pub fn field(&self, path: &str) -> Result<Field, FieldError> {
        let (node, leaf) = self.leaf(path)?;
        let field = leaf.field(&node.path(), &self.bytes);
        self.bytes.check_reads()?;
        Ok(field)
    }

    /// What the field at `path` holds, if there is one and it can be read.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (_, leaf) = self.find(&path.parse().ok()?)?;
        let value = leaf.place.get(&self.bytes);
        self.bytes.check_reads().ok()?;
        Some(value)
    }

    /// The number in the field at `path`, if there is one and it can be read.
    #[must_use]
    pub fn get_uint(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_uint()
    }

    /// Puts any value that its bits can hold into the field at `path`, and changes
    /// nothing else. Text shorter than its field is padded with zeros.
    ///
    /// # Errors
    ///
    /// There is no such field, it cannot hold the value, or the source cannot be read.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), FieldError> {
        let (_, leaf) = self.leaf(path)?;
        let set = leaf.place.set(&mut self.bytes, &value.into());
        self.bytes.check_reads()?;
        set.map_err(FieldError::value(path))
    }

    fn leaf(&self, path: &str) -> Result<(Node, Leaf), FieldError> {
        let found = self.find(&path.parse()?);
        self.bytes.check_reads()?;
        found.ok_or_else(|| FieldError::missing(path, self.used_fields()))
    }

    fn find(&self, path: &Path) -> Option<(Node, Leaf)> {
        let (node, name) = Node::resolve(path)?;
        let mut leaves = self.tree().leaves(node).into_iter();
        let leaf = leaves.find(|leaf| leaf.name == name)?;
        Some((node, leaf))
    }

    /// The guest's view of a disk in the image. `data_file` and `backing` are the
    /// contents of the files with these roles; the backing file is raw here, that is,
    /// what its own guest would see.
    ///
    /// # Errors
    ///
    /// The cluster size is out of range, or the source cannot be read.
    pub fn guest<'a>(
        &'a self,
        disk: Disk,
        data_file: Option<&'a dyn ReadAt>,
        backing: Option<&'a dyn ReadAt>,
    ) -> Result<Guest<'a>, GuestError> {
        Guest::new(&self.bytes, disk, data_file, backing)
    }

    fn tree(&self) -> Tree<'_> {
        Tree {
            source: &self.original,
            layout: &self.layout,
            most: u64::MAX,
        }
    }
}

impl Model for Image {
    fn defects(&self, scope: Scope) -> Result<Vec<Defect>, ReadError> {
        self.check(scope)
    }

    fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_> {
        Box::new(self.used_fields())
    }

    fn overview(&self, most: u64) -> Box<dyn Iterator<Item = Field> + '_> {
        let tree = Tree {
            most,
            ..self.tree()
        };
        Box::new(self.fields_of(tree, tree.nodes()))
    }

    fn fields_under(&self, path: &Path) -> Box<dyn Iterator<Item = Field> + '_> {
        let tree = self.tree();
        Box::new(self.fields_of(tree, tree.nodes_under(path)))
    }

    fn defects_under(&self, path: &Path) -> Result<Vec<Defect>, ReadError> {
        let first = path.segments().first().map_or("", |it| it.name.as_str());
        let scope = match first {
            "header" | "ext" | "backing_file_name" | "luks" => Scope::Header,
            "l1" | "l2" | "snapshot" | "bitmap" => Scope::Tables,
            _ => Scope::All,
        };
        self.check(scope)
    }

    fn field(&self, path: &str) -> Result<Field, FieldError> {
        self.field(path)
    }

    fn set(&mut self, path: &str, value: Value) -> Result<(), FieldError> {
        self.set(path, value)
    }

    fn recompute(&mut self, wanted: &[Derivation]) {
        if wanted.contains(&Derivation::Value) {
            // Where the refcounts cannot be recomputed they stay as they are.
            let _ = self.recompute_refcounts();
        }
    }

    /// None: a qcow2 image has everything once.
    fn copies(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    fn bytes(&self) -> &Store {
        self.bytes()
    }

    fn bytes_mut(&mut self) -> &mut Store {
        self.bytes_mut()
    }

    fn disk(&self, opening: Opening<'_>) -> Result<Box<dyn disk::Disk>, DiskError> {
        open_disk(&self.bytes, opening)
    }

    fn references(&self) -> Vec<Vec<u8>> {
        references(&self.bytes)
    }

    fn unit(&self) -> u64 {
        let geometry = self.layout.geometry;
        geometry.map_or(512, |geometry| geometry.cluster_size())
    }

    fn clone_box(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn is_compressed_data(leaf: &Leaf) -> bool {
    leaf.kind == Kind::Bytes && !leaf.rule.is_empty()
}
