//! JSON as some programs write it, made into JSON: numbers that are none, halves of characters, raw control characters in texts.

/// The text with what no JSON may hold replaced, or `None` where nothing was. Words are kept: only what has no meaning goes.
pub(super) fn repaired(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    // Everything before this place is in `out`.
    let mut copied = 0;
    let mut at = 0;
    let mut is_string = false;
    while let Some(&byte) = bytes.get(at) {
        let (length, instead): (usize, &str) = match byte {
            b'"' => {
                is_string = !is_string;
                (1, "")
            }
            b'\\' if is_string => match unit_at(bytes, at) {
                Some(0xD800..=0xDBFF) if matches!(unit_at(bytes, at + 6), Some(0xDC00..=0xDFFF)) => (12, ""),
                Some(0xD800..=0xDFFF) => (6, "\\ufffd"),
                Some(_) => (6, ""),
                None => (2, ""),
            },
            0..0x20 if is_string => {
                let instead = match byte {
                    b'\n' => "\\n",
                    b'\r' => "\\r",
                    b'\t' => "\\t",
                    _ => "\\ufffd",
                };
                (1, instead)
            }
            _ if is_string => (1, ""),
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(byte))
                    .count();
                // `text` is cut at ASCII characters here.
                let word = text.get(at..at + length).unwrap_or_default();
                let is_value = serde_json::from_str::<serde_json::Value>(word).is_ok();
                let name = word.trim_start_matches(['-', '+']);
                let is_odd_number = ["nan", "inf", "infinity"].contains(&name.to_lowercase().as_str())
                    || word.parse::<f64>().is_ok_and(f64::is_infinite);
                (length, if !is_value && is_odd_number { "null" } else { "" })
            }
            _ => (1, ""),
        };
        if !instead.is_empty() {
            out.push_str(text.get(copied..at)?);
            out.push_str(instead);
            copied = at + length;
        }
        at += length;
    }
    if copied == 0 {
        return None;
    }
    out.push_str(text.get(copied..)?);
    Some(out)
}

/// The UTF-16 unit that an escape at this place stands for.
fn unit_at(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at.checked_add(6)?)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_no_json_in_json_is_replaced() {
        for (text, value) in [
            (
                r#"{"a":NaN,"b":-Infinity,"c":"NaN","d":[1e999,Infinity]}"#,
                serde_json::from_str(r#"{"a":null,"b":null,"c":"NaN","d":[1e999,null]}"#).unwrap(),
            ),
            (r#"{"a":"x\ud83dy\ude00","b":"\ud83d\ude00\\ud83d"}"#, json!({"a":"x\u{fffd}y\u{fffd}","b":"😀\\ud83d"})),
            ("{\"a\":\"one\ntwo\tthree\u{1}\"}", json!({"a":"one\ntwo\tthree\u{fffd}"})),
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err());
            assert_eq!(serde_json::from_str::<Value>(&repaired(text).unwrap()).unwrap(), value, "{text}");
        }
        for text in [r#"{"a":[1.5,-2e3,true,null,"é\"\u00e9"]}"#, "2024-04-27 01:35:43", "", "{torn", "\"\\", "\"\\u12"]
        {
            assert_eq!(repaired(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_leaves_json_alone(text in "[\\PC\\x00-\\x1f\"\\\\u]{0,30}") {
            let _ = repaired(&text);
            let json = json!({"k": [text, 1.5, -3]}).to_string();
            prop_assert_eq!(repaired(&json), None);
        }
    }
}
