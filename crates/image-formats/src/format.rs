//! The table of formats, and one interface to images of all of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checker::Scope;
use crate::defect::{Defect, Rule};
use crate::disk::{Access, Disk, DiskError, Opening, RawDisk};
use crate::field::{Field, FieldError};
use crate::io::{ReadAt, ReadError};
use crate::model::{Driver, Ends, Model};
use crate::path::{Path, PathSyntax};
use crate::store::Store;
use crate::structure::Derivation;
use crate::value::Value;
use crate::{bochs, cloop, dmg, luks, parallels, qcow, qcow2, qed, raw, vdi, vhdx, vmdk, vpc};

/// Declares [`Format`] from one row for each format: its name here, and its driver.
/// Images are probed in this order.
macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident => $module:path,)*) => {
        /// Known disk-image formats: those of [`crate::AnySpec`] and [`Format::Qcow2`] are
        /// modelled completely, of the others the headers and first tables.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Format {
            $($(#[$doc])* $format,)*
        }

        impl Format {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($format)),*].len()] = [$(Self::$format),*];

            fn driver(self) -> &'static Driver {
                match self {
                    $(Self::$format => { use $module as module; &module::DRIVER })*
                }
            }

            /// The rules of the format, in the order of its structures.
            #[must_use]
            pub fn rules(self) -> &'static [Rule] {
                match self {
                    $(Self::$format => { use $module as module; module::RULES })*
                }
            }
        }
    };
}

formats! {
    /// QEMU, versions 2 and 3.
    Qcow2 => qcow2,
    /// QEMU, version 1.
    Qcow => qcow,
    /// VMware: descriptors and extents.
    Vmdk => vmdk,
    /// Microsoft Hyper-V.
    Vhdx => vhdx,
    /// VirtualBox.
    Vdi => vdi,
    /// QEMU enhanced disk.
    Qed => qed,
    /// Parallels.
    Parallels => parallels,
    /// LUKS, versions 1 and 2.
    Luks => luks,
    /// Bochs, growing.
    Bochs => bochs,
    /// Linux compressed loop.
    Cloop => cloop,
    /// Microsoft Virtual PC.
    Vpc => vpc,
    /// Apple disk image.
    Dmg => dmg,
    /// The bytes of the disk and nothing else. It has no signature.
    Raw => raw,
}

impl Format {
    /// The name that QEMU uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.driver().name
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format whose signature the image has.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn probe(source: &(impl ReadAt + ?Sized)) -> Result<Option<Self>, ReadError> {
        Ok(Self::signatures(source)?.first().copied())
    }

    /// The formats whose signatures the image has: a signature at the start and another at the
    /// end make the same file an image of two formats.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn signatures(source: &(impl ReadAt + ?Sized)) -> Result<Vec<Self>, ReadError> {
        let ends = Ends::read(source)?;
        let all = Self::ALL.into_iter();
        Ok(all.filter(|it| (it.driver().probe)(&ends)).collect())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An image of any known format.
///
/// As with [`qcow2::Image`], the bytes are the truth, and paths keep the meaning they had
/// when the image was opened.
#[derive(Debug)]
pub struct AnyImage {
    format: Format,
    model: Box<dyn Model>,
}

impl AnyImage {
    /// Reads any bytes as an image of `format`.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn open(source: Arc<dyn ReadAt>, format: Format) -> Result<Self, ReadError> {
        let model = (format.driver().open)(Store::over(source));
        model.bytes().check_reads()?;
        Ok(Self { format, model })
    }

    /// The format it was read as.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The image, if it was opened as qcow2.
    #[must_use]
    pub fn as_qcow2(&self) -> Option<&qcow2::Image> {
        self.model.as_any().downcast_ref()
    }

    /// What is wrong with the bytes as they are now.
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn defects(&self) -> Result<Vec<Defect>, ReadError> {
        self.model.defects(Scope::All)
    }

    /// The broken rules that a reader must enforce ([`Requirement::Must`]); of a large table
    /// only the first entries are looked at.
    ///
    /// [`Requirement::Must`]: crate::Requirement::Must
    ///
    /// # Errors
    ///
    /// The source cannot be read.
    pub fn binding_defects(&self) -> Result<Vec<Defect>, ReadError> {
        self.model.defects(Scope::Binding)
    }

