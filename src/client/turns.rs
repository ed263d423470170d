//! The turns of the session in hand, and which of them are shown.

use crate::api::sessions::Loaded;
use crate::model::message::Message;
use crate::model::tree;
use leptos::prelude::*;
use std::collections::{HashMap, HashSet};

/// How many turns are asked for at once; of a longer session the page holds only a part.
pub const PART_TURNS: usize = 100;

/// How many turns more than needed are asked for where others may add some meanwhile.
const SLACK_TURNS: usize = 20;

/// One message, as a signal of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The message's id.
    pub id: String,
    /// The message.
    pub message: ArcRwSignal<Message>,
}

impl Turn {
    /// A turn that is this message.
    pub fn new(message: Message) -> Self {
        Self { id: message.id.clone(), message: ArcRwSignal::new(message) }
    }
}

/// A turn of the shown conversation with its place in the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The turn.
    pub turn: Turn,
    /// The ids of all versions of this turn, oldest first, itself included.
    pub versions: Vec<String>,
    /// Where the turn stands among `versions`.
    pub version: usize,
}

impl Row {
    /// What must be equal for a row to stay as it is on the page.
    pub fn key(&self) -> (String, usize, usize) {
        (self.turn.id.clone(), self.version, self.versions.len())
    }
}

/// Where the held turns begin, when they are a part of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// How many turns are shown before them.
    pub earlier: usize,
    /// The first of them; what comes before it is asked for by its id.
    pub first: Option<String>,
    /// The message that the first follows and that is not held.
    pub above: Option<String>,
    /// The beginning of the session's first user message.
    pub preview: String,
}

impl Beginning {
    /// Where what was loaded begins.
    pub fn of(loaded: &Loaded) -> Self {
        let earlier = loaded.earlier.unwrap_or(0);
        let first = loaded.session.messages.first().map(|first| &first.message).filter(|_| earlier > 0);
        Self {
            earlier,
            first: first.map(|message| message.id.clone()),
            above: first.and_then(|message| message.parent_id.clone()),
            preview: loaded.preview.clone().unwrap_or_default(),
        }
    }
}

/// The shown conversation, as far as it is held: the path that ends at `leaf`.
pub fn rows(turns: &[Turn], leaf: Option<&str>, above: Option<&str>) -> Vec<Row> {
    let guards: Vec<_> = turns.iter().map(|turn| turn.message.read_untracked()).collect();
    let messages: Vec<&Message> = guards.iter().map(|guard| &**guard).collect();
    let parents = tree::parents_in_part(&messages, above);
    let mut families: HashMap<Option<usize>, Vec<usize>> = HashMap::with_capacity(messages.len());
    for (position, parent) in parents.iter().enumerate().filter(|&(position, _)| !messages[position].is_hidden()) {
        families.entry(*parent).or_default().push(position);
    }
    for family in families.values_mut().filter(|family| family.len() > 1) {
        family.sort_by(|&a, &b| messages[a].timestamp.cmp(&messages[b].timestamp).then(a.cmp(&b)));
    }
    tree::active_path_in(&messages, &parents, leaf)
        .into_iter()
        .filter(|&position| !messages[position].is_hidden())
        .map(|position| {
            let family = families.get(&parents[position]).map(Vec::as_slice).unwrap_or_default();
            Row {
                turn: turns[position].clone(),
                versions: family.iter().map(|&member| turns[member].id.clone()).collect(),
                version: family.iter().position(|&member| member == position).unwrap_or(0),
            }
        })
        .collect()
}

/// The hidden turns of the shown conversation, by the shown turn before which they stand or of which they are versions; under `None`
/// those behind the last.
pub fn hidden(turns: &[Turn], leaf: Option<&str>, above: Option<&str>) -> HashMap<Option<String>, Vec<String>> {
    let guards: Vec<_> = turns.iter().map(|turn| turn.message.read_untracked()).collect();
    let messages: Vec<&Message> = guards.iter().map(|guard| &**guard).collect();
    let mut found = HashMap::new();
    if !messages.iter().any(|message| message.is_hidden()) {
        return found;
    }
    let parents = tree::parents_in_part(&messages, above);
    let path = tree::active_path_in(&messages, &parents, leaf);
    let on_path: HashSet<usize> = path.iter().copied().collect();
    let mut beside: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (position, parent) in parents.iter().enumerate() {
        if messages[position].is_hidden() && !on_path.contains(&position) {
            beside.entry(*parent).or_default().push(position);
        }
    }
    let mut waiting: Vec<usize> = Vec::new();
    for &position in &path {
        waiting.extend(beside.remove(&parents[position]).unwrap_or_default());
        if messages[position].is_hidden() {
            waiting.push(position);
        } else if !waiting.is_empty() {
            let ids = waiting.drain(..).map(|hidden| turns[hidden].id.clone()).collect();
            found.insert(Some(turns[position].id.clone()), ids);
        }
    }
    waiting.extend(beside.remove(&path.last().copied()).unwrap_or_default());
    if !waiting.is_empty() {
        found.insert(None, waiting.into_iter().map(|hidden| turns[hidden].id.clone()).collect());
    }
    found
}

