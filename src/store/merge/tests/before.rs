//! What a save did before trees were kept: everything is worked out from all messages. The saves of now are held against it.

use crate::model::message::{Message, MessageInput, Role};
use crate::model::session::is_id;
use crate::model::{Object, merge_patch, parts, time, tree};
use crate::store::merge::{Indexed, PATCHABLE_OF_REPLIES, Plan, derived_id, take_derived};
use crate::store::{Save, StoreError};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Works out what a save does. [`StoreError::Invalid`] names the field that contradicts; nothing is done then.
pub fn plan(known: Indexed<'_>, save: &Save, new_id: &mut dyn FnMut() -> String) -> Result<Plan, StoreError> {
    let session = known.session;
    let mut work =
        Work { known, save, new_id, append: Vec::new(), new_positions: HashMap::new(), touched: BTreeMap::new() };
    let end = if save.messages.iter().any(|message| message.id.is_some()) {
        work.merge_by_id()?
    } else if !save.messages.is_empty() {
        work.merge_by_content()?
    } else {
        None
    };
    // A client that posts a whole session back repeats the leaf that it was given. Where its own messages go on below that, it is
    // out of date and would hide them.
    let mut metadata_patch = save.metadata.clone();
    let named_leaf = save.metadata.get("active_leaf").and_then(Value::as_str);
    if let (Some(leaf), Some(end)) = (named_leaf, &end)
        && work.is_below(end, leaf)
    {
        metadata_patch.shift_remove("active_leaf");
    }
    let Work { append, touched, .. } = work;
    let message_metadata =
        touched.into_iter().filter(|(position, metadata)| known.message(*position).metadata != *metadata).collect();
    let mut metadata = session.metadata.clone();
    let mut changed = merge_patch(&mut metadata, &metadata_patch) && metadata != session.metadata;
    if !append.is_empty() && !metadata_patch.contains_key("active_leaf") {
        changed |= metadata.shift_remove("active_leaf").is_some();
    }
    Ok(Plan {
        append,
        message_metadata,
        user_name: save.user_name.clone().filter(|name| *name != session.user_name),
        metadata: changed.then_some(metadata),
    })
}

fn parents_of(known: Indexed<'_>) -> Vec<Option<usize>> {
    let parent = |(position, message): (usize, &Message)| match known.positions.get(message.parent_id.as_deref()?) {
        Some(&parent) if parent != position => Some(parent),
        _ => position.checked_sub(1),
    };
    known.messages().enumerate().map(parent).collect()
}

/// A message that is kept or about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Kept(usize),
    New(usize),
}

/// What has been gone through of a save in which messages have ids.
struct Walk<'a> {
    /// The message on which the session ended that is shown.
    leaf: Option<String>,
    /// The position of the first message that has an id.
    anchor: usize,
    /// Where the message before stands.
    previous: Option<String>,
    /// Ids under which other content stands, and the siblings that hold what the save says.
    aliases: HashMap<&'a str, String>,
}

impl Walk<'_> {
    fn resolve<'b>(&'b self, id: &'b str) -> &'b str {
        self.aliases.get(id).map_or(id, String::as_str)
    }
}

/// A save in work.
struct Work<'a> {
    known: Indexed<'a>,
    save: &'a Save,
    new_id: &'a mut dyn FnMut() -> String,
    append: Vec<Message>,
    new_positions: HashMap<String, usize>,
    /// The metadata of kept messages that the save speaks of.
    touched: BTreeMap<usize, Object>,
}

impl<'a> Work<'a> {
    fn place(&self, id: &str) -> Option<Place> {
        let kept = self.known.positions.get(id).map(|&position| Place::Kept(position));
        kept.or_else(|| self.new_positions.get(id).map(|&position| Place::New(position)))
    }

    fn message(&self, place: Place) -> &Message {
        match place {
            Place::Kept(position) => self.known.message(position),
            Place::New(position) => &self.append[position],
        }
    }

    /// The id of the message on which a session ends that is shown.
    fn active_leaf(&self) -> Option<String> {
        let leaf = self.known.leaf(self.known.session.active_leaf())?;
        Some(self.known.message(leaf).id.clone())
    }

