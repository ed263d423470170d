//! What a save does to a session. Pure: the time and new ids come in as arguments.

#[cfg(test)]
mod tests;

use super::branches::Branches;
use super::{NewSession, Save, StoreError};
use crate::model::json::{self, MAX_DEPTH};
use crate::model::message::{DERIVED_FIELDS, Message, MessageInput, Role};
use crate::model::parts;
use crate::model::session::{Session, SessionId, is_id};
use crate::model::{Object, is_patched_by, merge_patch, time};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// The keys of a server reply's metadata that a caller may change.
const PATCHABLE_OF_REPLIES: [&str; 2] = ["rating", "hidden"];

/// What is to be done to a session. Applying it twice is not meant; making it anew from the same save gives nothing to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Messages to be appended, parents first.
    pub append: Vec<Message>,
    /// New metadata of messages, by position.
    pub message_metadata: BTreeMap<usize, Object>,
    /// A new user name.
    pub user_name: Option<String>,
    /// New metadata of the session.
    pub metadata: Option<Object>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.append.is_empty() && self.only_appends()
    }

    /// Whether what stands in the file already can stay as it is.
    pub fn only_appends(&self) -> bool {
        self.message_metadata.is_empty() && self.user_name.is_none() && self.metadata.is_none()
    }

    /// Gives what is nested too deep to be read back the form of text.
    pub fn limit_depth(&mut self) {
        // A message has its metadata one level down, and so has the session.
        for metadata in self.message_metadata.values_mut().chain(&mut self.metadata) {
            json::limit_object(metadata, MAX_DEPTH - 2);
        }
        for message in &mut self.append {
            message.limit_depth();
        }
    }

    /// Does to `session` what is planned, all but counting revisions.
    pub fn apply(self, session: &mut Session) {
        for (position, metadata) in self.message_metadata {
            if let Some(message) = session.messages.get_mut(position) {
                message.metadata = metadata;
            }
        }
        if let Some(user_name) = self.user_name {
            session.user_name = user_name;
        }
        if let Some(metadata) = self.metadata {
            session.metadata = metadata;
        }
        session.messages.extend(self.append);
    }
}

/// A session, what was appended to it since, where its messages stand, and their tree.
#[derive(Clone, Copy, Debug)]
pub struct Indexed<'a> {
    /// The session.
    pub session: &'a Session,
    /// Messages that follow those of the session.
    pub added: &'a [Message],
    /// The position of every message by its id.
    pub positions: &'a HashMap<String, usize>,
    /// The tree as it grew. What is asked of it goes through [`Indexed::branches`].
    pub grown: &'a Branches,
}

impl<'a> Indexed<'a> {
    /// How many messages there are.
    pub fn len(self) -> usize {
        self.session.messages.len() + self.added.len()
    }

    /// The message at a position that is there.
    pub fn message(self, position: usize) -> &'a Message {
        let kept = &self.session.messages;
        if position < kept.len() { &kept[position] } else { &self.added[position - kept.len()] }
    }

    /// All messages in their order.
    pub fn messages(self) -> impl Iterator<Item = &'a Message> {
        self.session.messages.iter().chain(self.added)
    }

    /// The position on which a session ends whose active leaf is `named`: the last one, where that names none.
    pub fn leaf(self, named: Option<&str>) -> Option<usize> {
        let named = named.and_then(|id| self.positions.get(id).copied());
        named.or_else(|| self.len().checked_sub(1))
    }

    /// The tree of the messages, which is worked out anew where the one that grew is not to be relied on.
    pub fn branches(self) -> Cow<'a, Branches> {
        if self.grown.is_in_order() {
            return Cow::Borrowed(self.grown);
        }
        let parent = |(position, message): (usize, &Message)| match self.positions.get(message.parent_id.as_deref()?) {
            Some(&parent) if parent != position => Some(parent),
            _ => position.checked_sub(1),
        };
        let parents: Vec<Option<usize>> = self.messages().enumerate().map(parent).collect();
        Cow::Owned(Branches::of_parents(&parents))
    }
}

/// Where the messages of a session stand, by id.
pub fn positions(session: &Session) -> HashMap<String, usize> {
    session.messages.iter().enumerate().map(|(position, message)| (message.id.clone(), position)).collect()
}

