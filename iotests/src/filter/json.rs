//! JSON in a golden: keys in order, and nothing in it that differs per run.

use serde_json::{Map, Value};

/// Keys whose values differ from run to run.
const VOLATILE: [&str; 8] = [
    "timestamp",
    "actual-size",
    "date-sec",
    "date-nsec",
    "vm-clock-sec",
    "vm-clock-nsec",
    "microseconds",
    "seconds",
];

/// The value with its keys sorted and the values of volatile keys replaced by the key.
#[must_use]
pub fn scrub(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let mut out = Map::new();
            for key in keys {
                let value = if VOLATILE.contains(&key.as_str()) {
                    Value::from(key.to_ascii_uppercase())
                } else {
                    scrub(&map[key])
                };
                out.insert(key.clone(), value);
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.iter().map(scrub).collect()),
        other => other.clone(),
    }
}

/// One line of JSON with a blank after colons and commas, as QEMU prints it.
#[must_use]
pub fn line(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), line(v)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(line).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\ ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c]|timestamp|actual-size", inner), 0..4)
                    .prop_map(|kv| Value::Object(kv.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn keys_are_sorted_and_times_hidden() {
        let v = json!({"b": 1, "a": {"timestamp": {"seconds": 5}, "x": [{"z": 1, "y": 2}]}});
        assert_eq!(
            line(&scrub(&v)),
            r#"{"a": {"timestamp": "TIMESTAMP", "x": [{"y": 2, "z": 1}]}, "b": 1}"#
        );
    }

    proptest! {
        #[test]
        fn scrubbing_twice_is_as_once(v in any_json()) {
            let once = scrub(&v);
            prop_assert_eq!(scrub(&once), once);
        }

        #[test]
        fn a_line_is_the_value(v in any_json()) {
            prop_assert_eq!(serde_json::from_str::<Value>(&line(&v)).expect("JSON"), v);
        }
    }
}