/// Where a person lands who switches to the version `id` of a turn: the id of the newest message that follows it.
pub fn newest_leaf(turns: &[Turn], above: Option<&str>, id: &str) -> Option<String> {
    let guards: Vec<_> = turns.iter().map(|turn| turn.message.read_untracked()).collect();
    let messages: Vec<&Message> = guards.iter().map(|guard| &**guard).collect();
    let position = messages.iter().position(|message| message.id == id)?;
    let leaf = tree::newest_leaf(&messages, &tree::parents_in_part(&messages, above), position);
    Some(turns[leaf].id.clone())
}

/// Where the conversation is to end when its last shown turn, `id`, is taken out of it: at the newest message that follows the
/// nearest other version. `None` where there is none, or where turns are shown after it, which are to stay.
pub fn leaf_without(turns: &[Turn], leaf: Option<&str>, above: Option<&str>, id: &str) -> Option<String> {
    let last = rows(turns, leaf, above).pop().filter(|row| row.turn.id == id)?;
    let nearest = last.version.checked_sub(1).unwrap_or(1);
    newest_leaf(turns, above, last.versions.get(nearest)?)
}

/// Puts earlier turns before those that are held; none is held twice.
pub fn prepend(turns: &mut Vec<Turn>, earlier: Vec<Message>) {
    let held: HashSet<&str> = turns.iter().map(|turn| turn.id.as_str()).collect();
    let new: Vec<Turn> =
        earlier.into_iter().filter(|message| !held.contains(message.id.as_str())).map(Turn::new).collect();
    turns.splice(0..0, new);
}

/// How many of `total` turns must be asked for so that those from the place `needed` on are among them.
pub fn part_from(needed: usize, total: usize) -> usize {
    (total.saturating_sub(needed) + SLACK_TURNS).max(PART_TURNS)
}