    /// Its fields; entries of tables that are zero are left out, but for the first one
    /// after each used one. They end early where the source cannot be read, see
    /// [`Store::check_reads`].
    #[must_use]
    pub fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_> {
        self.model.used_fields()
    }

    /// As [`AnyImage::used_fields`], with at most `most` entries of each table, and of at most
    /// `most` tables where a table leads to others; what is left out is not read.
    #[must_use]
    pub fn overview(&self, most: u64) -> Box<dyn Iterator<Item = Field> + '_> {
        self.model.overview(most)
    }

    /// Its used fields whose path is `path` or continues it; no others are read.
    ///
    /// # Errors
    ///
    /// `path` is not a path.
    pub fn fields_under(&self, path: &str) -> Result<impl Iterator<Item = Field> + '_, PathSyntax> {
        let wanted: Path = path.parse()?;
        let prefix = wanted.to_string();
        let fields = self.model.fields_under(&wanted);
        Ok(fields.filter(move |field| continues(&field.path, &prefix)))
    }

    /// What is wrong with the fields whose path is `path` or continues it, as far as the rest
    /// of the image need not be read for it.
    ///
    /// # Errors
    ///
    /// The source cannot be read; a `path` that is none has no defects.
    pub fn defects_under(&self, path: &str) -> Result<Vec<Defect>, ReadError> {
        let Ok(wanted) = path.parse::<Path>() else {
            return Ok(Vec::new());
        };
        let mut defects = self.model.defects_under(&wanted)?;
        defects.retain(|defect| continues(&defect.path, path));
        Ok(defects)
    }

    /// The field at `path`.
    ///
    /// # Errors
    ///
    /// `path` is not a path, the image has no such field, or the source cannot be read.
    pub fn field(&self, path: &str) -> Result<Field, FieldError> {
        self.model.field(path)
    }

    /// The number in the field at `path`, if there is one and it can be read.
    #[must_use]
    pub fn get_uint(&self, path: &str) -> Option<u64> {
        self.field(path).ok()?.value.as_uint()
    }

    /// Puts any value that its bits can hold into the field at `path`.
    ///
    /// # Errors
    ///
    /// There is no such field, it cannot hold the value, or the source cannot be read.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), FieldError> {
        self.model.set(path, value.into())
    }

    /// Corrects the fields that follow from others, of these kinds, where they stood when the
    /// image was opened: values first, then copies, then checksums.
    pub fn recompute(&mut self, wanted: &[Derivation]) {
        self.model.recompute(wanted);
    }

    /// The places of structures that are copies of others, as bytes of the file, where they
    /// stood when the image was opened.
    #[must_use]
    pub fn copies(&self) -> Vec<Range<u64>> {
        self.model.copies()
    }

    /// The guest's view of the disk.
    ///
    /// # Errors
    ///
    /// A file that the image refers to is missing, the image is too damaged, or it is
    /// encrypted and cannot be unlocked.
    pub fn disk(&self, access: Access<'_>) -> Result<Box<dyn Disk>, DiskError> {
        self.model.disk(Opening::new(access, open_any))
    }

    /// The names of the files that the image refers to: extents, data files, and its parent
    /// last.
    #[must_use]
    pub fn references(&self) -> Vec<Vec<u8>> {
        self.model.references()
    }

    /// Bytes in the unit of allocation: a cluster, a block, a grain.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.model.unit()
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &Store {
        self.model.bytes()
    }

    /// The bytes as they are now, to be changed at will.
    pub fn bytes_mut(&mut self) -> &mut Store {
        self.model.bytes_mut()
    }
}

/// Cheap: what was not changed is shared.
impl Clone for AnyImage {
    fn clone(&self) -> Self {
        Self {
            format: self.format,
            model: self.model.clone_box(),
        }
    }
}

/// Whether `path` is `prefix` or below it.
fn continues(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Opens a disk of any format.
fn open_any(
    bytes: Arc<dyn ReadAt>,
    format: Option<&str>,
    opening: Opening<'_>,
) -> Result<Box<dyn Disk>, DiskError> {
    let format = match format {
        Some("raw") => None,
        Some(name) => {
            let unknown = || DiskError::Unsupported(format!("the format '{name}'"));
            Some(Format::from_name(name).ok_or_else(unknown)?)
        }
        None => Format::probe(&*bytes)?,
    };
    match format {
        Some(format) => AnyImage::open(bytes, format)?.model.disk(opening),
        None => Ok(Box::new(RawDisk { bytes })),
    }
}
