//! The tree that the messages of a session span, kept while it grows: neither a save nor a part that is read works it out anew.
//! What of it is kept beside a session's file is its outline.

use crate::model::message::{Message, Role};
use crate::model::tree;
use std::collections::HashMap;

/// Stands for no message.
const NONE: u32 = u32::MAX;

/// The place of each message in the tree. A message stands behind its parent, as in all files of ours, unless
/// [`Branches::is_in_order`] says something else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Branches {
    nodes: Vec<Node>,
    /// What has the first messages for children.
    top: Children,
    /// The first message whose parent does not stand before it.
    out_of_order: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    parent: u32,
    /// The next message with the same parent.
    next: u32,
    children: Children,
    marks: u8,
}

/// What is marked of a message.
mod marks {
    /// The outline is known; it is not where the tree is not to be relied on.
    pub const KNOWN: u8 = 1;
    /// The turn was deleted.
    pub const HIDDEN: u8 = 1 << 1;
    /// The person says it.
    pub const USER: u8 = 1 << 2;
    /// It follows the message before it; in the written form only.
    pub const AFTER_PREVIOUS: u8 = 1 << 3;
    /// It is a first message; in the written form only.
    pub const FIRST: u8 = 1 << 4;
}

fn marks_of(message: &Message) -> u8 {
    let mark = |holds: bool, mark: u8| if holds { mark } else { 0 };
    marks::KNOWN | mark(message.is_hidden(), marks::HIDDEN) | mark(message.role == Role::User, marks::USER)
}

/// What decides to which parts of a session a message belongs, kept beside the place of its line so that it need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The position of its parent; [`NONE`] for a first message.
    parent: u32,
    marks: u8,
    id_hash: u16,
}

impl Default for Outline {
    fn default() -> Self {
        Self { parent: NONE, marks: 0, id_hash: 0 }
    }
}

impl Outline {
    /// Whether `message` is what this is the outline of, as far as that can be told.
    pub fn fits(&self, message: &Message) -> bool {
        (self.marks, self.id_hash) == (marks_of(message), id_hash(&message.id))
            && (self.parent == NONE) == message.parent_id.is_none()
    }

    /// Whether the message may have this id.
    pub fn may_be(&self, id: &str) -> bool {
        self.id_hash == id_hash(id)
    }

    /// Adds its written form; `position` is where the message stands.
    pub fn write(&self, position: u32, bytes: &mut Vec<u8>, push_number: impl Fn(&mut Vec<u8>, u64)) {
        let distance = position.wrapping_sub(self.parent);
        let place = match self.parent {
            NONE => marks::FIRST,
            _ if distance == 1 => marks::AFTER_PREVIOUS,
            _ => 0,
        };
        bytes.push(self.marks | place);
        bytes.extend(self.id_hash.to_le_bytes());
        if place == 0 {
            push_number(bytes, u64::from(distance));
        }
    }

    /// Reads what [`Outline::write`] wrote, and takes it from the bytes.
    pub fn read(position: u32, bytes: &mut &[u8], take_number: impl Fn(&mut &[u8]) -> Option<u64>) -> Option<Self> {
        let ([marks, low, high], rest) = bytes.split_first_chunk::<3>()?;
        *bytes = rest;
        let parent = match marks & (marks::FIRST | marks::AFTER_PREVIOUS) {
            0 => position.wrapping_sub(u32::try_from(take_number(bytes)?).ok()?),
            marks::AFTER_PREVIOUS => position.wrapping_sub(1),
            _ => NONE,
        };
        let marks = marks & !(marks::FIRST | marks::AFTER_PREVIOUS);
        Some(Self { parent, marks, id_hash: u16::from_le_bytes([*low, *high]) })
    }
}

/// A hash of an id that is the same in every version and on every machine (FNV-1a, folded).
fn id_hash(id: &str) -> u16 {
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_le_bytes();
    u16::from_le_bytes([a ^ c, b ^ d])
}

/// Which messages make a part of a session, by position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// What is shown, in its order.
    pub messages: Vec<usize>,
    /// Other versions of that with all that follows them, and what is hidden; in the order in which it came.
    pub branches: Vec<usize>,
    /// How many messages are shown before it.
    pub earlier: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Children {
    first: u32,
    last: u32,
}

impl Default for Children {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

fn number(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NONE)
}

fn position(number: u32) -> Option<usize> {
    (number != NONE).then_some(number as usize)
}

