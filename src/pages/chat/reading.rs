//! Where the person reads: what of a long conversation is on the page, and whether its end is followed.

use crate::browser;
use crate::client::session_manager::{Earlier, SessionManager};
use crate::client::turns::Row;
use crate::client::window::{Places, Window};
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos::web_sys::Element;
use std::ops::Range;

/// How far beyond the view turns are on the page, in heights of the view, and in pixels at least and at most.
const MARGIN_VIEWS: f64 = 2.0;
const MARGIN_LEAST: i32 = 1_200;
const MARGIN_MOST: i32 = 2_500;

/// How many blocks the button adds.
const BLOCKS_ASKED: usize = 10;

/// Where a scrolling element stands, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scroll {
    top: i32,
    height: i32,
    view: i32,
}

impl Scroll {
    fn of(scroller: &Element) -> Self {
        Self { top: scroller.scroll_top(), height: scroller.scroll_height(), view: scroller.client_height() }
    }

    /// What is below the view.
    fn below(self) -> i32 {
        self.height - self.top - self.view
    }

    /// How much should be above and below the view.
    fn margin(self) -> i32 {
        ((f64::from(self.view) * MARGIN_VIEWS) as i32).clamp(MARGIN_LEAST, MARGIN_MOST)
    }

    /// Whether the person scrolled up. What shrinks, or is seen whole in a larger view, is moved by the browser instead.
    fn was_moved_up_from(self, before: Scroll) -> bool {
        let is_at_very_end = self.below() <= 1;
        self.top < before.top && self.height >= before.height && self.view <= before.view && !is_at_very_end
    }
}

/// The place of the person in the conversation. A handle: copies are the same.
#[derive(Clone, Copy)]
pub struct Reading {
    /// The element that scrolls.
    pub scroller: NodeRef<html::Div>,
    manager: SessionManager,
    rows: Memo<Vec<Row>>,
    places: Memo<Places>,
    window: RwSignal<Window>,
    blocks: Memo<Range<usize>>,
    /// Whether what is new is scrolled to.
    is_following: RwSignal<bool>,
    is_at_end: RwSignal<bool>,
    last_scroll: StoredValue<Scroll>,
    /// Whether the browser moves what is in view because turns came or went, not the person.
    has_slid: StoredValue<bool>,
    is_settling: StoredValue<bool>,
    /// How many blocks of earlier turns the person asked for that are not on the page yet.
    asked: StoredValue<usize>,
}

impl Reading {
    /// At the end of the conversation.
    pub fn new(manager: SessionManager, rows: Memo<Vec<Row>>) -> Self {
        let places = Memo::new(move |_| {
            let earlier = manager.earlier_turns();
            Places { earlier, total: earlier + rows.read().len() }
        });
        let window = RwSignal::new(Window::NEWEST);
        Self {
            scroller: NodeRef::new(),
            manager,
            rows,
            places,
            window,
            blocks: Memo::new(move |_| window.get().blocks(places.get())),
            is_following: RwSignal::new(true),
            is_at_end: RwSignal::new(true),
            last_scroll: StoredValue::new(Scroll::default()),
            has_slid: StoredValue::new(false),
            is_settling: StoredValue::new(false),
            asked: StoredValue::new(0),
        }
    }

    /// Keeps the end in view while it is followed, and around the view as many turns as are needed.
    pub fn run(self) {
        let Self { manager, rows, blocks, .. } = self;
        Effect::new(move |_| {
            let _ = manager.live.read();
            let _ = manager.notice.read();
            rows.with(|rows| {
                if let Some(row) = rows.last() {
                    row.turn.message.track();
                }
            });
            blocks.track();
            self.is_following.track();
            self.settle_soon();
        });
        Effect::new(move |_| {
            manager.visits.track();
            let first = self.places.with(|places| places.earlier) + self.held_on_page().start;
            manager.need_from(first);
        });
        Effect::new(move |_| {
            // In a narrower window, or above a keyboard that comes up, the end is elsewhere.
            let resized = window_event_listener(leptos::ev::resize, move |_| self.settle_soon());
            on_cleanup(move || resized.remove());
        });
        Effect::new(move |_| {
            // So it is where what stands below takes more room: a longer message, what waits to be sent, a notice.
            let Some(scroller) = self.scroller.get() else { return };
            let end = StoredValue::new_local(Some(browser::on_resize(&scroller, Box::new(move || self.settle_soon()))));
            on_cleanup(move || {
                if let Some(Some(end)) = end.try_update_value(Option::take) {
                    end();
                }
            });
        });
    }

    /// The blocks that are on the page.
    pub fn blocks(self) -> Range<usize> {
        self.blocks.get()
    }

    /// The turns of a block.
    pub fn rows_of(self, block: usize) -> Vec<Row> {
        let range = self.places.read().of_block(block);
        self.rows.with(|rows| rows.get(range).map(<[Row]>::to_vec).unwrap_or_default())
    }

    /// How many turns come before the first one on the page.
    pub fn earlier_turns(self) -> usize {
        self.places.read().earlier + self.held_on_page().start
    }

    /// Which of the held turns are on the page.
    fn held_on_page(self) -> Range<usize> {
        let (places, blocks) = (self.places.get(), self.blocks.get());
        if blocks.is_empty() {
            return 0..0;
        }
        places.of_block(blocks.start).start..places.of_block(blocks.end - 1).end
    }

    /// Whether nothing is to be seen further down, or it is on its way into view.
    pub fn is_at_newest(self) -> bool {
        self.is_at_end.get() || self.is_following.get()
    }

