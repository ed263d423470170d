//! The bytes of a session file: how they are written, and how whatever is found is read. Pure.

use crate::model::Object;
use crate::model::json::{self as json_text, MAX_DEPTH};
use crate::model::message::{DERIVED_FIELDS, Message, MessageInput, Role};
use crate::model::parts::Part;
use crate::model::session::{Session, SessionId, Stats, is_id};
use crate::model::{time, tools_used};
use crate::store::merge;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The format that this version writes.
pub const FORMAT: u64 = 1;

/// What is the matter with a file that holds what [`json_text::mend`] puts right.
const MENDED: &str = "it holds numbers or words that JSON does not have, or lists nested too deep";

/// What is the matter with a file of which something becomes text.
const TOO_DEEP: &str = "it holds objects or lists that are nested too deep";

/// What is the matter with a file of which something is passed over, because another value stands under the same name.
const TWICE: &str = "a field stands there twice, and only the last one counts";

/// The field of the first line for [`Session::metadata_updated`].
const METADATA_UPDATED: &str = "metadata_updated";

/// What ends the first line.
const HEAD_END: &str = "\"messages\":[";

/// A session as it was found in a file, and what that means for the next write.
#[derive(Debug)]
pub struct Reading {
    /// The session. Nothing in it is missing: ids and times that the file lacks are made up, always the same ones.
    pub session: Session,
    /// How the file may be written to.
    pub state: State,
    /// Whether the messages had ids of their own (an empty list counts as such).
    pub has_ids: bool,
    /// The session's id inside the file, where that is another one than the file's name.
    pub other_id: Option<Value>,
}

/// How a file may be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has our layout: new messages overwrite the tail, which begins at this byte with a line end.
    Own {
        /// Where the line end before the tail stands.
        tail_start: usize,
    },
    /// It is written anew at the next change.
    Foreign {
        /// What was wrong with it, if something in it could not be kept as it is; then it is copied first.
        damage: Option<String>,
    },
    /// It is only read: a later version wrote it. The text says which.
    Newer(String),
}

/// The first line.
pub fn head(session: &Session) -> serde_json::Result<String> {
    let mut head = Object::new();
    head.insert("format".into(), json!(FORMAT));
    head.insert("session_id".into(), json!(session.session_id));
    head.insert("user_name".into(), json!(session.user_name));
    head.insert("started_at".into(), json!(session.started_at));
    head.insert("metadata".into(), Value::Object(session.metadata.clone()));
    if let Some(at) = &session.metadata_updated {
        head.insert(METADATA_UPDATED.into(), json!(at));
    }
    for (key, value) in &session.extra {
        head.insert(key.clone(), value.clone());
    }
    let mut line = serde_json::to_string(&head)?;
    line.pop();
    line.push(',');
    line.push_str(HEAD_END);
    readable(line)
}

/// Passes on a line that will be read back. What is too deep was given another form before; this is the last guard.
fn readable(line: String) -> serde_json::Result<String> {
    match json_text::is_too_deep(line.as_bytes()) {
        true => Err(serde::ser::Error::custom(format!("it is nested more than {MAX_DEPTH} levels deep"))),
        false => Ok(line),
    }
}

/// Messages, each on its line, with the line end and the comma before each; `first` says that none stands before them.
pub fn lines(messages: &[Message], first: bool) -> serde_json::Result<String> {
    let mut text = String::new();
    for (position, message) in messages.iter().enumerate() {
        text.push_str(if first && position == 0 { "\n" } else { ",\n" });
        text.push_str(&readable(serde_json::to_string(message)?)?);
    }
    Ok(text)
}

/// How many bytes the line of a message has, without comma and line end.
pub fn line_length(message: &Message) -> u32 {
    /// Counts what is written to it.
    struct Counter(u64);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // What cannot be written has no line.
    let written = serde_json::to_writer(&mut counter, message);
    written.ok().and_then(|()| u32::try_from(counter.0).ok()).unwrap_or(0)
}

