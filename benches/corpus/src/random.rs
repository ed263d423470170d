//! The only source of chance: integers alone, so that every machine makes the same bytes.

/// A SplitMix64 generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

/// What the state grows by at each step: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Scatters a number over 64 bits. No two numbers give the same result.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The start of the stream that belongs to a number under a seed; `stream` tells uses of the same number apart.
pub(crate) fn stream_seed(seed: u64, stream: u64, number: u64) -> u64 {
    mix(mix(seed.wrapping_add(stream.wrapping_mul(STEP))).wrapping_add(number))
}

/// Where a number lies in a sequence that fills the range of 64 bits evenly however far it is taken.
pub(crate) fn even(seed: u64, number: u64) -> u64 {
    mix(seed).wrapping_add(number.wrapping_mul(STEP))
}

impl Random {
    /// Begins the stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "a stream without end is no iterator to anybody who uses it")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of the items, each as likely as the others. There must be one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// One of the texts. With [`Random::pick`] every caller would have to say that the items are references.
    pub(crate) fn pick_text<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len() as u64) as usize]
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number whose quantiles are given, evenly spaced: it falls between each two neighbours equally often.
    pub(crate) fn quantile(&mut self, quantiles: &[u64]) -> u64 {
        let piece = self.below(quantiles.len() as u64 - 1) as usize;
        self.between(quantiles[piece], quantiles[piece + 1])
    }

    /// A rank of which small ones are as much more frequent as Zipf's law says: each doubling is as likely as the next.
    pub(crate) fn rank(&mut self, doublings: u64) -> u64 {
        let first = 1 << self.below(doublings);
        first + self.below(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the published reference implementation for the seed 1234567.
    #[test]
    fn is_splitmix64() {
        let mut random = Random::new(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn stays_in_bounds() {
        let mut random = Random::new(3);
        for _ in 0..1000 {
            assert!(random.below(7) < 7);
            assert!((3..=5).contains(&random.between(3, 5)));
            assert!((1..16).contains(&random.rank(4)));
            assert!((2..=30).contains(&random.quantile(&[2, 10, 30])));
        }
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0) && random.chance(1000));
    }
}