/// Whether one of our own turns follows a message that was not loaded, so that it would stand in no conversation.
pub fn hangs_outside(own: &[Message], loaded: &Loaded) -> bool {
    let messages = loaded.session.messages.iter().chain(&loaded.session.branches).map(|exported| &exported.message);
    let loaded_ids: HashSet<&str> = messages.map(|message| message.id.as_str()).collect();
    let left: Vec<&Message> = own.iter().filter(|message| !loaded_ids.contains(message.id.as_str())).collect();
    let is_known = |id: &str| loaded_ids.contains(id) || left.iter().any(|message| message.id == id);
    loaded.earlier.is_some_and(|earlier| earlier > 0)
        && left.iter().filter_map(|message| message.parent_id.as_deref()).any(|parent| !is_known(parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(id: &str, parent: Option<&str>, metadata: Value) -> Message {
        serde_json::from_value(json!({"id":id,"parent_id":parent,"role":"user","content":id,
            "timestamp":"2026-02-09T21:30:10Z","metadata":metadata}))
        .unwrap()
    }

    fn loaded(messages: &[Message], earlier: usize) -> Loaded {
        serde_json::from_value(json!({"session_id":"s","user_name":"","started_at":"","last_updated":"","metadata":{},
            "stats":{"total_messages":0,"user_messages":0,"assistant_messages":0,"errors":0},"revision":1,"running":null,
            "messages":messages.iter().map(|message| {
                let mut value = serde_json::to_value(message).unwrap();
                value["tools_used"] = json!([]);
                value["modes"] = json!({});
                value["has_tools"] = json!(false);
                value
            }).collect::<Vec<_>>(),"total":9,"earlier":earlier,"preview":"Hello"}))
        .unwrap()
    }

    fn ids(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.turn.id.as_str()).collect()
    }

    #[test]
    fn a_part_begins_where_it_was_cut_and_knows_the_versions_of_its_first_turn() {
        let part = [
            message("c", Some("b"), json!({})),
            message("d", Some("c"), json!({})),
            message("c2", Some("b"), json!({})),
            message("d2", Some("c2"), json!({})),
        ];
        let beginning = Beginning::of(&loaded(&part, 2));
        assert_eq!((beginning.first.as_deref(), beginning.above.as_deref()), (Some("c"), Some("b")));
        let mut turns: Vec<Turn> = part.into_iter().map(Turn::new).collect();
        let above = beginning.above.as_deref();
        let shown = rows(&turns, Some("d"), above);
        assert_eq!(ids(&shown), ["c", "d"]);
        assert_eq!((shown[0].version, shown[0].versions.clone()), (0, vec!["c".to_owned(), "c2".to_owned()]));
        assert_eq!(newest_leaf(&turns, above, "c2").as_deref(), Some("d2"));

        let earlier = [message("a", None, json!({})), message("b", Some("a"), json!({}))];
        prepend(&mut turns, earlier.to_vec());
        prepend(&mut turns, earlier.to_vec());
        assert_eq!(ids(&rows(&turns, Some("d2"), None)), ["a", "b", "c2", "d2"]);
        assert_eq!(turns.len(), 6);
    }

    #[test]
    fn a_whole_session_begins_at_its_beginning() {
        let whole = [message("a", None, json!({})), message("b", Some("a"), json!({}))];
        assert_eq!(Beginning::of(&loaded(&whole, 0)), Beginning { preview: "Hello".into(), ..Beginning::default() });
    }

    #[test]
    fn asks_for_what_is_needed_and_never_for_less_than_a_part() {
        assert_eq!(part_from(950, 1_000), PART_TURNS);
        assert_eq!(part_from(500, 1_000), 520);
        assert_eq!(part_from(1_000, 10), PART_TURNS);
    }

    #[test]
    fn notices_own_turns_that_follow_what_is_not_held() {
        let part = loaded(&[message("c", Some("b"), json!({}))], 2);
        let own = [message("d", Some("c"), json!({})), message("e", Some("d"), json!({}))];
        assert!(!hangs_outside(&own, &part));
        assert!(!hangs_outside(&[message("c", Some("b"), json!({}))], &part), "it is loaded itself");
        assert!(hangs_outside(&[message("e", Some("x"), json!({}))], &part));
        assert!(!hangs_outside(&[message("e", Some("x"), json!({}))], &loaded(&[], 0)), "the whole is there");
    }

    #[test]
    fn hidden_turns_are_told_where_they_stand() {
        Owner::new().with(|| {
            let hidden = || json!({"hidden":true});
            let turns: Vec<Turn> = [
                message("a", None, hidden()),
                message("b", Some("a"), json!({})),
                message("c", Some("b"), hidden()),
                message("d", Some("c"), hidden()),
                message("e", Some("d"), json!({})),
                message("e2", Some("d"), hidden()),
                message("f", Some("e"), hidden()),
            ]
            .map(Turn::new)
            .to_vec();
            let of = |before: Option<&str>, ids: &[&str]| {
                (before.map(str::to_owned), ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>())
            };
            let expected = HashMap::from([of(Some("b"), &["a"]), of(Some("e"), &["c", "d", "e2"]), of(None, &["f"])]);
            assert_eq!(super::hidden(&turns, Some("f"), None), expected);
            assert_eq!(super::hidden(&turns, Some("e"), None), expected);
            assert_eq!(super::hidden(&turns[..0], None, None), HashMap::new());
            let shown = [message("a", None, json!({}))].map(Turn::new);
            assert_eq!(super::hidden(&shown, None, None), HashMap::new());
        });
    }

    #[test]
    fn without_its_last_turn_a_conversation_ends_at_the_nearest_other_version() {
        Owner::new().with(|| {
            let turns: Vec<Turn> = [
                message("a", None, json!({})),
                message("b", Some("a"), json!({})),
                message("c", Some("b"), json!({})),
                message("d", Some("a"), json!({})),
                message("e", Some("a"), json!({})),
                message("h", Some("a"), json!({"hidden":true})),
            ]
            .map(Turn::new)
            .to_vec();
            let without = |leaf: &str, id: &str| leaf_without(&turns, Some(leaf), None, id);
            assert_eq!(without("e", "e").as_deref(), Some("d"));
            assert_eq!(without("d", "d").as_deref(), Some("c"), "with what follows it");
            assert_eq!(without("c", "b"), None, "what follows it stays");
            assert_eq!(without("c", "c"), None, "it has no other version");
            assert_eq!(without("h", "a"), None);
        });
    }
}