/// Where the messages of a file in our layout stand, as offset and length in bytes.
pub fn message_lines(bytes: &[u8], tail_start: u64) -> Vec<(u64, u32)> {
    let tail_start = usize::try_from(tail_start).unwrap_or(usize::MAX).min(bytes.len());
    let Some(head_end) = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end < tail_start) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut start = head_end + 1;
    for line in bytes[start..tail_start].split(|byte| *byte == b'\n') {
        let length = line.strip_suffix(b",").unwrap_or(line).len();
        lines.push((start as u64, u32::try_from(length).unwrap_or(0)));
        start += line.len() + 1;
    }
    lines
}

/// The line end before the last line, and that line.
pub fn tail(last_updated: &str, revision: u64, stats: &Stats) -> serde_json::Result<String> {
    let derived = serde_json::to_string(&json!({"last_updated": last_updated, "revision": revision, "stats": stats}))?;
    Ok(format!("\n],{}", &derived[1..]))
}

/// Reads a file. `written_at` is when it was last written to, for what it does not say itself. The error says why nothing in
/// it can be read.
pub fn read(bytes: &[u8], id: &SessionId, written_at: DateTime<Utc>) -> Result<Reading, String> {
    if let Some(reading) = read_own(bytes, id) {
        return Ok(reading);
    }
    let mut damage = None;
    let without_mark = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = match String::from_utf8_lossy(without_mark) {
        Cow::Borrowed(text) => Cow::Borrowed(text),
        Cow::Owned(text) => {
            damage = Some("it holds bytes that are no UTF-8".to_owned());
            Cow::Owned(text)
        }
    };
    let text = match json_text::without_lone_surrogates(&text) {
        Some(repaired) => {
            damage = Some("it holds halves of characters (lone surrogates)".to_owned());
            Cow::Owned(repaired)
        }
        None => text,
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(document)) => {
            let damage = damage.or_else(|| json_text::has_key_twice(&text).then(|| TWICE.to_owned()));
            read_foreign(document, damage, id, written_at)
        }
        Ok(_) => Err("it holds JSON, but no session".to_owned()),
        Err(error) => read_mended(&text, damage.clone(), id, written_at)
            .or_else(|| recover(&text, damage, id, written_at))
            .ok_or_else(|| format!("it is no JSON: {error}")),
    }
}

/// Reads a file that is JSON but for words that JSON does not have and for what is nested too deep; `None` if it is not, or if
/// there is no message in it then.
fn read_mended(text: &str, damage: Option<String>, id: &SessionId, written_at: DateTime<Utc>) -> Option<Reading> {
    let mended = json_text::mend(text, MAX_DEPTH)?;
    let Ok(Value::Object(document)) = serde_json::from_str::<Value>(&mended) else { return None };
    let was_empty = document.get("messages").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let damage = damage.or_else(|| Some(MENDED.to_owned()));
    read_foreign(document, damage, id, written_at)
        .ok()
        .filter(|reading| was_empty || !reading.session.messages.is_empty())
}

/// Reads a file in exactly our layout; `None` if anything is different.
fn read_own(bytes: &[u8], id: &SessionId) -> Option<Reading> {
    let text = std::str::from_utf8(bytes).ok()?;
    let head_end = text.find('\n')?;
    let tail_start = text.rfind('\n')?;
    let mut session = session_of_head(&text[..head_end], id)?;
    let tail = Tail::parse(&text[tail_start + 1..])?;
    let mut messages = Vec::new();
    let mut ids = HashSet::new();
    if tail_start > head_end {
        let mut lines = text[head_end + 1..tail_start].split('\n').peekable();
        while let Some(line) = lines.next() {
            let line = if lines.peek().is_some() { line.strip_suffix(',')? } else { line };
            let message = message_of_line(line)?;
            // A field of the message itself that stands there twice was refused; one inside of another was not.
            let has_inner = !message.metadata.is_empty() || !message.extra.is_empty() || message.parts.is_some();
            if has_inner && json_text::has_key_twice(line) {
                return None;
            }
            if !ids.insert(message.id.clone()) {
                return None;
            }
            messages.push(message);
        }
    }
    if json_text::has_key_twice(&text[..head_end]) || json_text::has_key_twice(&text[tail_start..]) {
        return None;
    }
    session.revision = messages.iter().map(|message| message.rev).fold(tail.revision, u64::max);
    (session.last_updated, session.messages) = (tail.last_updated, messages);
    Some(Reading { session, state: State::Own { tail_start }, has_ids: true, other_id: None })
}