impl Branches {
    /// The tree of messages whose positions by id are known.
    pub fn of<'a>(messages: impl IntoIterator<Item = &'a Message>, positions: &HashMap<String, usize>) -> Self {
        let mut branches = Self::default();
        for message in messages {
            branches.push(message, positions);
        }
        branches
    }

    /// The tree in which each message has the parent that [`tree::parents`] says.
    pub fn of_parents(parents: &[Option<usize>]) -> Self {
        let mut branches = Self::default();
        branches.nodes.reserve(parents.len());
        // All of them first: a parent may stand behind its children.
        for (position, parent) in parents.iter().enumerate() {
            let parent = parent.filter(|parent| *parent < parents.len());
            if parent.is_some_and(|parent| parent >= position) {
                branches.out_of_order.get_or_insert(position);
            }
            let parent = parent.map_or(NONE, number);
            branches.nodes.push(Node { parent, next: NONE, children: Children::default(), marks: 0 });
        }
        for position in 0..parents.len() {
            branches.join(position);
        }
        branches
    }

    /// The tree of messages of which the outlines are known; `None` if one is not, or is not that of a tree.
    pub fn of_outlines(outlines: impl Iterator<Item = Outline>) -> Option<Self> {
        let mut branches = Self::default();
        for (position, Outline { parent, marks, .. }) in outlines.enumerate() {
            if marks & marks::KNOWN == 0 || (parent != NONE && parent as usize >= position) {
                return None;
            }
            branches.nodes.push(Node { parent, next: NONE, children: Children::default(), marks });
            branches.join(position);
        }
        Some(branches)
    }

    /// The outline of a message that is there.
    pub fn outline(&self, position: usize, id: &str) -> Outline {
        if !self.is_in_order() {
            return Outline::default();
        }
        let Node { parent, marks, .. } = self.nodes[position];
        Outline { parent, marks, id_hash: id_hash(id) }
    }

    /// Adds the next message and returns its parent. `positions` holds at least those before it.
    pub fn push(&mut self, message: &Message, positions: &HashMap<String, usize>) -> Option<usize> {
        let position = self.nodes.len();
        let parent = match message.parent_id.as_ref() {
            None => None,
            Some(id) => match positions.get(id) {
                Some(&parent) if parent < position => Some(parent),
                _ => {
                    self.out_of_order.get_or_insert(position);
                    position.checked_sub(1)
                }
            },
        };
        let parent_number = parent.map_or(NONE, number);
        let marks = marks_of(message);
        self.nodes.push(Node { parent: parent_number, next: NONE, children: Children::default(), marks });
        self.join(position);
        parent
    }

    /// Makes a message the last child of its parent.
    fn join(&mut self, position: usize) {
        let children = match self.parent(position) {
            Some(parent) => &mut self.nodes[parent].children,
            None => &mut self.top,
        };
        let before = std::mem::replace(&mut children.last, number(position));
        if before == NONE {
            children.first = number(position);
        } else {
            self.nodes[before as usize].next = number(position);
        }
    }

    /// Takes back all messages but the first `len`, of a tree that grew by [`Branches::push`].
    pub fn truncate(&mut self, len: usize) {
        while self.nodes.len() > len {
            let Some(gone) = self.nodes.pop() else { break };
            let gone_position = self.nodes.len();
            // Children stand in the order in which they came, so that the last of all messages is the last of its parent's.
            let children = self.children_of(position(gone.parent));
            let mut last = NONE;
            let mut next = children.first;
            while next != NONE && (next as usize) < gone_position {
                last = next;
                next = self.nodes[next as usize].next;
            }
            if last != NONE {
                self.nodes[last as usize].next = NONE;
            }
            let children = match position(gone.parent) {
                Some(parent) => &mut self.nodes[parent].children,
                None => &mut self.top,
            };
            *children = if last == NONE { Children::default() } else { Children { first: children.first, last } };
        }
        self.out_of_order = self.out_of_order.filter(|position| *position < len);
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether each message has a parent that stands before it, or none. Where one has not, which only another program or a running
    /// reply brings about, a tree that grew by [`Branches::push`] is not to be relied on.
    pub fn is_in_order(&self) -> bool {
        self.out_of_order.is_none()
    }

    /// The parent of a message that is there; `None` for a first one.
    pub fn parent(&self, of: usize) -> Option<usize> {
        position(self.nodes[of].parent)
    }

    /// Whether a message that is there is hidden.
    pub fn is_hidden(&self, position: usize) -> bool {
        self.nodes[position].marks & marks::HIDDEN != 0
    }

    /// How many messages of the path to `end` are shown, and the first of them that the person says.
    pub fn shown_to(&self, end: Option<usize>) -> (usize, Option<usize>) {
        let path = std::iter::successors(end, |at| self.parent(*at)).filter(|at| !self.is_hidden(*at));
        path.fold((0, None), |(count, first), at| {
            (count + 1, if self.nodes[at].marks & marks::USER != 0 { Some(at) } else { first })
        })
    }

    /// Chooses the last messages of the path to `end`, of which `shown` are shown, and what belongs to them. What follows the end
    /// belongs to it only where it `is_open`. The tree must be in order. This takes as long as what is chosen is long.
    pub fn part(&self, end: Option<usize>, shown: usize, last: usize, is_open: bool) -> Choice {
        let earlier = shown.saturating_sub(last);
        let mut wanted = shown - earlier;
        let mut open: Vec<usize> = Vec::new();
        if is_open && end.is_some() {
            open.extend(self.children(end));
        }
        let (mut messages, mut branches) = (Vec::new(), Vec::new());
        let mut at = end;
        while let Some(position) = at {
            if earlier > 0 && wanted == 0 {
                break;
            }
            if self.is_hidden(position) {
                branches.push(position);
            } else {
                messages.push(position);
                wanted = wanted.saturating_sub(1);
            }
            at = self.parent(position);
            open.extend(self.children(at).filter(|other| *other != position));
        }
        while let Some(position) = open.pop() {
            branches.push(position);
            open.extend(self.children(Some(position)));
        }
        messages.reverse();
        branches.sort_unstable();
        Choice { messages, branches, earlier }
    }

    fn children_of(&self, parent: Option<usize>) -> Children {
        parent.map_or(self.top, |parent| self.nodes[parent].children)
    }

    /// The messages that follow one, or the first ones, in the order in which they came.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(position(self.children_of(parent).first), |child| position(self.nodes[*child].next))
    }

    /// The positions from a first message to `leaf`, at most the last `most` of them.
    pub fn path_to(&self, leaf: usize, most: usize) -> Vec<usize> {
        if !self.is_in_order() {
            let parents: Vec<Option<usize>> = (0..self.len()).map(|position| self.parent(position)).collect();
            let path = tree::path_to(&parents, leaf);
            return path[path.len() - most.min(path.len())..].to_vec();
        }
        let mut path: Vec<usize> = std::iter::successors(Some(leaf), |at| self.parent(*at)).take(most).collect();
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Messages whose parents are a first one (0), one of them, or nobody.
    fn messages(parents: &[usize]) -> Vec<Message> {
        let parent = |parent: usize| parent.checked_sub(1).map(|parent| format!("m{parent}"));
        let message = |(position, of): (usize, &usize)| {
            let value =
                json!({"id":format!("m{position}"),"parent_id":parent(*of),"role":"user","content":"","timestamp":""});
            serde_json::from_value(value).unwrap()
        };
        parents.iter().enumerate().map(message).collect()
    }

    fn positions(messages: &[Message]) -> HashMap<String, usize> {
        messages.iter().enumerate().map(|(position, message)| (message.id.clone(), position)).collect()
    }

    proptest! {
        #[test]
        fn is_the_tree_that_is_worked_out_from_all(parents in prop::collection::vec(0..14_usize, 1..12), cut in 0..12_usize) {
            let messages = messages(&parents);
            let expected = tree::parents(&messages);
            let grown = Branches::of(&messages, &positions(&messages));
            let worked_out = Branches::of_parents(&expected);
            prop_assert!(!grown.is_in_order() || worked_out.is_in_order());
            for branches in [&worked_out, &grown] {
                if !branches.is_in_order() && std::ptr::eq(branches, &grown) {
                    continue;
                }
                for leaf in 0..messages.len() {
                    prop_assert_eq!(branches.parent(leaf), expected[leaf]);
                    let path = tree::path_to(&expected, leaf);
                    for most in 0..=path.len() {
                        prop_assert_eq!(&branches.path_to(leaf, most), &path[path.len() - most..]);
                    }
                    let children: Vec<usize> = (0..messages.len()).filter(|of| expected[*of] == Some(leaf)).collect();
                    prop_assert_eq!(branches.children(Some(leaf)).collect::<Vec<_>>(), children);
                }
                let first: Vec<usize> = (0..messages.len()).filter(|of| expected[*of].is_none()).collect();
                prop_assert_eq!(branches.children(None).collect::<Vec<_>>(), first);
            }
            let cut = cut.min(messages.len());
            let mut shorter = grown;
            shorter.truncate(cut);
            prop_assert_eq!(shorter, Branches::of(&messages[..cut], &positions(&messages)));
        }
    }
}
