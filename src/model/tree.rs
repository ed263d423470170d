//! The tree that `parent_id` spans over the list of messages.
//!
//! Our own files always hold a parent before its children. Files of others may hold anything, so a parent that does not
//! exist is taken to be the message before, and a circle is cut where it is met.

use super::message::Message;
use std::borrow::Borrow;
use std::collections::HashMap;

/// For every message the position of its parent, `None` for a first one.
pub fn parents<M: Borrow<Message>>(messages: &[M]) -> Vec<Option<usize>> {
    parents_in_part(messages, None)
}

/// As [`parents`], of a list that begins in the middle of a conversation: what follows the message `above`, which is not in the
/// list, has no parent in it.
pub fn parents_in_part<M: Borrow<Message>>(messages: &[M], above: Option<&str>) -> Vec<Option<usize>> {
    let index: HashMap<&str, usize> =
        messages.iter().enumerate().map(|(position, message)| (message.borrow().id.as_str(), position)).collect();
    messages
        .iter()
        .enumerate()
        .map(|(position, message)| {
            let id = message.borrow().parent_id.as_deref()?;
            match index.get(id) {
                Some(&parent) if parent != position => Some(parent),
                None if above == Some(id) => None,
                _ => position.checked_sub(1),
            }
        })
        .collect()
}

/// The positions of the messages from the root to `leaf` (by default, and where it names none, the last message).
pub fn active_path<M: Borrow<Message>>(messages: &[M], leaf: Option<&str>) -> Vec<usize> {
    active_path_in(messages, &parents(messages), leaf)
}

/// As [`active_path`], given what [`parents`] or [`parents_in_part`] returned.
pub fn active_path_in<M: Borrow<Message>>(messages: &[M], parents: &[Option<usize>], leaf: Option<&str>) -> Vec<usize> {
    let start = leaf
        .and_then(|id| messages.iter().rposition(|message| message.borrow().id == id))
        .or_else(|| messages.len().checked_sub(1));
    start.map(|start| path_to(parents, start)).unwrap_or_default()
}

/// The positions from the root to `leaf`, given what [`parents`] returned.
pub fn path_to(parents: &[Option<usize>], leaf: usize) -> Vec<usize> {
    let mut seen = vec![false; parents.len()];
    let mut path = Vec::new();
    let mut next = Some(leaf);
    while let Some(position) = next {
        if std::mem::replace(&mut seen[position], true) {
            break;
        }
        path.push(position);
        next = parents[position];
    }
    path.reverse();
    path
}

/// For every message the place on `path` that it belongs to: its own, or that of the message of which it, or what it follows, is
/// another version. What follows the last message of the path gets the number behind all places.
pub fn steps_beside(parents: &[Option<usize>], path: &[usize]) -> Vec<usize> {
    let mut steps = vec![None; parents.len()];
    for (step, &position) in path.iter().enumerate() {
        steps[position] = Some(step);
    }
    let on_path: Vec<bool> = steps.iter().map(Option::is_some).collect();
    for position in 0..parents.len() {
        let mut walked = Vec::new();
        let mut next = Some(position);
        let step = loop {
            let Some(here) = next else { break 0 };
            match steps[here] {
                Some(step) if on_path[here] && here != position => break step + 1,
                Some(step) => break step,
                // Counted as a beginning until it is known better, so that a circle ends here.
                None => steps[here] = Some(0),
            }
            walked.push(here);
            next = parents[here];
        };
        for here in walked {
            steps[here] = Some(step);
        }
    }
    steps.into_iter().map(Option::unwrap_or_default).collect()
}

/// The positions of the messages that have the same parent as `position`, itself included, oldest first.
///
/// The order is by time because an export lists the shown path before the other branches.
pub fn siblings(messages: &[Message], parents: &[Option<usize>], position: usize) -> Vec<usize> {
    let mut same: Vec<usize> = (0..messages.len()).filter(|&other| parents[other] == parents[position]).collect();
    same.sort_by(|&a, &b| messages[a].timestamp.cmp(&messages[b].timestamp).then(a.cmp(&b)));
    same
}

/// The newest leaf below `position`: where a person lands who switches to that branch.
pub fn newest_leaf<M: Borrow<Message>>(messages: &[M], parents: &[Option<usize>], position: usize) -> usize {
    let mut newest_child: Vec<Option<usize>> = vec![None; messages.len()];
    for (child, parent) in parents.iter().enumerate() {
        let Some(parent) = *parent else { continue };
        let newer = |&known: &usize| messages[known].borrow().timestamp <= messages[child].borrow().timestamp;
        if newest_child[parent].as_ref().is_none_or(newer) {
            newest_child[parent] = Some(child);
        }
    }
    let mut leaf = position;
    // No path is longer than the list, so that a circle ends here too.
    for _ in 0..messages.len() {
        match newest_child[leaf] {
            Some(child) => leaf = child,
            None => break,
        }
    }
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(pairs: &[(&str, Option<&str>)]) -> Vec<Message> {
        pairs
            .iter()
            .map(|(id, parent)| {
                serde_json::from_value(json!({"id":id,"parent_id":parent,"role":"user","content":id,"timestamp":""}))
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn follows_parents_from_the_last_message_or_the_leaf() {
        let list = messages(&[("a", None), ("b", Some("a")), ("c", Some("b")), ("b2", Some("a"))]);
        assert_eq!(active_path(&list, None), [0, 3]);
        assert_eq!(active_path(&list, Some("c")), [0, 1, 2]);
        assert_eq!(active_path(&list, Some("gone")), [0, 3]);
        assert_eq!(active_path::<Message>(&[], None), [0usize; 0]);
        let parents = parents(&list);
        assert_eq!(siblings(&list, &parents, 1), [1, 3]);
        assert_eq!(newest_leaf(&list, &parents, 1), 2);
    }

    #[test]
    fn what_begins_in_the_middle_has_no_parents_above_it() {
        let list = messages(&[("c", Some("b")), ("d", Some("c")), ("c2", Some("b")), ("e", Some("gone"))]);
        assert_eq!(parents_in_part(&list, Some("b")), [None, Some(0), None, Some(2)]);
        let parents = parents_in_part(&list, Some("b"));
        assert_eq!(active_path_in(&list, &parents, Some("c2")), [2]);
        assert_eq!(siblings(&list, &parents, 0), [0, 2]);
    }

    #[test]
    fn every_message_belongs_to_a_place_on_the_path() {
        let list = messages(&[
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("x", Some("y")),
            ("y", Some("a")),
            ("r", None),
            ("z", Some("c")),
            ("o", Some("p")),
            ("p", Some("o")),
        ]);
        assert_eq!(steps_beside(&parents(&list), &[0, 1, 2]), [0, 1, 2, 1, 1, 0, 3, 0, 0]);
    }

    #[test]
    fn survives_circles_and_missing_parents() {
        let circle = messages(&[("a", Some("b")), ("b", Some("a"))]);
        assert_eq!(active_path(&circle, None).len(), 2);
        let own = messages(&[("a", Some("a")), ("b", Some("gone"))]);
        assert_eq!(active_path(&own, None), [0, 1]);
        let parents = parents(&circle);
        newest_leaf(&circle, &parents, 0);
    }
}