/// A UUIDv5 as an id, from the session's id and what else is given: the same every time.
pub fn derived_id(session: &SessionId, names: &[&str]) -> String {
    let mut bytes = Vec::new();
    for name in std::iter::once(&session.as_str()).chain(names) {
        bytes.extend_from_slice(&(name.len() as u64).to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes).simple().to_string()
}

/// Takes the fields out of `extra` that an export works out of the others. An assistant's `modes` go into its metadata, where
/// these have none.
pub fn take_derived(role: &Role, metadata: &mut Object, extra: &mut Object) {
    for field in DERIVED_FIELDS {
        let value = extra.shift_remove(field);
        if let (Role::Assistant, "modes", Some(Value::Object(modes))) = (role, field, value)
            && !metadata.contains_key("modes")
        {
            metadata.insert(field.to_owned(), Value::Object(modes));
        }
    }
}

/// Works out what a save does. [`StoreError::Invalid`] names the field that contradicts; nothing is done then.
pub fn plan(known: Indexed<'_>, save: &Save, new_id: &mut dyn FnMut() -> String) -> Result<Plan, StoreError> {
    let session = known.session;
    let branches = known.branches();
    let mut work = Work {
        known,
        branches: &branches,
        save,
        new_id,
        append: Vec::new(),
        new_positions: HashMap::new(),
        touched: BTreeMap::new(),
    };
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
    let leaves = !append.is_empty()
        && !metadata_patch.contains_key("active_leaf")
        && session.metadata.contains_key("active_leaf");
    // What the metadata hold may be much, so that they are copied only where they change.
    let metadata = (leaves || is_patched_by(&session.metadata, &metadata_patch)).then(|| {
        let mut metadata = session.metadata.clone();
        merge_patch(&mut metadata, &metadata_patch);
        if leaves {
            metadata.shift_remove("active_leaf");
        }
        metadata
    });
    Ok(Plan {
        append,
        message_metadata,
        user_name: save.user_name.clone().filter(|name| *name != session.user_name),
        metadata: metadata.filter(|metadata| *metadata != session.metadata),
    })
}

/// Makes a new session. [`StoreError::Invalid`] names the field of a message that contradicts.
pub fn begin(new: NewSession, new_id: &mut dyn FnMut() -> String) -> Result<Session, StoreError> {
    let started_at = time::format(new.started_at);
    let mut session = Session {
        session_id: new.session_id,
        user_name: new.user_name,
        last_updated: started_at.clone(),
        metadata_updated: None,
        started_at,
        metadata: new.metadata,
        messages: Vec::new(),
        revision: 0,
        extra: Object::new(),
    };
    if new.messages.is_empty() {
        return Ok(session);
    }
    let save = Save {
        messages: new.messages,
        user_name: None,
        metadata: session.metadata.clone(),
        base_revision: None,
        running: HashSet::new(),
        now: new.started_at,
    };
    let (positions, branches) = (HashMap::new(), Branches::default());
    let known = Indexed { session: &session, added: &[], positions: &positions, grown: &branches };
    let mut plan = plan(known, &save, new_id)?;
    session.revision = 1;
    plan.append.iter_mut().for_each(|message| message.rev = session.revision);
    plan.apply(&mut session);
    Ok(session)
}

/// Works out how a finished reply is appended; nothing is to do if it stands there already.
pub fn plan_reply(known: Indexed<'_>, message: &Message) -> Plan {
    if known.positions.contains_key(&message.id) {
        return Plan::default();
    }
    let mut plan = Plan { append: vec![message.clone()], ..Plan::default() };
    // Whoever looks at another branch by now stays there.
    let parent = message.parent_id.as_deref().and_then(|id| known.positions.get(id));
    if let (Some(leaf), Some(parent)) = (known.session.active_leaf(), parent)
        && let Some(leaf) = known.leaf(Some(leaf))
        && known.branches().path_to(leaf, usize::MAX).contains(parent)
    {
        let mut metadata = known.session.metadata.clone();
        metadata.shift_remove("active_leaf");
        plan.metadata = Some(metadata);
    }
    plan
}

/// Joins what another program made of a file with what was known of it, so that neither side's messages are lost. Says
/// whether the result holds more than `theirs`.
pub fn unite(ours: &Session, mut theirs: Session, theirs_has_ids: bool) -> (Session, bool) {
    let their_positions = positions(&theirs);
    if !theirs_has_ids && let Some(united) = unite_by_content(ours, &theirs) {
        let more = united.messages.iter().any(|message| !their_positions.contains_key(&message.id));
        return (united, more);
    }
    let last_common = ours.messages.iter().rposition(|message| their_positions.contains_key(&message.id));
    // By the position in their list before which they are put. What stood between messages that are still there goes back
    // between them: at the end the last message would no longer be the one that is shown.
    let mut inserted: BTreeMap<usize, Vec<Message>> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut after_previous = 0;
    for (index, message) in ours.messages.iter().enumerate() {
        let Some(&position) = their_positions.get(&message.id) else {
            if last_common.is_some_and(|last| index < last) {
                inserted.entry(after_previous).or_default().push(message.clone());
            } else {
                missing.push(message.clone());
            }
            continue;
        };
        after_previous = position + 1;
        if !is_same_words(&theirs.messages[position], message) {
            let id = derived_id(&ours.session_id, &[&message.id, &message.content]);
            if !their_positions.contains_key(&id) {
                inserted.entry(position).or_default().push(Message { id, ..message.clone() });
            }
        }
    }
    let more = !missing.is_empty() || !inserted.is_empty();
    if !inserted.is_empty() {
        let messages = std::mem::take(&mut theirs.messages);
        for (position, message) in messages.into_iter().enumerate() {
            theirs.messages.extend(inserted.remove(&position).unwrap_or_default());
            theirs.messages.push(message);
        }
        theirs.messages.extend(inserted.into_values().flatten());
    }
    theirs.messages.extend(missing);
    theirs.revision = theirs.revision.max(ours.revision);
    take_later_times(&mut theirs, ours);
    (theirs, more)
}

/// No time of a session goes back.
fn take_later_times(session: &mut Session, other: &Session) {
    session.last_updated = time::later_of(&session.last_updated, Some(&other.last_updated)).to_owned();
    session.metadata_updated = match (session.metadata_updated.take(), &other.metadata_updated) {
        (Some(one), other) => Some(time::later_of(&one, other.as_deref()).to_owned()),
        (None, other) => other.clone(),
    };
}

fn is_same_words(one: &Message, other: &Message) -> bool {
    (&one.role, &one.content) == (&other.role, &other.content)
}

/// Takes a file without ids as the save of a client without ids.
fn unite_by_content(ours: &Session, theirs: &Session) -> Option<Session> {
    let messages = theirs
        .messages
        .iter()
        .map(|message| MessageInput { id: None, parent_id: None, ..MessageInput::from(message.clone()) })
        .collect();
    let save = Save {
        messages,
        user_name: Some(theirs.user_name.clone()),
        metadata: theirs.metadata.clone(),
        base_revision: None,
        running: HashSet::new(),
        now: time::parse(&theirs.last_updated).unwrap_or_default(),
    };
    let ids: Vec<String> = theirs.messages.iter().map(|message| message.id.clone()).collect();
    let mut next = ids.into_iter();
    let positions = positions(ours);
    let mut new_id = || match next.next() {
        Some(id) if !positions.contains_key(&id) => id,
        _ => Uuid::new_v4().simple().to_string(),
    };
    let branches = Branches::of(&ours.messages, &positions);
    let known = Indexed { session: ours, added: &[], positions: &positions, grown: &branches };
    let plan = plan(known, &save, &mut new_id).ok()?;
    let mut united = ours.clone();
    for (key, value) in &theirs.extra {
        united.extra.insert(key.clone(), value.clone());
    }
    plan.apply(&mut united);
    take_later_times(&mut united, theirs);
    Some(united)
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

/// A message of a save as it is compared: one that has only parts says what these say.
struct Said<'a> {
    input: &'a MessageInput,
    content: Cow<'a, str>,
}

impl<'a> Said<'a> {
    fn new(input: &'a MessageInput) -> Self {
        let content = match &input.parts {
            Some(parts) if input.content.is_empty() => Cow::Owned(parts::joined_text(parts)),
            _ => Cow::Borrowed(input.content.as_str()),
        };
        Self { input, content }
    }

    fn is_like(&self, message: &Message) -> bool {
        message.role == self.input.role && message.content == *self.content
    }

    /// Whether the times agree, where the caller gives one.
    fn is_same_time(&self, message: &Message) -> bool {
        let Some(given) = &self.input.timestamp else { return true };
        *given == message.timestamp
            || time::parse(given).is_some_and(|given| time::parse(&message.timestamp) == Some(given))
    }
}

/// Where a list without ids may stand after so many of its messages.
#[derive(Clone, Copy)]
struct Candidate {
    position: usize,
    /// Which candidate it follows; for a first one nothing that counts.
    before: usize,
}

/// A save in work.
struct Work<'a> {
    known: Indexed<'a>,
    branches: &'a Branches,
    save: &'a Save,
    new_id: &'a mut dyn FnMut() -> String,
    append: Vec<Message>,
    new_positions: HashMap<String, usize>,
    /// The metadata of kept messages that the save changes.
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
        let highest = match self.place(ancestor) {
            // Whatever stands before a message that is kept is none of those that follow it.
            Some(Place::Kept(position)) if self.known.grown.is_in_order() => position,
            _ => 0,
        };
        let parent_of = |id: &str| match self.place(id)? {
            Place::Kept(position) if position <= highest && highest > 0 => None,
            place => self.message(place).parent_id.as_deref(),
        };
        let mut parent = parent_of(id);
        // No path is longer than all messages, so that a circle in a file of another program ends, too.
        for _ in 0..self.known.len() + self.append.len() {
            match parent {
                Some(id) if id == ancestor => return true,
                Some(id) => parent = parent_of(id),
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
        for (index, input) in messages.iter().enumerate() {
            let said = Said::new(input);
            let id = match input.id.as_deref() {
                Some(id) => self.merge_message(&mut walk, index, id, &said)?,
                None => self.merge_message_without_id(&walk, index, &said)?,
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
        said: &Said<'_>,
    ) -> Result<String, StoreError> {
        if !is_id(given_id) {
            return Err(invalid(index, "id", "must be 1 to 64 letters, digits, hyphens or underscores"));
        }
        if self.save.running.contains(given_id) {
            return Ok(given_id.to_owned());
        }
        let Some(place) = self.place(given_id) else {
            let parent = self.parent_of(index, said.input, walk)?;
            return self.append(index, given_id.to_owned(), parent, said);
        };
        let known = self.message(place);
        if said.is_like(known) || known.is_server_reply() {
            self.patch(place, said.input);
            return Ok(given_id.to_owned());
        }
        let parent = known.parent_id.clone();
        let id = derived_id(&self.known.session.session_id, &[given_id, &said.content]);
        walk.aliases.insert(given_id, id.clone());
        match self.place(&id) {
            Some(sibling) => {
                self.patch(sibling, said.input);
                Ok(id)
            }
            None => self.append(index, id, parent, said),
        }
    }

    /// Merges one message that has no id while others have, and returns the id under which it stands then.
    fn merge_message_without_id(
        &mut self,
        walk: &Walk<'_>,
        index: usize,
        said: &Said<'_>,
    ) -> Result<String, StoreError> {
        let mut id = None;
        let taken = match (&walk.previous, &said.input.parent_id) {
            (_, Some(parent)) => self.child_like(parent.as_deref().map(|id| walk.resolve(id)), said),
            (Some(previous), None) => self.child_like(Some(previous), said),
            (None, None) => {
                // Nothing before it tells where it belongs, so its id follows from the first message that has one: sent again,
                // the same message is found again.
                let anchor_id = self.save.messages[walk.anchor].id.as_deref().unwrap_or_default();
                let distance = (walk.anchor - index).to_string();
                let derived = derived_id(&self.known.session.session_id, &[anchor_id, &distance, &said.content]);
                let taken = self.place(&derived).or_else(|| self.ancestor_like(walk.anchor, index, said));
                id = Some(derived);
                taken
            }
        };
        if let Some(place) = taken {
            self.patch(place, said.input);
            return Ok(self.message(place).id.clone());
        }
        let parent = self.parent_of(index, said.input, walk)?;
        let id = id.unwrap_or_else(|| (self.new_id)());
        self.append(index, id, parent, said)
    }

    /// No message has an id: an older client posts the whole session as a list, and it is walked from its roots.
    fn merge_by_content(&mut self) -> Result<Option<String>, StoreError> {
        let save: &'a Save = self.save;
        let known = self.known;
        let list: Vec<Said<'a>> = save.messages.iter().map(Said::new).collect();
        // The candidates of all levels, one level after the other, and where each level begins: one level for each message that
        // is found.
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut levels: Vec<usize> = Vec::new();
        for said in &list {
            let begin = candidates.len();
            match levels.last() {
                None => self.find_like(None, said, 0, &mut candidates),
                Some(&level) => {
                    for before in level..begin {
                        let Candidate { position, .. } = candidates[before];
                        self.find_like(Some(position), said, before, &mut candidates);
                    }
                }
            }
            if candidates.len() == begin {
                break;
            }
            if !self.branches.is_in_order() {
                // Of a tree nothing is met twice, but in a file of another program there may be a circle.
                let mut seen = HashSet::new();
                let mut place = 0;
                candidates.retain(|candidate| {
                    place += 1;
                    place <= begin || seen.insert(candidate.position)
                });
            }
            levels.push(begin);
        }
        let Some(&last) = levels.last() else {
            return self.follow_the_leaf(&list);
        };
        let chosen = if candidates.len() == last + 1 {
            last
        } else {
            // Only where there is a choice it matters what is shown.
            let shown = known.leaf(self.leaf_after()).map(|leaf| self.branches.path_to(leaf, usize::MAX));
            let on_path: HashSet<usize> = shown.unwrap_or_default().into_iter().collect();
            let key = |place: &usize| (on_path.contains(&candidates[*place].position), candidates[*place].position);
            (last..candidates.len()).max_by_key(key).unwrap_or(last)
        };
        let parent = known.message(candidates[chosen].position).id.clone();
        let mut walked = chosen;
        for said in list[..levels.len()].iter().rev() {
            let Candidate { position, before } = candidates[walked];
            self.patch(Place::Kept(position), said.input);
            walked = before;
        }
        self.append_chain(levels.len(), Some(parent), &list)
    }

    /// Adds the children of a message, or the first messages, that say the same; another one that is hidden is looked through, because
    /// a client that was not shown it posts what followed it.
    fn find_like(&self, parent: Option<usize>, said: &Said<'_>, before: usize, found: &mut Vec<Candidate>) {
        let mut hidden = Vec::new();
        let mut seen = HashSet::new();
        let mut parent = Some(parent);
        while let Some(of) = parent {
            for position in self.branches.children(of) {
                // Only where there is a circle something is met twice.
                if !self.branches.is_in_order() && !seen.insert(position) {
                    continue;
                }
                let message = self.known.message(position);
                if said.is_like(message) {
                    found.push(Candidate { position, before });
                } else if message.is_hidden() {
                    hidden.push(position);
                }
            }
            parent = hidden.pop().map(Some);
        }
    }

    /// Nothing matches from the beginning: the messages are new and follow what is shown, unless that ends with them.
    fn follow_the_leaf(&mut self, list: &[Said<'a>]) -> Result<Option<String>, StoreError> {
        let known = self.known;
        let end_of_path = |leaf: Option<&str>| {
            known.leaf(leaf).map(|leaf| self.branches.path_to(leaf, list.len())).unwrap_or_default()
        };
        // Also the path to the newest message: a save that names another active leaf appends there too.
        let (newest, shown) = (end_of_path(None), end_of_path(self.leaf_after()));
        let is_said = |(&position, said): (&usize, &Said<'_>)| {
            let message = known.message(position);
            said.is_like(message) && said.is_same_time(message)
        };
        // Of two equally long overlaps the last one is taken: that of the shown path.
        let overlap = [&newest, &shown]
            .into_iter()
            .filter_map(|path| {
                (1..=path.len().min(list.len()))
                    .rev()
                    // From the end: what is new there tells most of them apart at once.
                    .find(|&count| path[path.len() - count..].iter().zip(&list[..count]).rev().all(is_said))
                    .map(|count| (count, path))
            })
            .max_by_key(|(count, _)| *count);
        match overlap {
            None => {
                let leaf = self.active_leaf();
                self.append_chain(0, leaf, list)
            }
            Some((count, path)) => {
                for (position, said) in path[path.len() - count..].iter().zip(list) {
                    self.patch(Place::Kept(*position), said.input);
                }
                let end = path.last().map(|last| known.message(*last).id.clone());
                self.append_chain(count, end, list)
            }
        }
    }

    /// Appends what is said from `start` on, each below the one before it. Returns where the last one stands.
    fn append_chain(
        &mut self,
        start: usize,
        mut parent: Option<String>,
        list: &[Said<'a>],
    ) -> Result<Option<String>, StoreError> {
        for (index, said) in list.iter().enumerate().skip(start) {
            let id = (self.new_id)();
            parent = Some(self.append(index, id, parent, said)?);
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
    fn child_like(&self, parent: Option<&str>, said: &Said<'_>) -> Option<Place> {
        let matches = |message: &Message| message.parent_id.as_deref() == parent && said.is_like(message);
        let is_in_order = self.known.grown.is_in_order();
        let kept = match parent.map(|parent| self.known.positions.get(parent).copied()) {
            // A message that follows none that is there has another place in the tree than it says.
            _ if !is_in_order => self.known.messages().position(matches),
            Some(None) => None,
            parent => self.branches.children(parent.flatten()).find(|&position| matches(self.known.message(position))),
        };
        kept.map(Place::Kept).or_else(|| self.append.iter().position(matches).map(Place::New))
    }

    /// For a message without id at `index` before the first one that has an id: the ancestor of that one which stands as far
    /// above it, if it has the same role and content.
    fn ancestor_like(&self, anchor: usize, index: usize, said: &Said<'_>) -> Option<Place> {
        let mut place = self.place(self.save.messages.get(anchor)?.id.as_deref()?)?;
        for _ in index..anchor {
            place = self.place(self.message(place).parent_id.as_deref()?)?;
        }
        said.is_like(self.message(place)).then_some(place)
    }

    /// Merges what a caller says of a known message's metadata.
    fn patch(&mut self, place: Place, input: &MessageInput) {
        let said_modes = match (&input.role, input.extra.get("modes")) {
            (Role::Assistant, Some(modes @ Value::Object(_))) => Some(modes),
            _ => None,
        };
        if input.metadata.is_empty() && said_modes.is_none() {
            return;
        }
        let message = self.message(place);
        let current = match place {
            Place::New(_) => &message.metadata,
            Place::Kept(position) => self.touched.get(&position).unwrap_or(&message.metadata),
        };
        let mut patch = Cow::Borrowed(&input.metadata);
        if message.is_server_reply() {
            if !patch.keys().all(|key| PATCHABLE_OF_REPLIES.contains(&key.as_str())) {
                patch.to_mut().retain(|key, _| PATCHABLE_OF_REPLIES.contains(&key.as_str()));
            }
        } else {
            // `metadata.reply_id` marks what the server made; nobody else may say so of a message that is kept.
            if patch.contains_key("reply_id") {
                patch.to_mut().shift_remove("reply_id");
            }
            if let Some(modes) = said_modes
                && !current.contains_key("modes")
                && !patch.contains_key("modes")
            {
                patch.to_mut().insert("modes".to_owned(), modes.clone());
            }
        }
        if !is_patched_by(current, &patch) {
            return;
        }
        let metadata = match place {
            Place::New(position) => &mut self.append[position].metadata,
            Place::Kept(position) => {
                self.touched.entry(position).or_insert_with(|| self.known.message(position).metadata.clone())
            }
        };
        merge_patch(metadata, &patch);
    }

    /// Appends a new message and returns its id.
    fn append(
        &mut self,
        index: usize,
        id: String,
        parent_id: Option<String>,
        said: &Said<'_>,
    ) -> Result<String, StoreError> {
        if let Role::Other(_) = said.input.role {
            return Err(invalid(index, "role", "must be system, user or assistant"));
        }
        let mut input = said.input.clone();
        take_derived(&input.role, &mut input.metadata, &mut input.extra);
        // As a patch, so that the same message sent again has nothing to change.
        let mut metadata = Object::new();
        merge_patch(&mut metadata, &input.metadata);
        self.new_positions.insert(id.clone(), self.append.len());
        self.append.push(Message {
            id: id.clone(),
            parent_id,
            role: input.role,
            content: said.content.clone().into_owned(),
            timestamp: input.timestamp.unwrap_or_else(|| time::format(self.save.now)),
            metadata,
            parts: input.parts,
            rev: 0,
            extra: input.extra,
        });
        Ok(id)
    }
}

fn invalid(index: usize, field: &str, what: &str) -> StoreError {
    StoreError::Invalid(format!("messages[{index}].{field} {what}"))
}
