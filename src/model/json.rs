//! JSON that comes from outside: how deep it may be nested, and what is wrong with a text that can be put right.

use super::Object;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

/// How many objects and lists may stand inside each other in a request's body, in a message as it is written, and in what a
/// session holds besides its messages.
///
/// The parser takes 127 levels. What is put around a message (the file, an export of many, an answer, an event, the page's
/// [`Result`]) adds four at most, so that whatever is written within this limit is read back by everybody.
pub const MAX_DEPTH: usize = 100;

/// How many may stand inside each other in one value that an assistant or a tool gives: the arguments of a call, its result, what
/// was counted. In its message it stands a few levels down.
pub const MAX_VALUE_DEPTH: usize = 90;

/// A key with which the parser marks a number to itself. A file or a caller that uses it would be misread.
const NUMBER_MARK: &str = "$serde_json::private::Number";

/// The key that stands for [`NUMBER_MARK`] where somebody used that.
const NUMBER_MARK_INSTEAD: &str = "serde_json::private::Number";

/// How deep objects and lists of a JSON text are nested; what stands in strings does not count.
pub fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a JSON text is nested deeper than [`MAX_DEPTH`].
pub fn is_too_deep(json: &[u8]) -> bool {
    // Counting is many times quicker than looking, and nearly no text has as many.
    json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() > MAX_DEPTH && depth(json) > MAX_DEPTH
}

/// A value that an assistant or a tool gave: itself, or its text where it is nested deeper than [`MAX_VALUE_DEPTH`].
pub fn bounded(value: Value) -> Value {
    if is_deeper(&value, MAX_VALUE_DEPTH) { Value::String(value.to_string()) } else { value }
}

/// An object that an assistant gave, with [`bounded`] values.
pub fn bounded_object(object: Object) -> Object {
    object.into_iter().map(|(key, value)| (key, bounded(value))).collect()
}

fn is_deeper(value: &Value, most: usize) -> bool {
    match (value, most.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(values), Some(most)) => values.iter().any(|value| is_deeper(value, most)),
        (Value::Object(fields), Some(most)) => fields.values().any(|value| is_deeper(value, most)),
        _ => false,
    }
}

/// Puts the text of what is nested deeper than `most` levels in its place; says whether there was any.
pub fn limit(value: &mut Value, most: usize) -> bool {
    match (&mut *value, most.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => {
            *value = Value::String(value.to_string());
            true
        }
        (Value::Array(values), Some(most)) => values.iter_mut().fold(false, |any, value| limit(value, most) | any),
        (Value::Object(fields), Some(most)) => limit_object(fields, most),
        _ => false,
    }
}

/// The same for the values of an object, of which each may have `most` levels. A key that would be misread gets another name.
pub fn limit_object(object: &mut Object, most: usize) -> bool {
    let mut any = object.values_mut().fold(false, |any, value| limit(value, most) | any);
    if let Some(value) = object.shift_remove(NUMBER_MARK) {
        object.insert(NUMBER_MARK_INSTEAD.to_owned(), value);
        any = true;
    }
    any
}

/// Replaces each `\ud800`-like escape that has no other half by `\ufffd`; `None` if there is none.
pub fn without_lone_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut repaired = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                repaired.push_str(&text[copied..at]);
                repaired.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            _ => at += 2,
        }
    }
    if copied == 0 {
        return None;
    }
    repaired.push_str(&text[copied..]);
    Some(repaired)
}

