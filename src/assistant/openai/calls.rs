//! Gathers tool calls that arrive in fragments.

use super::body::JsonEnd;
use crate::assistant::ToolCall;
use crate::model::Object;
use crate::model::foreign::one_line;
use serde_json::Value;

/// More calls than any reply makes at once.
const MOST_CALLS: usize = 128;

/// More bytes of calls than any reply needs.
const MOST_BYTES: usize = 8 << 20;

/// The longest name and the longest id, in characters.
const MOST_NAME: usize = 200;
const MOST_ID: usize = 16 << 10;

/// There are more calls, or more of them, than any reply makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The calls of one answer, in order.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    bytes: usize,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    /// How far the arguments are followed.
    end: JsonEnd,
    /// Whether the arguments are whole.
    is_whole: bool,
    /// Whether its name came once more after that: what follows, if anything does, is another call.
    is_named_again: bool,
    /// In which list of fragments it was touched last.
    list: usize,
}

impl Call {
    fn push_arguments(&mut self, arguments: &str) {
        self.arguments.push_str(arguments);
        for byte in arguments.bytes() {
            // A closing bracket without an opening one ends nothing, and what stands outside of brackets neither.
            self.is_whole |= self.end.step(byte);
        }
    }
}

impl Calls {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes the fragments that came together in the list number `list`. Returns how many bytes they brought.
    ///
    /// A call is known by its index and its id. Some servers give every call the index 0, or none, and the id "", or none: there a
    /// fragment with a name begins another call where the arguments before are whole, or where both stand in one list.
    /// With `are_whole` every entry is a call of its own.
    pub(super) fn take(&mut self, fragments: &Value, list: usize, are_whole: bool) -> Result<usize, TooMany> {
        let before = self.bytes;
        let fragments = match fragments {
            Value::Array(fragments) => fragments.as_slice(),
            one @ Value::Object(_) => std::slice::from_ref(one),
            _ => &[],
        };
        for fragment in fragments {
            self.take_one(fragment, list, are_whole);
            if self.calls.len() > MOST_CALLS || self.bytes > MOST_BYTES {
                return Err(TooMany);
            }
        }
        Ok(self.bytes - before)
    }

    fn take_one(&mut self, fragment: &Value, list: usize, is_whole: bool) {
        // The older `function_call` is the function alone.
        let function = fragment.get("function").filter(|function| function.is_object()).unwrap_or(fragment);
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = fragment.get("index").and_then(Value::as_u64);
        // It goes back to the server as it came, which may have put something into it.
        let id = one_line(&text(fragment, "id"), MOST_ID);
        let name = one_line(&text(function, "name"), MOST_NAME);
        let has_arguments = function.get("arguments").is_some_and(Value::is_string);
        let arguments = match function.get("arguments").or_else(|| function.get("input")) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        if id.is_empty() && name.is_empty() && arguments.is_empty() {
            return;
        }
        self.bytes += id.len() + name.len() + arguments.len();
        let is_same = |call: &Call| {
            !is_whole
                && (index.is_none() || call.index.is_none() || call.index == index)
                && (id.is_empty() || call.id.is_empty() || call.id == id)
        };
        // Some servers make up a new id for every fragment: one without a name goes on with what is not whole.
        let is_rest = |call: &Call| !is_whole && name.is_empty() && call.index == index;
        let goes_on = |call: &Call| is_rest(call) && !call.is_whole;
        let Some(place) = self.calls.iter().rposition(is_same).or_else(|| self.calls.iter().rposition(goes_on)) else {
            // Nothing more of a call that is whole.
            let is_nothing = arguments.trim().is_empty() && self.calls.iter().any(is_rest);
            if !is_nothing {
                self.begin(index, id, name, &arguments, list);
            }
            return;
        };
        let Some(call) = self.calls.get_mut(place) else { return };
        // A name that comes in pieces comes without arguments.
        let is_other_name = call.name != name
            && call.arguments.is_empty()
            && !call.name.is_empty()
            && (!arguments.is_empty() || (has_arguments && (id.is_empty() || call.id != id)));
        if !name.is_empty() && (call.is_whole || call.list == list || is_other_name) {
            if call.name == name && arguments.is_empty() && call.list != list {
                // Some servers repeat the name in every fragment, also in an empty last one.
                call.is_named_again = true;
                return;
            }
            return self.begin(index, id, name, &arguments, list);
        }
        if call.is_named_again && !arguments.is_empty() {
            let name = call.name.clone();
            return self.begin(index, id, name, &arguments, list);
        }
        call.list = list;
        call.push_arguments(&arguments);
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name != name {
            call.name.push_str(&name);
        }
    }

    fn begin(&mut self, index: Option<u64>, id: String, name: String, arguments: &str, list: usize) {
        let mut call = Call {
            index,
            id,
            name,
            arguments: String::new(),
            end: JsonEnd::default(),
            is_whole: false,
            is_named_again: false,
            list,
        };
        call.push_arguments(arguments);
        self.calls.push(call);
    }