    /// Shows the end of the conversation, and follows it.
    pub fn go_to_newest(self) {
        self.window.set(Window::NEWEST);
        self.asked.set_value(0);
        self.is_following.set(true);
    }

    /// Keeps on the page what is there when the conversation takes another way below it.
    pub fn pin(self) {
        self.window.update(|window| *window = window.pinned(self.places.get_untracked()));
    }

    /// Adds earlier turns at the person's wish, also where they could not be loaded before.
    pub fn show_earlier(self) {
        self.asked.set_value(BLOCKS_ASKED);
        let (places, window) = (self.places.get_untracked(), self.window.get_untracked());
        if window.nears_beginning(places) {
            self.manager.load_earlier();
        }
        self.settle_soon();
    }

    /// Notes where the person scrolls to.
    pub fn on_scroll(self) {
        let Some(scroller) = self.scroller.get_untracked() else { return };
        let scroll = Scroll::of(&scroller);
        let before = self.last_scroll.get_value();
        self.last_scroll.set_value(scroll);
        let has_slid = self.has_slid.try_update_value(std::mem::take) == Some(true);
        let at_end = self.note_end(&scroller);
        let follows = if scroll.was_moved_up_from(before) {
            false
        } else {
            self.is_following.get_untracked() || at_end && scroll.top > before.top && !has_slid
        };
        if follows != self.is_following.get_untracked() {
            self.is_following.set(follows);
        }
        self.settle_soon();
    }

    /// Says whether the end is in view, and notes it.
    fn note_end(self, scroller: &Element) -> bool {
        let is_to_newest = self.window.with_untracked(|window| window.is_to_newest(self.places.get_untracked()));
        let at_end = is_to_newest && browser::is_at_end(scroller);
        if at_end != self.is_at_end.get_untracked() {
            self.is_at_end.set(at_end);
        }
        at_end
    }

    /// Once in each frame, so that none has to make more than a block.
    fn settle_soon(self) {
        if self.is_settling.try_update_value(|is| std::mem::replace(is, true)) == Some(false) {
            request_animation_frame(move || self.settle());
        }
    }

    fn settle(self) {
        let _ = self.is_settling.try_set_value(false);
        let Some(Some(scroller)) = self.scroller.try_get_untracked() else { return };
        if self.is_following.get_untracked() {
            if !self.window.with_untracked(|window| window.is_to_newest(self.places.get_untracked())) {
                self.window.set(Window::NEWEST);
                return;
            }
            browser::scroll_to_end(&scroller);
            // The first view was scrolled before anything here listened.
            self.last_scroll.set_value(Scroll::of(&scroller));
        }
        self.note_end(&scroller);
        self.slide();
    }

    /// Adds a block where the end of what is on the page comes near, and takes one away at the other end.
    fn slide(self) {
        let Some(scroller) = self.scroller.get_untracked() else { return };
        let scroll = Scroll::of(&scroller);
        if scroll.view == 0 {
            return;
        }
        let (places, window) = (self.places.get_untracked(), self.window.get_untracked());
        // While the end is followed, what is above comes only where it would be seen.
        let is_looking_up = !self.is_following.get_untracked() || scroll.height < 2 * scroll.view;
        let asked = self.asked.get_value();
        if asked > 0 || is_looking_up && scroll.top < scroll.margin() {
            if window.nears_beginning(places) && *self.manager.earlier.read_untracked() == Earlier::Idle {
                self.manager.load_earlier();
            }
            if self.change(&scroller, window.with_earlier(places, self.in_use())) {
                self.asked.set_value(asked.saturating_sub(1));
                return;
            }
        }
        if !window.is_to_newest(places) && scroll.below() < scroll.margin() {
            self.change(&scroller, window.with_later(places, self.in_use()));
        }
    }

    /// Whether a block holds a turn that has the focus or a part of what is selected.
    fn in_use(self) -> impl Fn(usize) -> bool {
        move |block| {
            let ids = browser::turns_in_use();
            let range = self.places.get_untracked().of_block(block);
            self.rows
                .with_untracked(|rows| rows.get(range).unwrap_or_default().iter().any(|row| ids.contains(&row.turn.id)))
        }
    }

    /// Puts other turns on the page, without moving what is in view; false where they are the same.
    fn change(self, scroller: &Element, window: Window) -> bool {
        let places = self.places.get_untracked();
        if window.blocks(places) == self.blocks.get_untracked() {
            return false;
        }
        self.has_slid.set_value(true);
        let restore = browser::hold_view(scroller);
        self.window.set(window);
        // The page is changed by effects that this has just called for, all of them before the next frame.
        spawn_local(async move { restore() });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrolling_up_is_told_from_what_the_browser_moves() {
        let before = Scroll { top: 500, height: 2_000, view: 800 };
        assert!(Scroll { top: 480, ..before }.was_moved_up_from(before));
        assert!(!Scroll { top: 520, ..before }.was_moved_up_from(before));
        assert!(!Scroll { top: 480, height: 1_900, ..before }.was_moved_up_from(before), "it shrank");
        assert!(!Scroll { top: 400, view: 1_600, ..before }.was_moved_up_from(before), "the view grew");
    }

    #[test]
    fn more_is_kept_around_a_higher_view_within_limits() {
        let margin = |view| Scroll { view, ..Scroll::default() }.margin();
        assert_eq!([400, 800, 2_160].map(margin), [1_200, 1_600, 2_500]);
    }
}