/// The session that the first line of a file in our layout tells of, without its line end: still without messages, and without the
/// times and the revision that the last line holds.
pub fn session_of_head(line: &str, id: &SessionId) -> Option<Session> {
    if json_text::is_too_deep(line.as_bytes()) {
        return None;
    }
    let head = Head::parse(line)?;
    if head.session_id.as_deref() != Some(id.as_str()) || head.format != Some(json!(FORMAT)) {
        return None;
    }
    if head.extra.contains_key(METADATA_UPDATED) {
        // It is no time, and is told of like any other field that is not what it should be.
        return None;
    }
    Some(Session {
        session_id: id.clone(),
        user_name: head.user_name?,
        started_at: head.started_at?,
        last_updated: String::new(),
        metadata_updated: head.metadata_updated,
        metadata: head.metadata?,
        messages: Vec::new(),
        revision: 0,
        extra: head.extra,
    })
}

/// The message of a line of a file in our layout, without comma and line end.
pub fn message_of_line(line: &str) -> Option<Message> {
    if json_text::is_too_deep(line.as_bytes()) {
        return None;
    }
    complete_message(serde_json::from_str(line).ok()?)
}

/// The message of a line that lacks nothing.
fn complete_message(input: MessageInput) -> Option<Message> {
    let id = input.id.filter(|id| is_id(id))?;
    if DERIVED_FIELDS.iter().any(|field| input.extra.contains_key(*field)) {
        return None;
    }
    Some(Message {
        id,
        parent_id: input.parent_id?,
        role: input.role,
        content: input.content,
        timestamp: input.timestamp?,
        metadata: input.metadata,
        parts: input.parts,
        rev: input.rev,
        extra: input.extra,
    })
}

/// What the first line holds.
struct Head {
    format: Option<Value>,
    session_id: Option<String>,
    user_name: Option<String>,
    started_at: Option<String>,
    metadata: Option<Object>,
    metadata_updated: Option<String>,
    /// All other fields. What is no text under [`METADATA_UPDATED`] stays here.
    extra: Object,
}

impl Head {
    fn parse(line: &str) -> Option<Self> {
        if !line.ends_with(HEAD_END) {
            return None;
        }
        let mut extra: Object = serde_json::from_str(&format!("{line}]}}")).ok()?;
        extra.shift_remove("messages")?;
        if ["last_updated", "revision", "stats"].iter().any(|field| extra.contains_key(*field)) {
            return None;
        }
        let mut text = |key: &str| match extra.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (session_id, user_name, started_at) = (text("session_id"), text("user_name"), text("started_at"));
        let metadata = match extra.shift_remove("metadata") {
            Some(Value::Object(metadata)) => Some(metadata),
            _ => None,
        };
        let metadata_updated = match extra.get(METADATA_UPDATED) {
            Some(Value::String(_)) => extra.shift_remove(METADATA_UPDATED),
            _ => None,
        };
        let metadata_updated = metadata_updated.and_then(|at| at.as_str().map(str::to_owned));
        let format = extra.shift_remove("format");
        Some(Self { format, session_id, user_name, started_at, metadata, metadata_updated, extra })
    }
}

/// What the last line holds. The counts in it are not read: they are worked out anew.
struct Tail {
    last_updated: String,
    revision: u64,
}

impl Tail {
    fn parse(line: &str) -> Option<Self> {
        if !line.starts_with(']') {
            return None;
        }
        let fields: Object = serde_json::from_str(&format!("{{\"messages\":[{line}")).ok()?;
        let last_updated = fields.get("last_updated")?.as_str()?.to_owned();
        let revision = fields.get("revision")?.as_u64()?;
        (fields.len() == 4 && fields.contains_key("stats")).then_some(Self { last_updated, revision })
    }
}