    /// `metadata.active_leaf` as it will be: what is looked for on the shown path must be found there again.
    fn leaf_after(&self) -> Option<&str> {
        match self.save.metadata.get("active_leaf") {
            Some(patched) => patched.as_str(),
            None => self.known.session.active_leaf(),
        }
    }

    /// Whether the message `id` has `ancestor` among those that it follows.
    fn is_below(&self, id: &str, ancestor: &str) -> bool {
        let mut parent = self.place(id).and_then(|place| self.message(place).parent_id.as_deref());
        // No path is longer than all messages, so that a circle in a file of another program ends, too.
        for _ in 0..self.known.len() + self.append.len() {
            match parent {
                Some(id) if id == ancestor => return true,
                Some(id) => parent = self.place(id).and_then(|place| self.message(place).parent_id.as_deref()),
                None => return false,
            }
        }
        false
    }

    /// At least one message has an id: each is looked up by it. Returns where the last one stands.
    fn merge_by_id(&mut self) -> Result<Option<String>, StoreError> {
        let save: &'a Save = self.save;
        let messages = &save.messages;
        let mut walk = Walk {
            leaf: self.active_leaf(),
            anchor: messages.iter().position(|message| message.id.is_some()).unwrap_or(0),
            previous: None,
            aliases: HashMap::new(),
        };
        for (index, given) in messages.iter().enumerate() {
            let input = normalized(given);
            let id = match given.id.as_deref() {
                Some(id) => self.merge_message(&mut walk, index, id, input)?,
                None => self.merge_message_without_id(&walk, index, input)?,
            };
            walk.previous = Some(id);
        }
        Ok(walk.previous)
    }

