//! What is said and kept. Pure: no clock, no randomness, no input or output, so that the browser and the server can never
//! differ on what a session is.

pub mod ending;
pub mod foreign;
pub mod json;
pub mod message;
pub mod parts;
pub mod query;
pub mod reply;
pub mod session;
pub mod time;
pub mod tools_used;
pub mod tree;

/// A JSON object whose order of fields is kept.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// Applies a JSON merge patch (RFC 7396) to `target` and says whether anything changed.
///
/// `null` removes a field, an object is merged into an object, anything else replaces.
pub fn merge_patch(target: &mut Object, patch: &Object) -> bool {
    use serde_json::Value;
    let mut changed = false;
    for (key, value) in patch {
        match value {
            Value::Null => changed |= target.shift_remove(key).is_some(),
            Value::Object(inner) => {
                if !matches!(target.get(key), Some(Value::Object(_))) {
                    target.insert(key.clone(), Value::Object(Object::new()));
                    changed = true;
                }
                if let Some(Value::Object(existing)) = target.get_mut(key) {
                    changed |= merge_patch(existing, inner);
                }
            }
            other => {
                if target.get(key) != Some(other) {
                    target.insert(key.clone(), other.clone());
                    changed = true;
                }
            }
        }
    }
    changed
}

/// Whether [`merge_patch`] would change anything.
pub fn is_patched_by(target: &Object, patch: &Object) -> bool {
    use serde_json::Value;
    patch.iter().any(|(key, value)| match (value, target.get(key)) {
        (Value::Null, known) => known.is_some(),
        (Value::Object(inner), Some(Value::Object(existing))) => is_patched_by(existing, inner),
        (value, known) => known != Some(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: serde_json::Value) -> Object {
        match value {
            serde_json::Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    /// The examples of RFC 7396, appendix A, as far as both sides are objects.
    #[test]
    fn merge_patch_follows_the_rfc() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut result = object(target.clone());
            let is_patched = is_patched_by(&result, &object(patch.clone()));
            let changed = merge_patch(&mut result, &object(patch));
            assert_eq!(is_patched, changed);
            assert_eq!(serde_json::Value::Object(result.clone()), expected);
            assert_eq!(changed, expected != target);
        }
    }
}