/// Reads a JSON object that another program wrote, or a person.
fn read_foreign(
    mut document: Object,
    damage: Option<String>,
    id: &SessionId,
    written_at: DateTime<Utc>,
) -> Result<Reading, String> {
    let Some(Value::Array(values)) = document.shift_remove("messages") else {
        return Err("it holds no list of messages".to_owned());
    };
    let newer = match document.shift_remove("format") {
        None | Some(Value::Null) => None,
        Some(format) if format == json!(FORMAT) => None,
        Some(format) => Some(format!("its format is {format}, and this version knows {FORMAT}")),
    };
    let other_id = document.shift_remove("session_id").filter(|inner| *inner != json!(id));
    document.shift_remove("stats");
    let mut gatherer = Gatherer::new(id, damage);
    let revision = document.shift_remove("revision").and_then(|revision| revision.as_u64()).unwrap_or(0);
    let user_name = gatherer.text(&mut document, "user_name");
    let started_at = gatherer.text(&mut document, "started_at");
    let last_updated = gatherer.text(&mut document, "last_updated");
    let metadata = gatherer.object(&mut document, "metadata");
    let metadata_updated = gatherer.text(&mut document, METADATA_UPDATED);
    // An exported session: its other branches stand before what is shown, so that the last message is the last one shown.
    if let Some(Value::Array(branches)) = document.shift_remove("branches") {
        branches.into_iter().for_each(|value| gatherer.push(value));
    }
    document.shift_remove("running");
    values.into_iter().for_each(|value| gatherer.push(value));
    let extra = document;
    let known = Known { user_name, started_at, last_updated, metadata, metadata_updated, revision, extra };
    let mut reading = gatherer.finish(known, written_at);
    reading.other_id = other_id;
    if let Some(newer) = newer {
        reading.state = State::Newer(newer);
    }
    Ok(reading)
}

/// Reads the whole lines of a file that is no JSON as a whole; `None` if there is none.
fn recover(text: &str, damage: Option<String>, id: &SessionId, written_at: DateTime<Utc>) -> Option<Reading> {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut gatherer = Gatherer::new(id, damage);
    let head = Head::parse(lines[0]).or_else(|| {
        let head = Head::parse(&json_text::mend(lines[0], MAX_DEPTH)?)?;
        gatherer.damaged(MENDED);
        Some(head)
    });
    let mut message_line = |line: &str| {
        MessageLine::parse(line).or_else(|| {
            let message = MessageLine::parse(&json_text::mend(line, MAX_DEPTH)?)?;
            gatherer.damaged(MENDED);
            Some(message)
        })
    };
    let messages: Vec<Option<MessageLine>> = lines[1..].iter().map(|line| message_line(line)).collect();
    if head.is_some() && json_text::has_key_twice(lines[0]) || messages.iter().flatten().any(|line| line.has_key_twice)
    {
        gatherer.damaged(TWICE);
    }
    let last_good = messages.iter().rposition(Option::is_some);
    if head.is_none() && last_good.is_none() {
        return None;
    }
    let after_last_good = last_good.map_or(0, |position| position + 1);
    let tail = lines.last().filter(|_| lines.len() > 1).and_then(|line| Tail::parse(line));
    let is_whole = |line: &Option<MessageLine>| line.as_ref().is_some_and(|line| line.is_whole);
    let bad_before = !messages[..last_good.unwrap_or(0)].iter().all(is_whole);
    let bad_before_tail =
        tail.is_some() && (after_last_good + 1 != messages.len() || !messages[..after_last_good].iter().all(is_whole));
    if head.is_none() {
        gatherer.damaged("its first line cannot be read");
    } else if bad_before || bad_before_tail {
        gatherer.damaged("a line that is not the last one cannot be read");
    }
    for line in messages.into_iter().flatten() {
        gatherer.push(line.message);
    }
    let newer = head.as_ref().and_then(|head| match &head.format {
        Some(format) if *format != json!(FORMAT) => {
            Some(format!("its format is {format}, and this version knows {FORMAT}"))
        }
        _ => None,
    });
    let mut head = head.unwrap_or(Head {
        format: None,
        session_id: None,
        user_name: None,
        started_at: None,
        metadata: None,
        metadata_updated: None,
        extra: Object::new(),
    });
    let odd_time = gatherer.text(&mut head.extra, METADATA_UPDATED);
    let other_id = head.session_id.map(Value::String).filter(|inner| *inner != json!(id));
    let known = Known {
        user_name: head.user_name,
        started_at: head.started_at,
        last_updated: tail.as_ref().map(|tail| tail.last_updated.clone()).or_else(|| Some(time::format(written_at))),
        metadata: head.metadata.unwrap_or_default(),
        metadata_updated: head.metadata_updated.or(odd_time),
        revision: tail.map_or(0, |tail| tail.revision),
        extra: head.extra,
    };
    let mut reading = gatherer.finish(known, written_at);
    reading.other_id = other_id;
    if let Some(newer) = newer {
        reading.state = State::Newer(newer);
    }
    Some(reading)
}

