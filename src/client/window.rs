//! Which turns of a long conversation are on the page. Pure.
//!
//! Turns come and go in blocks of a few, which are counted from the beginning of the conversation, so that a turn stays in its
//! block when earlier ones are loaded or new ones are said.

use std::ops::Range;

/// Turns in a block. One block is added at a time, so that no frame has more to do than these.
pub const BLOCK_TURNS: usize = 2;

/// Turns that are on the page at first.
const TURNS_AT_FIRST: usize = 30;

/// Blocks that are on the page at most …
const MOST_BLOCKS: usize = 80;

/// … and while one that would go is in use: holds the focus or what is selected.
const MOST_BLOCKS_IN_USE: usize = 200;

/// Blocks that are held before the first on the page before earlier turns are asked for.
const AHEAD_BLOCKS: usize = 25;

/// The shown conversation as far as it is held, as places in the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// How many turns come before those that are held.
    pub earlier: usize,
    /// How many turns the whole has.
    pub total: usize,
}

impl Places {
    /// The blocks of which all turns are held.
    fn blocks(self) -> Range<usize> {
        self.earlier.div_ceil(BLOCK_TURNS)..self.total.div_ceil(BLOCK_TURNS)
    }

    /// The turns of a block, as positions among those that are held.
    pub fn of_block(self, block: usize) -> Range<usize> {
        let held = |place: usize| place.min(self.total).saturating_sub(self.earlier);
        held(block * BLOCK_TURNS)..held((block + 1) * BLOCK_TURNS)
    }
}

/// What part of the conversation is on the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first block; `None`: as many as are on the page at first.
    start: Option<usize>,
    /// The block behind the last; `None`: to the newest turn, whatever is added.
    end: Option<usize>,
}

impl Window {
    /// The end of the conversation, as it is shown at first.
    pub const NEWEST: Self = Self { start: None, end: None };

    /// The blocks that are on the page.
    pub fn blocks(self, places: Places) -> Range<usize> {
        let held = places.blocks();
        let end = self.end.unwrap_or(held.end).min(held.end);
        let start = match (self.start, self.end) {
            (None, _) => places.total.saturating_sub(TURNS_AT_FIRST) / BLOCK_TURNS,
            // What is said at the end pushes out what is at the beginning.
            (Some(start), None) => start.max(end.saturating_sub(MOST_BLOCKS_IN_USE)),
            (Some(start), Some(_)) => start,
        };
        start.max(held.start).min(end)..end
    }

    /// Whether the newest turn is on the page.
    pub fn is_to_newest(self, places: Places) -> bool {
        self.end.is_none_or(|end| end >= places.blocks().end)
    }

    /// Whether earlier turns must be asked for soon, because few are left before those on the page.
    pub fn nears_beginning(self, places: Places) -> bool {
        places.earlier > 0 && self.blocks(places).start < places.blocks().start + AHEAD_BLOCKS
    }

    /// One block more at the beginning. If that makes too many, the last goes, except where `in_use` says that it is.
    pub fn with_earlier(self, places: Places, in_use: impl Fn(usize) -> bool) -> Self {
        let Range { start, end } = self.blocks(places);
        let start = start.saturating_sub(1).max(places.blocks().start).min(start);
        let most = start + most_blocks(end - start, || in_use(end - 1));
        let end = if end > most { Some(most) } else { self.end };
        Self { start: Some(start), end }
    }

    /// One block more at the end. If that makes too many, the first goes, except where `in_use` says that it is.
    pub fn with_later(self, places: Places, in_use: impl Fn(usize) -> bool) -> Self {
        let (Range { start, end }, newest) = (self.blocks(places), places.blocks().end);
        let end = (end + 1).min(newest);
        let least = end.saturating_sub(most_blocks(end - start, || in_use(start)));
        Self { start: Some(start.max(least)), end: (end < newest).then_some(end) }
    }

    /// The same blocks, also when the conversation goes on otherwise after them.
    pub fn pinned(self, places: Places) -> Self {
        let blocks = self.blocks(places);
        Self { start: Some(blocks.start), end: Some(blocks.end) }
    }
}