/// Puts right what other programs write though it is no JSON, or no JSON that can be read; `None` if there is nothing of that.
///
/// - `NaN` and `Infinity`, as Python writes them, become `null`, as JavaScript does; other words and numbers that JSON does not
///   have (`+1`, `01`, `.5`, `True`) become strings, so that nobody has to guess what they mean.
/// - What is nested deeper than `most` levels becomes a string that holds its text.
///
/// Numbers of any size are JSON and stay. What is torn or garbled stays, too: only plain words between JSON's own signs count.
pub fn mend(text: &str, most: usize) -> Option<String> {
    let bytes = text.as_bytes();
    let mut mended = String::new();
    let (mut copied, mut at, mut depth) = (0, 0, 0usize);
    let mut replace = |from: usize, to: usize, by: &str| {
        mended.push_str(&text[copied..from]);
        mended.push_str(by);
        copied = to;
    };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(end) = end_of_string(text, at) else { break };
                if &bytes[at + 1..end - 1] == NUMBER_MARK.as_bytes() {
                    replace(at, end, &quoted(NUMBER_MARK_INSTEAD));
                }
                at = end;
            }
            b'{' | b'[' if depth == most => {
                let Some(end) = end_of_container(text, at) else { break };
                replace(at, end, &quoted(&text[at..end]));
                at = end;
            }
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.saturating_sub(1)),
            byte if is_of_word(*byte) => {
                let length = bytes[at..].iter().position(|byte| !is_of_word(*byte)).unwrap_or(bytes.len() - at);
                let (word, end) = (&text[at..at + length], at + length);
                // A word at the end or beside something garbled may be the rest of another one.
                let is_whole = bytes.get(end).is_some_and(|next| b" \t\r\n,]}:".contains(next));
                if is_whole && let Some(instead) = instead_of(word) {
                    replace(at, end, &instead);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    mended.push_str(&text[copied..]);
    Some(mended)
}

/// Whether some object of a JSON text has a key twice. Whoever reads it keeps the last one only, so that the other is lost where it is
/// written anew. What is torn counts, too, as far as it goes.
pub fn has_key_twice(text: &str) -> bool {
    let bytes = text.as_bytes();
    // The keys of all objects that are open, and where those of each begin.
    let (mut keys, mut begins): (Vec<&str>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(end) = end_of_string(text, at) else { break };
                let next = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
                if next == Some(&b':') {
                    keys.push(&text[at + 1..end - 1]);
                }
                at = end;
                continue;
            }
            b'{' => begins.push(keys.len()),
            b'}' => {
                let begin = begins.pop().unwrap_or(0);
                if is_any_twice(&keys[begin..]) {
                    return true;
                }
                keys.truncate(begin);
            }
            _ => {}
        }
        at += 1;
    }
    while let Some(begin) = begins.pop() {
        if is_any_twice(&keys[begin..]) {
            return true;
        }
        keys.truncate(begin);
    }
    false
}

/// Whether two of these keys, as they are written, are the same.
fn is_any_twice(keys: &[&str]) -> bool {
    /// So few are compared each with each, which is quicker than putting them in order.
    const FEW: usize = 16;
    if keys.iter().any(|key| key.contains('\\')) {
        let mut read = HashSet::new();
        let unescaped = |key: &str| serde_json::from_str(&format!("\"{key}\"")).unwrap_or_else(|_| key.to_owned());
        return !keys.iter().all(|key| read.insert(unescaped(key)));
    }
    if keys.len() <= FEW {
        return (1..keys.len()).any(|later| keys[..later].contains(&keys[later]));
    }
    let mut seen = HashSet::with_capacity(keys.len());
    !keys.iter().all(|key| seen.insert(key))
}

/// What stands for a word that JSON does not have; `None` for one that it has.
fn instead_of(word: &str) -> Option<Cow<'static, str>> {
    // A number is looked at by its spelling: whether it can be counted with is not asked.
    if matches!(word, "null" | "true" | "false") || is_number(word.as_bytes()) {
        return None;
    }
    match word.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
        "nan" | "infinity" | "inf" => Some("null".into()),
        _ => Some(quoted(word).into()),
    }
}

/// Whether this is a number as JSON writes it.
fn is_number(word: &[u8]) -> bool {
    let digits = |word: &mut &[u8]| {
        let count = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *word = &word[count..];
        count > 0
    };
    let mut rest = word.strip_prefix(b"-").unwrap_or(word);
    match rest.strip_prefix(b"0") {
        Some(after) => rest = after,
        None if digits(&mut rest) => {}
        None => return false,
    }
    if let Some(after) = rest.strip_prefix(b".") {
        rest = after;
        if !digits(&mut rest) {
            return false;
        }
    }
    if let Some(after) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        rest = after.strip_prefix(b"+").or_else(|| after.strip_prefix(b"-")).unwrap_or(after);
        if !digits(&mut rest) {
            return false;
        }
    }
    rest.is_empty()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._".contains(&byte)
}

/// Where the string that begins at `start` has ended; `None` if it does not.
fn end_of_string(text: &str, start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        // The library finds a byte many times quicker than a look at each would.
        let quote = at + text[at..].find('"')?;
        let escapes = text.as_bytes()[at..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        at = quote + 1;
        if escapes % 2 == 0 {
            return Some(at);
        }
    }
}

