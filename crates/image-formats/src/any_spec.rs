//! The table of builders, and one interface to all of them.

use serde::{Deserialize, Serialize};

use crate::built::{BuiltFile, Feature};
use crate::format::Format;
use crate::spec_error::SpecError;
use crate::{bochs, cloop, dmg, luks, parallels, qcow, qed, raw, vdi, vhdx, vmdk, vpc};

/// Declares [`AnySpec`] from a row for each format: its name, and its module, which has
/// `Spec`, `build` and `FEATURES`.
macro_rules! specs {
    ($($format:ident => $module:ident,)*) => {
        /// The description of a valid image of any format that can be built but qcow2, which
        /// has [`crate::qcow2::Spec`].
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum AnySpec {
            $(
                #[doc = concat!("See [`crate::", stringify!($module), "::Spec`].")]
                $format($module::Spec),
            )*
        }

        impl AnySpec {
            /// The formats that can be built.
            pub const FORMATS: &[Format] = &[$(Format::$format),*];

            /// The format of the image.
            #[must_use]
            pub fn format(&self) -> Format {
                match self {
                    $(Self::$format(_) => Format::$format,)*
                }
            }

            /// A plain image of `format`, where it can be built.
            #[must_use]
            pub fn plain(format: Format) -> Option<Self> {
                match format {
                    $(Format::$format => Some(Self::$format($module::Spec::default())),)*
                    _ => None,
                }
            }

            /// Bytes that the guest sees.
            #[must_use]
            pub fn virtual_size(&self) -> u64 {
                match self {
                    $(Self::$format(spec) => spec.virtual_size,)*
                }
            }

            /// The image, which is called `name`, and the files that belong to it; the image
            /// comes first. A parent is not one of them. The same description gives the same
            /// bytes.
            ///
            /// # Errors
            ///
            /// The parts of the description contradict each other or the format.
            pub fn build(&self, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
                match self {
                    $(Self::$format(spec) => $module::build(spec, name),)*
                }
            }

            /// The features that the image has, by name.
            #[must_use]
            pub fn features(&self) -> Vec<&'static str> {
                match self {
                    $(Self::$format(spec) => spec.features(),)*
                }
            }

            /// All features of `format` that images can be built with; none where it cannot
            /// be built.
            #[must_use]
            pub fn all_features(format: Format) -> &'static [Feature] {
                match format {
                    $(Format::$format => $module::FEATURES,)*
                    _ => &[],
                }
            }
        }
    };
}

specs! {
    Qed => qed,
    Vdi => vdi,
    Parallels => parallels,
    Qcow => qcow,
    Bochs => bochs,
    Cloop => cloop,
    Vmdk => vmdk,
    Vhdx => vhdx,
    Vpc => vpc,
    Luks => luks,
    Dmg => dmg,
    Raw => raw,
}
