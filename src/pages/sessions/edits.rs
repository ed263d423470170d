//! The metadata of the session that is shown: what is changed is seen at once and saved in order; what cannot be saved is taken back.

use crate::api;
use crate::client::session_manager::SessionManager;
use crate::components::toast::Toaster;
use crate::model::session::SessionId;
use crate::model::{Object, merge_patch};
use leptos::prelude::*;
use leptos::task::spawn_local;

/// The metadata of one session. Copies are the same; it lives on while a toast offers to undo a change, also without its page.
#[derive(Clone)]
pub struct Edits {
    /// The metadata as it is shown.
    pub metadata: ArcRwSignal<Object>,
    session_id: SessionId,
    work: ArcStoredValue<Work>,
    manager: SessionManager,
    toaster: Toaster,
}

#[derive(Default)]
struct Work {
    /// As it is kept.
    kept: Object,
    /// What is not saved yet, as a merge patch.
    unsaved: Object,
    is_saving: bool,
}

impl Edits {
    /// The metadata as it was loaded.
    pub fn new(session_id: SessionId, metadata: Object, manager: SessionManager, toaster: Toaster) -> Self {
        let work = ArcStoredValue::new(Work { kept: metadata.clone(), ..Work::default() });
        Self { metadata: ArcRwSignal::new(metadata), session_id, work, manager, toaster }
    }

    /// Takes over what was loaded later.
    pub fn take(&self, loaded: Object) {
        let mut shown = loaded.clone();
        self.work.update_value(|work| {
            merge_patch(&mut shown, &work.unsaved);
            work.kept = loaded;
        });
        if *self.metadata.read_untracked() != shown {
            self.metadata.set(shown);
        }
    }

    /// Changes the metadata by a merge patch.
    pub fn change(&self, patch: Object) {
        self.metadata.update(|metadata| {
            merge_patch(metadata, &patch);
        });
        let is_saving = self.work.try_update_value(|work| {
            work.unsaved.extend(patch);
            std::mem::replace(&mut work.is_saving, true)
        });
        if is_saving == Some(false) {
            spawn_local(self.clone().save());
        }
    }

    async fn save(self) {
        loop {
            let patch = self.work.with_value(|work| work.unsaved.clone());
            if patch.is_empty() {
                break;
            }
            let id = self.session_id.clone();
            match api::sessions::save(id, None, None, Some(patch.clone()), None).await {
                Ok(_) => {
                    self.work.update_value(|work| {
                        merge_patch(&mut work.kept, &patch);
                        // What was changed again in the meantime stays to be saved.
                        work.unsaved.retain(|key, value| patch.get(key) != Some(value));
                    });
                    self.manager.changed_beside_chat(&self.session_id);
                }
                Err(error) => {
                    self.work.update_value(|work| work.unsaved.clear());
                    self.metadata.set(self.work.with_value(|work| work.kept.clone()));
                    self.toaster.say_not_done(error);
                }
            }
        }
        self.work.update_value(|work| work.is_saving = false);
    }
}