/// A line that holds a message, as recovery meets it.
struct MessageLine {
    message: Value,
    /// Whether nothing else stands on it.
    is_whole: bool,
    /// See [`json_text::has_key_twice`].
    has_key_twice: bool,
}

impl MessageLine {
    /// Reads the message with which a line begins. Others may follow it on the line: an append replaces the line end before the
    /// tail by a comma and a line end, and of these two bytes, in two blocks, only the first may have reached the disk.
    fn parse(line: &str) -> Option<Self> {
        let mut values = serde_json::Deserializer::from_str(line).into_iter::<Value>();
        let message = values.next()?.ok()?;
        let is_message = message.get("role").is_some_and(Value::is_string) && message.get("content").is_some();
        let (read, rest) = line.split_at(values.byte_offset());
        let rest = rest.trim();
        is_message.then(|| Self {
            message,
            is_whole: rest.is_empty() || rest == ",",
            has_key_twice: json_text::has_key_twice(read),
        })
    }
}

/// What a file says of a session besides its messages.
struct Known {
    user_name: Option<String>,
    started_at: Option<String>,
    last_updated: Option<String>,
    metadata: Object,
    metadata_updated: Option<String>,
    revision: u64,
    extra: Object,
}

/// Makes messages of whatever stands in a list of messages.
struct Gatherer<'a> {
    id: &'a SessionId,
    damage: Option<String>,
    messages: Vec<Message>,
    /// Whether the message at the same position said when it was.
    timed: Vec<bool>,
    ids: HashSet<String>,
    /// Ids that cannot be kept, and what stands for them.
    aliases: HashMap<String, String>,
    with_ids: usize,
}

impl<'a> Gatherer<'a> {
    fn new(id: &'a SessionId, damage: Option<String>) -> Self {
        Self {
            id,
            damage,
            messages: Vec::new(),
            timed: Vec::new(),
            ids: HashSet::new(),
            aliases: HashMap::new(),
            with_ids: 0,
        }
    }

    /// Notes that something cannot be kept as it is, so that the file is copied before it is written to.
    fn damaged(&mut self, what: &str) {
        self.damage.get_or_insert_with(|| what.to_owned());
    }

    fn text(&mut self, object: &mut Object, key: &str) -> Option<String> {
        match object.shift_remove(key) {
            Some(Value::String(text)) => Some(text),
            None | Some(Value::Null) => None,
            Some(_) => {
                self.damaged("a field that should be text is something else");
                None
            }
        }
    }

    fn object(&mut self, object: &mut Object, key: &str) -> Object {
        match object.shift_remove(key) {
            Some(Value::Object(inner)) => inner,
            None | Some(Value::Null) => Object::new(),
            Some(_) => {
                self.damaged("a field that should be an object is something else");
                Object::new()
            }
        }
    }