/// How many blocks may stay of so many, of which the one that would go first may be in use.
fn most_blocks(count: usize, is_in_use: impl Fn() -> bool) -> usize {
    if count > MOST_BLOCKS && is_in_use() { MOST_BLOCKS_IN_USE } else { MOST_BLOCKS }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_IN_USE: fn(usize) -> bool = |_| false;

    #[test]
    fn a_short_conversation_is_on_the_page_whole() {
        for total in [0, 1, 29, 31] {
            let places = Places { earlier: 0, total };
            let blocks = Window::NEWEST.blocks(places);
            assert_eq!(blocks, 0..total.div_ceil(BLOCK_TURNS), "{total}");
            assert!(!Window::NEWEST.nears_beginning(places));
        }
        let places = Places { earlier: 0, total: 7 };
        assert_eq!((places.of_block(0), places.of_block(3)), (0..2, 6..7));
    }

    #[test]
    fn a_long_one_is_shown_from_its_end_and_only_as_far_as_it_is_held() {
        let places = Places { earlier: 903, total: 1_003 };
        assert_eq!(Window::NEWEST.blocks(places), 486..502);
        assert_eq!((places.of_block(486), places.of_block(501)), (69..71, 99..100));
        let mut window = Window::NEWEST;
        for _ in 0..40 {
            window = window.with_earlier(places, NOT_IN_USE);
        }
        assert_eq!(window.blocks(places), 452..502, "the block of 902 and 903 is not held whole");
        assert!(window.nears_beginning(places));
    }

    #[test]
    fn no_more_than_the_most_are_on_the_page_however_far_it_goes() {
        let places = Places { earlier: 0, total: 10_000 };
        let mut window = Window::NEWEST;
        for _ in 0..6_000 {
            window = window.with_earlier(places, NOT_IN_USE);
            let blocks = window.blocks(places);
            assert!(blocks.len() >= TURNS_AT_FIRST / BLOCK_TURNS && blocks.len() <= MOST_BLOCKS, "{blocks:?}");
        }
        assert_eq!(window.blocks(places), 0..MOST_BLOCKS);
        assert!(!window.is_to_newest(places) && !window.with_later(places, NOT_IN_USE).is_to_newest(places));
        window = window.with_earlier(places, NOT_IN_USE);
        assert_eq!(window.blocks(places), 0..MOST_BLOCKS, "there is nothing before");
        for _ in 0..6_000 {
            window = window.with_later(places, NOT_IN_USE);
        }
        assert_eq!(window.blocks(places), 5_000 - MOST_BLOCKS..5_000);
        assert!(window.is_to_newest(places));
        assert_eq!(window.blocks(Places { total: 10_001, ..places }).end, 5_001, "what is added comes by itself");
        assert_eq!(window.blocks(Places { total: 20_000, ..places }).len(), MOST_BLOCKS_IN_USE);
    }

    #[test]
    fn what_is_in_use_stays_for_a_while() {
        let places = Places { earlier: 0, total: 10_000 };
        let mut window = Window::NEWEST;
        for _ in 0..150 {
            window = window.with_earlier(places, |block| block == 4_999);
        }
        assert_eq!(window.blocks(places).end, 5_000);
        for _ in 0..400 {
            window = window.with_earlier(places, |block| block == 4_999);
        }
        assert_eq!(window.blocks(places).len(), MOST_BLOCKS);
    }

    #[test]
    fn earlier_and_later_turns_leave_a_pinned_window_where_it_is() {
        let places = Places { earlier: 100, total: 1_000 };
        let window = Window { start: Some(440), end: None }.pinned(places);
        assert_eq!(window.blocks(places), 440..500);
        assert_eq!(window.blocks(Places { earlier: 0, total: 2_000 }), 440..500);
        assert_eq!(window.blocks(Places { earlier: 0, total: 900 }), 440..450);
        assert_eq!(window.blocks(Places { earlier: 0, total: 30 }), 15..15);
    }
}