    /// Merges one message under the id that it has, and returns the id under which it stands then.
    fn merge_message<'b>(
        &mut self,
        walk: &mut Walk<'b>,
        index: usize,
        given_id: &'b str,
        input: MessageInput,
    ) -> Result<String, StoreError> {
        if !is_id(given_id) {
            return Err(invalid(index, "id", "must be 1 to 64 letters, digits, hyphens or underscores"));
        }
        if self.save.running.contains(given_id) {
            return Ok(given_id.to_owned());
        }
        let Some(place) = self.place(given_id) else {
            let parent = self.parent_of(index, &input, walk)?;
            return self.append(index, given_id.to_owned(), parent, input);
        };
        let known = self.message(place);
        if is_like(known, &input) || known.is_server_reply() {
            self.patch(place, &input);
            return Ok(given_id.to_owned());
        }
        let parent = known.parent_id.clone();
        let id = derived_id(&self.known.session.session_id, &[given_id, &input.content]);
        walk.aliases.insert(given_id, id.clone());
        match self.place(&id) {
            Some(sibling) => {
                self.patch(sibling, &input);
                Ok(id)
            }
            None => self.append(index, id, parent, input),
        }
    }

    /// Merges one message that has no id while others have, and returns the id under which it stands then.
    fn merge_message_without_id(
        &mut self,
        walk: &Walk<'_>,
        index: usize,
        input: MessageInput,
    ) -> Result<String, StoreError> {
        let mut id = None;
        let taken = match (&walk.previous, &input.parent_id) {
            (_, Some(parent)) => self.child_like(parent.as_deref().map(|id| walk.resolve(id)), &input),
            (Some(previous), None) => self.child_like(Some(previous), &input),
            (None, None) => {
                // Nothing before it tells where it belongs, so its id follows from the first message that has one: sent again,
                // the same message is found again.
                let anchor_id = self.save.messages[walk.anchor].id.as_deref().unwrap_or_default();
                let distance = (walk.anchor - index).to_string();
                let derived = derived_id(&self.known.session.session_id, &[anchor_id, &distance, &input.content]);
                let taken = self.place(&derived).or_else(|| self.ancestor_like(walk.anchor, index, &input));
                id = Some(derived);
                taken
            }
        };
        if let Some(place) = taken {
            self.patch(place, &input);
            return Ok(self.message(place).id.clone());
        }
        let parent = self.parent_of(index, &input, walk)?;
        let id = id.unwrap_or_else(|| (self.new_id)());
        self.append(index, id, parent, input)
    }

    /// No message has an id: an older client posts the whole session as a list, and it is walked from its roots.
    fn merge_by_content(&mut self) -> Result<Option<String>, StoreError> {
        let known = self.known;
        let inputs: Vec<MessageInput> = self.save.messages.iter().map(normalized).collect();
        let parents = parents_of(known);
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); known.len()];
        let mut roots = Vec::new();
        for (position, parent) in parents.iter().enumerate() {
            match parent {
                Some(parent) => children[*parent].push(position),
                None => roots.push(position),
            }
        }
        // Each candidate is where the list may stand after so many messages; it remembers the candidate before it.
        let mut levels: Vec<HashMap<usize, Option<usize>>> = Vec::new();
        for input in &inputs {
            let mut next = HashMap::new();
            match levels.last() {
                None => like(known, &children, &roots, input).into_iter().for_each(|position| {
                    next.insert(position, None);
                }),
                Some(level) => {
                    for candidate in level.keys() {
                        for position in like(known, &children, &children[*candidate], input) {
                            next.insert(position, Some(*candidate));
                        }
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            levels.push(next);
        }
        let shown = known.leaf(self.leaf_after()).map(|leaf| tree::path_to(&parents, leaf)).unwrap_or_default();
        let Some(last) = levels.last() else {
            return self.follow_the_leaf(&shown, &parents, inputs);
        };
        let on_path: HashSet<usize> = shown.iter().copied().collect();
        let Some(chosen) = last.keys().copied().max_by_key(|position| (on_path.contains(position), *position)) else {
            return Ok(None);
        };
        let mut walked = Some(chosen);
        for (level, input) in levels.iter().zip(&inputs).rev() {
            let Some(position) = walked else { break };
            self.patch(Place::Kept(position), input);
            walked = level.get(&position).copied().flatten();
        }
        let parent = Some(known.message(chosen).id.clone());
        self.append_chain(levels.len(), parent, inputs)
    }

    /// Nothing matches from the beginning: the messages are new and follow what is shown, unless that ends with them.
    fn follow_the_leaf(
        &mut self,
        shown: &[usize],
        parents: &[Option<usize>],
        inputs: Vec<MessageInput>,
    ) -> Result<Option<String>, StoreError> {
        let known = self.known;
        // Also the path to the newest message: a save that names another active leaf appends there too.
        let newest = known.leaf(None).map(|last| tree::path_to(parents, last)).unwrap_or_default();
        // Of two equally long overlaps the last one is taken: that of the shown path.
        let overlap = [&newest, shown]
            .into_iter()
            .filter_map(|path| {
                (1..=path.len().min(inputs.len()))
                    .rev()
                    .find(|&count| {
                        path[path.len() - count..].iter().zip(&inputs).all(|(&position, input)| {
                            is_like(known.message(position), input) && is_same_time(known.message(position), input)
                        })
                    })
                    .map(|count| (count, path))
            })
            .max_by_key(|(count, _)| *count);
        match overlap {
            None => {
                let leaf = self.active_leaf();
                self.append_chain(0, leaf, inputs)
            }
            Some((count, path)) => {
                for (position, input) in path[path.len() - count..].iter().zip(&inputs) {
                    self.patch(Place::Kept(*position), input);
                }
                let end = path.last().map(|last| known.message(*last).id.clone());
                self.append_chain(count, end, inputs)
            }
        }
    }

    /// Appends the inputs from `start` on, each below the one before it. Returns where the last one stands.
    fn append_chain(
        &mut self,
        start: usize,
        mut parent: Option<String>,
        inputs: Vec<MessageInput>,
    ) -> Result<Option<String>, StoreError> {
        for (index, input) in inputs.into_iter().enumerate().skip(start) {
            let id = (self.new_id)();
            parent = Some(self.append(index, id, parent, input)?);
        }
        Ok(parent)
    }

    /// The parent of a new message: what it says, else the message before it in this save, else the active leaf.
    fn parent_of(&self, index: usize, input: &MessageInput, walk: &Walk<'_>) -> Result<Option<String>, StoreError> {
        match &input.parent_id {
            None => Ok(walk.previous.clone().or_else(|| walk.leaf.clone())),
            Some(None) => Ok(None),
            Some(Some(parent)) => {
                let parent = walk.resolve(parent);
                // A running reply will stand there when it is finished.
                if self.place(parent).is_some() || self.save.running.contains(parent) {
                    Ok(Some(parent.to_owned()))
                } else {
                    Err(invalid(index, "parent_id", "names no message of this session"))
                }
            }
        }
    }

    /// A child of `parent` (or a root) with the same role and content.
    fn child_like(&self, parent: Option<&str>, input: &MessageInput) -> Option<Place> {
        let matches = |message: &Message| message.parent_id.as_deref() == parent && is_like(message, input);
        let kept = self.known.messages().position(matches).map(Place::Kept);
        kept.or_else(|| self.append.iter().position(matches).map(Place::New))
    }

    /// For a message without id at `index` before the first one that has an id: the ancestor of that one which stands as far
    /// above it, if it has the same role and content.
    fn ancestor_like(&self, anchor: usize, index: usize, input: &MessageInput) -> Option<Place> {
        let mut place = self.place(self.save.messages.get(anchor)?.id.as_deref()?)?;
        for _ in index..anchor {
            place = self.place(self.message(place).parent_id.as_deref()?)?;
        }
        is_like(self.message(place), input).then_some(place)
    }

    /// Merges what a caller says of a known message's metadata.
    fn patch(&mut self, place: Place, input: &MessageInput) {
        let mut patch = input.metadata.clone();
        let is_reply = self.message(place).is_server_reply();
        let metadata = match place {
            Place::New(position) => &mut self.append[position].metadata,
            Place::Kept(position) => {
                self.touched.entry(position).or_insert_with(|| self.known.message(position).metadata.clone())
            }
        };
        if is_reply {
            patch.retain(|key, _| PATCHABLE_OF_REPLIES.contains(&key.as_str()));
        } else {
            // `metadata.reply_id` marks what the server made; nobody else may say so of a message that is kept.
            patch.shift_remove("reply_id");
            if !metadata.contains_key("modes") {
                take_derived(&input.role, &mut patch, &mut input.extra.clone());
            }
        }
        merge_patch(metadata, &patch);
    }

    /// Appends a new message and returns its id.
    fn append(
        &mut self,
        index: usize,
        id: String,
        parent_id: Option<String>,
        mut input: MessageInput,
    ) -> Result<String, StoreError> {
        if let Role::Other(_) = input.role {
            return Err(invalid(index, "role", "must be system, user or assistant"));
        }
        take_derived(&input.role, &mut input.metadata, &mut input.extra);
        // As a patch, so that the same message sent again has nothing to change.
        let mut metadata = Object::new();
        merge_patch(&mut metadata, &input.metadata);
        self.new_positions.insert(id.clone(), self.append.len());
        self.append.push(Message {
            id: id.clone(),
            parent_id,
            role: input.role,
            content: input.content,
            timestamp: input.timestamp.unwrap_or_else(|| time::format(self.save.now)),
            metadata,
            parts: input.parts,
            rev: 0,
            extra: input.extra,
        });
        Ok(id)
    }
}

/// A message as it is compared: one that has only parts says what these say.
fn normalized(input: &MessageInput) -> MessageInput {
    let mut input = input.clone();
    if let (true, Some(parts)) = (input.content.is_empty(), &input.parts) {
        input.content = parts::joined_text(parts);
    }
    input
}

/// The messages among `starts` with the same role and content; another one that is hidden is looked through, because a client that was not
/// shown it posts what followed it.
fn like(known: Indexed<'_>, children: &[Vec<usize>], starts: &[usize], input: &MessageInput) -> Vec<usize> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open: Vec<usize> = starts.to_vec();
    while let Some(position) = open.pop() {
        if !seen.insert(position) {
            continue;
        }
        if is_like(known.message(position), input) {
            found.push(position);
        } else if known.message(position).is_hidden() {
            open.extend(&children[position]);
        }
    }
    found
}

fn is_like(message: &Message, input: &MessageInput) -> bool {
    message.role == input.role && message.content == input.content
}

/// Whether the times agree, where the caller gives one.
fn is_same_time(message: &Message, input: &MessageInput) -> bool {
    let Some(given) = &input.timestamp else { return true };
    *given == message.timestamp
        || time::parse(given).is_some_and(|given| time::parse(&message.timestamp) == Some(given))
}

fn invalid(index: usize, field: &str, what: &str) -> StoreError {
    StoreError::Invalid(format!("messages[{index}].{field} {what}"))
}
