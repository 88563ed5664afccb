//! Descriptions that contradict themselves.

/// What is wrong with the description of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot build the image: {0}")]
pub struct SpecError(pub(crate) String);

/// `Err` with the text, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::spec_error::SpecError(format!($($text)*)));
        }
    };
}
pub(crate) use ensure;
