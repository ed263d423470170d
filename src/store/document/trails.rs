//! What a session would show if it ended at each of its messages, so that no save works out a summary from all of them.

use crate::model::message::{Message, Modes, Role};
use crate::model::session::{Stats, Summary, preview_of, tool_to_list};
use crate::store::merge::Indexed;
use std::sync::Arc;

/// What the messages from the root to one of them amount to.
#[derive(Clone, Debug, Default)]
struct Trail {
    stats: Stats,
    /// The first thing that the person says on it.
    first_said: Option<usize>,
    /// Shared with the parent's trail where no tool is added.
    tools: Arc<Vec<String>>,
    modes: Modes,
}

/// The trail of every message.
#[derive(Debug, Default)]
pub struct Trails {
    trails: Vec<Trail>,
}

impl Trails {
    /// Adds the next message, which follows `parent`.
    pub fn push(&mut self, message: &Message, parent: Option<usize>) {
        let position = self.trails.len();
        let mut trail = parent.map(|parent| self.trails[parent].clone()).unwrap_or_default();
        if !message.is_hidden() {
            trail.stats.add(message);
            trail.modes = trail.modes.or(message.modes().unwrap_or_default());
            if message.role == Role::User {
                trail.first_said.get_or_insert(position);
            }
            for tool in message.tools_used() {
                if let Some(name) = tool_to_list(&trail.tools, &tool.name) {
                    Arc::make_mut(&mut trail.tools).push(name);
                }
            }
        }
        self.trails.push(trail);
    }

    /// Takes back all messages but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.trails.truncate(len);
    }

    /// How many messages of the path to a message are shown.
    pub fn shown_to(&self, end: Option<usize>) -> usize {
        let shown = end.and_then(|end| self.trails.get(end)).map_or(0, |trail| trail.stats.total_messages);
        usize::try_from(shown).unwrap_or(usize::MAX)
    }

    /// The first thing that the person says on the path to a message, as a list shows it.
    pub fn preview(&self, known: Indexed<'_>, end: Option<usize>) -> String {
        let first = end.and_then(|end| self.trails.get(end)?.first_said);
        first.map(|position| preview_of(&known.message(position).content).to_owned()).unwrap_or_default()
    }

    /// Fills in what a summary says of the messages, and says whether it could: not where the tree is not to be relied on.
    pub fn describe(&self, known: Indexed<'_>, summary: &mut Summary) -> bool {
        if !known.grown.is_in_order() {
            return false;
        }
        let leaf = known.leaf(known.session.active_leaf());
        let trail = leaf.map(|leaf| self.trails[leaf].clone()).unwrap_or_default();
        summary.stats = trail.stats;
        summary.preview = self.preview(known, leaf);
        summary.tools = Arc::unwrap_or_clone(trail.tools);
        summary.modes = trail.modes;
        true
    }
}