    /// The calls, whole as far as they came.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = ToolCall> + use<> {
        std::mem::take(&mut self.calls).into_iter().map(|call| {
            let arguments = match call.arguments.trim() {
                "" => Value::Object(Object::new()),
                text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(call.arguments.as_str())),
            };
            let call_id = if call.id.is_empty() { format!("call_{}", uuid::Uuid::new_v4().simple()) } else { call.id };
            ToolCall { call_id, name: call.name, arguments }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Names and arguments of the calls that these lists of fragments make.
    fn gathered(lists: &[Value]) -> Vec<(String, Value)> {
        let mut calls = Calls::default();
        for (number, list) in lists.iter().enumerate() {
            calls.take(list, number, false).unwrap();
        }
        calls.finish().map(|call| (call.name, call.arguments)).collect()
    }

    fn expect(lists: &[Value], calls: &[(&str, Value)]) {
        let calls: Vec<(String, Value)> =
            calls.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(gathered(lists), calls, "{lists:?}");
    }

    #[test]
    fn a_name_after_whole_arguments_begins_another_call() {
        let (rome, oslo) = (json!({"city": "Rome"}), json!({"city": "Oslo"}));
        let two = [("weather", rome.clone()), ("weather", oslo.clone())];
        let call = |mark: Value, city: &Value| {
            let mut call = json!({"function": {"name": "weather", "arguments": city.to_string()}});
            call.as_object_mut().unwrap().extend(mark.as_object().unwrap().clone());
            call
        };
        for mark in [
            json!({"index": 0, "id": ""}),
            json!({}),
            json!({"index": 0}),
            json!({"id": ""}),
            json!({"index": 0, "id": null}),
        ] {
            expect(&[json!([call(mark.clone(), &rome)]), json!([call(mark.clone(), &oslo)])], &two);
            expect(&[json!([call(mark.clone(), &rome), call(mark, &oslo)])], &two);
        }
        // In fragments.
        let begin = |name: &str, arguments: &str| json!([{"index": 0, "id": "", "function": {"name": name, "arguments": arguments}}]);
        let more = |arguments: &str| json!([{"index": 0, "function": {"arguments": arguments}}]);
        expect(
            &[begin("weather", "{\"city\":"), more("\"Rome\"}"), begin("weather", "{\"city\""), more(":\"Oslo\"}")],
            &two,
        );
        expect(
            &[begin("weather", ""), more("{\"city\":\"Rome\"}"), begin("weather", ""), more("{\"city\":\"Oslo\"}")],
            &two,
        );
        expect(
            &[begin("weather", "{\"city\":\"Rome\"}"), begin("time", "")],
            &[("weather", rome.clone()), ("time", json!({}))],
        );
        expect(
            &[begin("time", ""), begin("weather", "{\"city\":\"Rome\"}")],
            &[("time", json!({})), ("weather", rome.clone())],
        );
        // An id of its own for every fragment.
        for index in [json!(0), json!(null)] {
            let one =
                |id: &str, arguments: &str| json!([{"index": index, "id": id, "function": {"arguments": arguments}}]);
            let named =
                |id: &str| json!([{"index": index, "id": id, "function": {"name": "weather", "arguments": ""}}]);
            expect(
                &[
                    named("a"),
                    one("b", "{\"city\":"),
                    one("c", "\"Rome\"}"),
                    one("d", ""),
                    one("e", "\n"),
                    named("f"),
                    one("g", "{\"city\":\"Oslo\""),
                    one("h", "}"),
                    json!([{"index": index, "id": "i", "function": {"name": null, "arguments": null}}]),
                ],
                &two,
            );
        }
        // An id first, the name after it.
        let named = |index: u8, id: &str| json!([{"index": index, "id": id, "function": {"name": "weather", "arguments": rome.to_string()}}]);
        expect(&[named(0, "a"), json!([{"index": 1, "id": "b"}]), named(1, "b")], &[two[0].clone(), two[0].clone()]);
        // Brackets in texts end nothing.
        expect(&[begin("f", "{\"a\":\"}"), begin("f", "\"}")], &[("f", json!({"a": "}"}))]);
    }

    #[test]
    fn a_name_that_is_repeated_is_the_same_call() {
        let piece =
            |arguments: &str| json!([{"index": 0, "id": "c", "function": {"name": "f", "arguments": arguments}}]);
        expect(&[piece(""), piece("{\"a\""), piece(":1}"), piece("")], &[("f", json!({"a": 1}))]);
        let pieces =
            [json!({"index": 0, "function": {"name": "get_"}}), json!({"index": 0, "function": {"name": "time"}})];
        expect(&pieces, &[("get_time", json!({}))]);
    }

    #[test]
    fn odd_forms_are_calls_too() {
        expect(&[json!({"name": "f", "arguments": "{\"a\":1}"})], &[("f", json!({"a": 1}))]);
        expect(&[json!([{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}])], &[("f", json!({"a": 1}))]);
        expect(&[json!([{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}])], &[("f", json!({"a": 1}))]);
        expect(&[json!([{"index": 0, "function": {"name": "f", "arguments": "{\"a\":"}}])], &[("f", json!("{\"a\":"))]);
        expect(&[json!(null), json!([]), json!([{"index": 0}]), json!(7)], &[]);
        let mut calls = Calls::default();
        let whole = json!([{"function": {"name": "f"}}, {"function": {"name": "f"}}]);
        calls.take(&whole, 0, true).unwrap();
        assert_eq!(calls.finish().count(), 2);
    }

    #[test]
    fn calls_are_not_gathered_for_ever() {
        let mut calls = Calls::default();
        let many: Vec<Value> = (0..200).map(|n| json!({"index": n, "function": {"name": "f"}})).collect();
        assert_eq!(calls.take(&json!(many), 0, false), Err(TooMany));
        let mut calls = Calls::default();
        let piece = json!([{"index": 0, "function": {"arguments": "x".repeat(1 << 20)}}]);
        assert!((0..10).any(|list| calls.take(&piece, list, false).is_err()));
    }
}
