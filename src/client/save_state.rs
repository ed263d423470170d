//! What the header says about saving.

use crate::error::{AppError, ErrorCode};

/// Whether what was said is on the server's disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SaveState {
    /// Nothing has been said yet.
    #[default]
    Nothing,
    /// All of it is on the disk since then (milliseconds since 1970).
    Saved(f64),
    /// A save is on its way.
    Saving,
    /// Something is not on the disk, and why; it is tried again.
    Retrying(Trouble),
    /// Something is not on the disk, and trying again would not help.
    Failed,
}

/// Why something is not saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer.
    Unreachable,
    /// The server cannot write to its disk.
    Unwritable,
    /// Anything else that may pass.
    Other,
}

impl Trouble {
    /// The trouble that an error stands for, if trying again may help.
    pub fn passing(error: &AppError) -> Option<Self> {
        match error.code {
            ErrorCode::ServerUnreachable => Some(Trouble::Unreachable),
            ErrorCode::StorageUnwritable | ErrorCode::StorageUnreadable => Some(Trouble::Unwritable),
            ErrorCode::TooManyRequests | ErrorCode::Internal => Some(Trouble::Other),
            _ => None,
        }
    }
}

impl SaveState {
    /// The state in words. `now` is in milliseconds since 1970; without it (in the server's HTML) no age is told.
    pub fn text(&self, now: Option<f64>) -> String {
        match self {
            SaveState::Nothing => "nothing to save yet".to_owned(),
            SaveState::Saved(at) => match now {
                Some(now) => format!("saved {} ago", age(now - at)),
                None => "saved".to_owned(),
            },
            SaveState::Saving => "saving…".to_owned(),
            SaveState::Retrying(Trouble::Unreachable) => "not saved: the server cannot be reached, retrying".to_owned(),
            SaveState::Retrying(Trouble::Unwritable) => {
                "not saved: the server cannot write to its disk, retrying".to_owned()
            }
            SaveState::Retrying(Trouble::Other) => "not saved: the server is in trouble, retrying".to_owned(),
            SaveState::Failed => "not saved: see the message below".to_owned(),
        }
    }

    /// Whether something is wrong.
    pub fn is_trouble(&self) -> bool {
        matches!(self, SaveState::Retrying(_) | SaveState::Failed)
    }

    /// The end of the CSS class that goes with the state.
    pub fn as_str(&self) -> &'static str {
        match self {
            SaveState::Nothing => "nothing",
            SaveState::Saved(_) => "saved",
            SaveState::Saving => "saving",
            SaveState::Retrying(_) | SaveState::Failed => "trouble",
        }
    }
}

/// A span of milliseconds in its largest whole unit, at least one second.
fn age(ms: f64) -> String {
    let seconds = (ms / 1_000.0).max(1.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_age_in_the_largest_unit() {
        for (ms, expected) in [
            (-5.0, "saved 1 s ago"),
            (2_400.0, "saved 2 s ago"),
            (59_999.0, "saved 59 s ago"),
            (60_000.0, "saved 1 min ago"),
            (7_200_000.0, "saved 2 h ago"),
            (200_000_000.0, "saved 2 d ago"),
        ] {
            assert_eq!(SaveState::Saved(1_000.0).text(Some(1_000.0 + ms)), expected);
        }
        assert_eq!(SaveState::Saved(1.0).text(None), "saved");
    }

    #[test]
    fn says_what_is_wrong_and_what_happens_next() {
        let state = SaveState::Retrying(Trouble::Unreachable);
        assert_eq!(state.text(Some(0.0)), "not saved: the server cannot be reached, retrying");
        assert!(state.is_trouble() && !SaveState::Saving.is_trouble());
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let of = |code| Trouble::passing(&AppError::new(code, ""));
        assert_eq!(of(ErrorCode::ServerUnreachable), Some(Trouble::Unreachable));
        assert_eq!(of(ErrorCode::StorageUnwritable), Some(Trouble::Unwritable));
        assert_eq!(of(ErrorCode::InvalidRequest), None);
        assert_eq!(of(ErrorCode::SessionDeleted), None);
    }
}