/// Where the object or list that begins at `start` has ended; `None` if it does not.
fn end_of_container(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (start, 0usize);
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(text, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth - 1),
            _ => at += 1,
        }
    }
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn depth_ignores_strings() {
        assert_eq!(depth(br#"{"a":[1,{"b":2}],"c":"[[[[\"[["}"#), 3);
        assert_eq!(depth("[".repeat(100_000).as_bytes()), 100_000);
        assert_eq!(depth(b"]]][["), 2);
        assert!(!is_too_deep("[]".repeat(1_000).as_bytes()));
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()) && is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
    }

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_too_deep_becomes_its_text() {
        for levels in [MAX_VALUE_DEPTH - 1, MAX_VALUE_DEPTH] {
            assert_eq!(bounded(value(&nested(levels))), value(&nested(levels)));
        }
        let deep = nested(MAX_VALUE_DEPTH + 1);
        assert_eq!(bounded(value(&deep)), json!(deep));
        let mut given = json!({"a":[[1]],"b":{"c":[]},"d":[2]});
        assert!(limit(&mut given, 2));
        assert_eq!(given, json!({"a":["[1]"],"b":{"c":"[]"},"d":[2]}));
        assert!(!limit(&mut given, 2));
    }

    #[test]
    fn words_that_json_does_not_have_are_replaced_and_all_others_stay() {
        for (text, expected) in [
            (r#"{"x":NaN,"y":[-Infinity,Infinity , nan]}"#, r#"{"x":null,"y":[null,null , null]}"#),
            (r#"[+1,01,.5,5.,1e,0x1F,True,-]"#, r#"["+1","01",".5","5.","1e","0x1F","True","-"]"#),
            (r#"{"a":"NaN","\"":NaN}"#, r#"{"a":"NaN","\"":null}"#),
            (r#"{"$serde_json::private::Number":"x"}"#, r#"{"serde_json::private::Number":"x"}"#),
        ] {
            let mended = mend(text, 9).unwrap();
            assert_eq!(mended, expected);
            value(&mended);
        }
        for text in [
            r#"[1e999,-0.0,0.1000,1E+5,99999999999999999999,true,false,null,"NaN \" NaN"]"#,
            "[NaN",
            "[NaN\0\0]",
            "{\"a\":\"NaN",
            "",
        ] {
            assert_eq!(mend(text, 9), None, "{text}");
        }
        assert_eq!(mend(r#"[[[1,"]\""],2],{"a":{}}]"#, 2).unwrap(), r#"[["[1,\"]\\\"\"]",2],{"a":"{}"}]"#);
        assert_eq!(mend(&"[".repeat(1_000_000), 100), None);
    }

    #[test]
    fn a_key_that_stands_twice_is_seen_wherever_it_stands() {
        let many: String = (0..100).map(|number| format!("\"k{number}\":1,")).collect();
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1 , "c":[{}] , "a" :2}}]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"\\":1,"a":"\"","\u005c":2}"#,
            r#"{"a":{"b":1},"a":[{"b":"#,
            &format!("{{{many}\"k7\":1}}"),
        ] {
            assert!(has_key_twice(text), "{text}");
        }
        for text in [
            r#"{"a":{"a":[{"a":1},{"a":2}]},"b":"a","A":"{\"a\":1,\"a\":2}","\\u0061":1}"#,
            r#"["a","a",{"b":["b"]},{"b":1}]"#,
            r#"{"":1,"\\":1,"\"":1}"#,
            &format!("{{{many}\"k\":1}}"),
            "}}{\"a",
            "\"a\":1,\"b\":2}",
            "",
        ] {
            assert!(!has_key_twice(text), "{text}");
        }
    }

    #[test]
    fn numbers_are_kept_as_they_were_written() {
        let text = "[99999999999999999999,1.0,1e+5,-2e-999,-0.0,-0,0.1000,123456789012345678901234567890.5,18446744073709551615]";
        assert_eq!(value(text).to_string(), text);
        // The parser writes an exponent with its sign.
        assert_eq!(value("[1e999,1E5]").to_string(), "[1e+999,1e+5]");
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_without_panic(text in "([\\[\\]{},: ]|\"|\\\\|NaN|-?[0-9]{1,3}|é|\\.|null|\u{0}){0,60}", most in 0usize..5) {
            has_key_twice(&text);
            if let Some(mended) = mend(&text, most) {
                prop_assert_ne!(mended, text);
            }
        }

        #[test]
        fn what_is_json_is_only_mended_where_it_is_deep(value in any_json()) {
            let text = value.to_string();
            prop_assert_eq!(mend(&text, depth(text.as_bytes())), None);
            prop_assert!(!has_key_twice(&text));
            let mut limited = value.clone();
            limit(&mut limited, 2);
            let mended = mend(&text, 2).unwrap_or(text);
            prop_assert_eq!(serde_json::from_str::<Value>(&mended).unwrap(), limited);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\\\[{}NaN]{0,6}".prop_map(Value::from),
            Just(json!(null)),
        ];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"]{1,2}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }
}
