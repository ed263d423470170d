//! Which part of the key-value cache holds which conversation. Pure: it decides, the scheduler does.

/// A sequence of the cache and the tokens that it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slot<T> {
    /// The tokens that were read into it.
    pub tokens: Vec<T>,
    /// Whether an answer is being made in it.
    pub is_busy: bool,
    /// When it was used last, as a count that grows.
    pub last_used: u64,
}

/// Where a conversation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The slot that it takes.
    pub slot: usize,
    /// How many tokens of its beginning are in the cache already.
    pub kept: usize,
    /// The slot to copy them from; `None` where they are in the slot itself.
    pub copied_from: Option<usize>,
}

/// So many tokens of another conversation may be dropped for being in the way; reading them again takes a moment.
const CHEAP_TOKENS: usize = 64;

/// How many tokens two conversations have in common at their beginning.
pub fn common<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The best place for a conversation, or `None` where every slot is busy. At least its last token is left to be read, since what
/// follows it is wanted. `can_cut` says whether the model can forget the end of what it read.
pub fn place<T: PartialEq>(slots: &[Slot<T>], tokens: &[T], can_cut: bool) -> Option<Place> {
    let most = tokens.len().saturating_sub(1);
    let kept = |slot: &Slot<T>| common(&slot.tokens, tokens).min(most);
    let is_usable = |slot: &Slot<T>| can_cut || kept(slot) == slot.tokens.len();
    let idle = || slots.iter().enumerate().filter(|(_, slot)| !slot.is_busy);

    // A conversation that goes on, or one that is no loss, is written over from where it differs.
    let own = idle()
        .filter(|(_, slot)| is_usable(slot) && slot.tokens.len() - kept(slot) <= CHEAP_TOKENS)
        .max_by_key(|(_, slot)| (kept(slot), slot.tokens.len()))
        .map(|(index, slot)| Place { slot: index, kept: kept(slot), copied_from: None });
    // What others began with in the same way (the system prompt, a conversation with another end) is shared.
    let shared = slots.iter().enumerate().filter(|_| can_cut).max_by_key(|(_, slot)| kept(slot));
    if let Some(own) = own
        && shared.is_none_or(|(_, slot)| kept(slot) <= own.kept)
    {
        return Some(own);
    }
    let (oldest, _) = idle().min_by_key(|(_, slot)| (!slot.tokens.is_empty(), slot.last_used))?;
    Some(match shared {
        Some((source, slot)) if source == oldest => Place { slot: oldest, kept: kept(slot), copied_from: None },
        Some((source, slot)) if kept(slot) > 0 => Place { slot: oldest, kept: kept(slot), copied_from: Some(source) },
        _ => Place { slot: oldest, kept: 0, copied_from: None },
    })
}

/// The idle slot to empty when the cache is full: the one not used for longest.
pub fn oldest_idle<T>(slots: &[Slot<T>]) -> Option<usize> {
    let idle = slots.iter().enumerate().filter(|(_, slot)| !slot.is_busy && !slot.tokens.is_empty());
    idle.min_by_key(|(_, slot)| slot.last_used).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(tokens: &[u32], is_busy: bool, last_used: u64) -> Slot<u32> {
        Slot { tokens: tokens.to_vec(), is_busy, last_used }
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn a_conversation_goes_on_where_it_is() {
        let other: Vec<u32> = numbers(900..1200);
        let slots = [slot(&other, false, 1), slot(&numbers(0..100), false, 2), slot(&[], false, 0)];
        let place = place(&slots, &numbers(0..130), true).unwrap();
        assert_eq!(place, Place { slot: 1, kept: 100, copied_from: None });
        // The last token is always read.
        assert_eq!(self::place(&slots, &numbers(0..100), true).unwrap().kept, 99);
    }

    #[test]
    fn a_new_conversation_shares_the_beginning_of_another() {
        let slots = [slot(&numbers(0..500), true, 5), slot(&numbers(700..1000), false, 3), slot(&[], false, 0)];
        let mut tokens = numbers(0..140);
        tokens.extend(2000..2010);
        assert_eq!(place(&slots, &tokens, true).unwrap(), Place { slot: 2, kept: 140, copied_from: Some(0) });
        // The conversation that it shares with is not destroyed while another slot is free or older.
        let slots = [slot(&numbers(0..500), false, 5), slot(&numbers(700..1000), false, 3)];
        assert_eq!(place(&slots, &tokens, true).unwrap(), Place { slot: 1, kept: 140, copied_from: Some(0) });
        let slots = [slot(&numbers(0..500), false, 5), slot(&numbers(700..1000), true, 3)];
        assert_eq!(place(&slots, &tokens, true).unwrap(), Place { slot: 0, kept: 140, copied_from: None });
    }

    #[test]
    fn a_model_that_cannot_forget_begins_anew() {
        let slots = [slot(&numbers(0..100), false, 1), slot(&[], false, 0)];
        assert_eq!(place(&slots, &numbers(0..130), false).unwrap().kept, 100);
        let mut tokens = numbers(0..90);
        tokens.push(7);
        assert_eq!(place(&slots, &tokens, false).unwrap(), Place { slot: 1, kept: 0, copied_from: None });
    }

    #[test]
    fn there_may_be_no_place() {
        let slots = [slot(&[1], true, 0)];
        assert_eq!(place(&slots, &[1, 2], true), None);
        assert_eq!(oldest_idle(&slots), None);
        assert_eq!(oldest_idle(&[slot(&[1], false, 9), slot(&[2], false, 4), slot(&[], false, 0)]), Some(1));
    }
}