    fn push(&mut self, value: Value) {
        let Value::Object(mut object) = value else {
            self.damaged("its list of messages holds something that is no message");
            return;
        };
        let role = match self.text(&mut object, "role") {
            Some(role) => role_of(role),
            None => Role::Other("unknown".to_owned()),
        };
        let content = match object.shift_remove("content") {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => String::new(),
            Some(other) => {
                self.damaged("the content of a message is no text");
                other.to_string()
            }
        };
        let given_id = id_text(object.shift_remove("id"));
        let parent_id = match object.shift_remove("parent_id") {
            None => self.messages.last().map(|message| message.id.clone()),
            Some(Value::Null) => None,
            Some(value) => id_text(Some(value)).map(|parent| self.aliases.get(&parent).cloned().unwrap_or(parent)),
        };
        let id = match given_id {
            Some(given) if is_id(&given) && !self.ids.contains(&given) => {
                self.with_ids += 1;
                given
            }
            Some(odd) => {
                self.damaged("an id of a message is malformed or is there twice");
                let id = self.free_id(&content);
                if !is_id(&odd) {
                    self.aliases.insert(odd, id.clone());
                }
                id
            }
            None => self.free_id(&content),
        };
        let timestamp = self.text(&mut object, "timestamp");
        let mut metadata = self.object(&mut object, "metadata");
        let parts: Option<Vec<Part>> = match object.shift_remove("parts") {
            None | Some(Value::Null) => None,
            Some(parts) => {
                let parts = serde_json::from_value(parts).ok();
                if parts.is_none() {
                    self.damaged("the parts of a message are no list");
                }
                parts
            }
        };
        let rev = object.shift_remove("rev").and_then(|rev| rev.as_u64()).unwrap_or(0);
        self.check_derived(&object, &role, &content, parts.as_deref());
        merge::take_derived(&role, &mut metadata, &mut object);
        self.ids.insert(id.clone());
        self.timed.push(timestamp.is_some());
        let mut message = Message {
            id,
            parent_id,
            role,
            content,
            timestamp: timestamp.unwrap_or_default(),
            metadata,
            parts,
            rev,
            extra: object,
        };
        if message.limit_depth() {
            self.damaged(TOO_DEEP);
        }
        self.messages.push(message);
    }

    /// Tool uses that an exported file lists are worked out of the content again; where that gives others, the file is copied.
    fn check_derived(&mut self, extra: &Object, role: &Role, content: &str, parts: Option<&[Part]>) {
        let Some(listed) = extra.get("tools_used").filter(|listed| **listed != json!([])) else { return };
        let derived = match role {
            Role::Assistant => serde_json::to_value(tools_used::of_message(content, parts)).unwrap_or_default(),
            _ => json!([]),
        };
        if *listed != derived {
            self.damaged("it lists tool uses that do not follow from the messages");
        }
    }

    /// The id of a message that has none: it follows from session, position and content.
    fn free_id(&self, content: &str) -> String {
        let mut salt = 0;
        loop {
            let id = merge::derived_id(self.id, &[&self.messages.len().to_string(), content, &"+".repeat(salt)]);
            if !self.ids.contains(&id) {
                return id;
            }
            salt += 1;
        }
    }

    fn finish(mut self, known: Known, written_at: DateTime<Utc>) -> Reading {
        let first_time = self.timed.iter().position(|timed| *timed).map(|first| self.messages[first].timestamp.clone());
        let last_time = self.timed.iter().rposition(|timed| *timed).map(|last| self.messages[last].timestamp.clone());
        let started_at = known
            .started_at
            .or(first_time)
            .or_else(|| known.last_updated.clone())
            .unwrap_or_else(|| time::format(written_at));
        let last_updated = known.last_updated.or(last_time).unwrap_or_else(|| started_at.clone());
        let mut previous = started_at.clone();
        for (message, timed) in self.messages.iter_mut().zip(&self.timed) {
            if *timed {
                previous.clone_from(&message.timestamp);
            } else {
                message.timestamp.clone_from(&previous);
            }
        }
        let revision = self.messages.iter().map(|message| message.rev).fold(known.revision, u64::max);
        let has_ids = self.messages.is_empty() || self.with_ids > 0;
        let mut session = Session {
            session_id: self.id.clone(),
            user_name: known.user_name.unwrap_or_else(|| "User".to_owned()),
            started_at,
            last_updated,
            metadata_updated: known.metadata_updated,
            metadata: known.metadata,
            messages: self.messages,
            revision,
            extra: known.extra,
        };
        if session.limit_depth() {
            self.damage.get_or_insert_with(|| TOO_DEEP.to_owned());
        }
        Reading { session, state: State::Foreign { damage: self.damage }, has_ids, other_id: None }
    }
}

fn role_of(text: String) -> Role {
    match text.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => Role::Other(text),
    }
}

/// An id as text, also where it is a number.
fn id_text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}
