//! The description of an image in JSON, without values that are the default.

use image_formats::qcow2::Spec;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes what differs from the default.
pub(super) fn serialize<S: Serializer>(spec: &Spec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(spec).map_err(S::Error::custom)?;
    let default = serde_json::to_value(Spec::default()).map_err(S::Error::custom)?;
    if let (Some(fields), Some(defaults)) = (value.as_object_mut(), default.as_object()) {
        fields.retain(|name, value| defaults.get(name) != Some(value));
    }
    value.serialize(serializer)
}

/// Reads it back, with the default for values that are left out.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spec, D::Error> {
    Spec::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use crate::base::{Base, draw};
    use crate::rng::Rng;

    #[test]
    fn a_base_survives_json() {
        let mut rng = Rng::from_text("json");
        for _ in 0..200 {
            let base = draw(&mut rng);
            let text = serde_json::to_string(&base).unwrap();
            assert_eq!(serde_json::from_str::<Base>(&text).unwrap(), base, "{text}");
        }
    }
}
