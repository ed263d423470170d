//! What a session would show if it ended at each of its messages, so that no save works out a summary from all of them.

use crate::model::message::{Message, Modes, Role};
use crate::model::session::{PREVIEW_CHARACTERS, Stats, Summary, first_characters};
use crate::store::merge::Indexed;
use std::collections::HashMap;
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
    /// The first message whose parent does not stand before it. Where there is one, which only another program or a running
    /// reply brings about, the trails say nothing.
    out_of_order: Option<usize>,
}

impl Trails {
    /// Adds the next message. `positions` holds at least those before it.
    pub fn push(&mut self, message: &Message, positions: &HashMap<String, usize>) {
        let position = self.trails.len();
        let parent = message.parent_id.as_ref().map(|id| positions.get(id).filter(|parent| **parent < position));
        if parent == Some(None) {
            self.out_of_order.get_or_insert(position);
        }
        let mut trail = parent.flatten().map(|parent| self.trails[*parent].clone()).unwrap_or_default();
        if !message.is_hidden() {
            trail.stats.add(message);
            trail.modes = trail.modes.or(message.modes().unwrap_or_default());
            if message.role == Role::User {
                trail.first_said.get_or_insert(position);
            }
            for tool in message.tools_used() {
                if !trail.tools.contains(&tool.name) {
                    Arc::make_mut(&mut trail.tools).push(tool.name);
                }
            }
        }
        self.trails.push(trail);
    }

    /// Takes back all messages but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.trails.truncate(len);
        self.out_of_order = self.out_of_order.filter(|position| *position < len);
    }

    /// Fills in what a summary says of the messages, and says whether it could.
    pub fn describe(&self, known: Indexed<'_>, summary: &mut Summary) -> bool {
        if self.out_of_order.is_some() {
            return false;
        }
        let trail = known.leaf(known.session.active_leaf()).map(|leaf| self.trails[leaf].clone()).unwrap_or_default();
        let said = trail.first_said.map(|position| known.message(position).content.trim()).unwrap_or_default();
        summary.stats = trail.stats;
        summary.preview = first_characters(said, PREVIEW_CHARACTERS).to_owned();
        summary.tools = Arc::unwrap_or_clone(trail.tools);
        summary.modes = trail.modes;
        true
    }
}
