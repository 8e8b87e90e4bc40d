//! A counter-based random generator: the n-th number of a stream is a pure function of the stream's key and n.

use xxhash_rust::xxh3::xxh3_64;

/// A stream of random numbers, keyed by a list of words.
///
/// The key is the XXH3-64 of the words (little endian); the numbers are `SplitMix64`'s (Steele, Lea, Flood 2014), whose
/// state is a counter, so streams of different keys can be made anywhere and in any order.
#[derive(Debug, Clone)]
pub struct RandomStream {
    state: u64,
}

impl RandomStream {
    /// The stream that belongs to `key`; by convention the seed comes first and a purpose last.
    pub fn new(key: &[u64]) -> RandomStream {
        let bytes: Vec<u8> = key.iter().flat_map(|word| word.to_le_bytes()).collect();
        RandomStream { state: xxh3_64(&bytes) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, every one equally likely (Lemire 2019, arXiv 1805.10941).
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts `items` in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_fixed_for_ever() {
        // These numbers decide the order of every epoch: a change of them breaks resuming and reproducing.
        let mut stream = RandomStream::new(&[1, 2, 3]);
        let first: Vec<u64> = (0..3).map(|_| stream.next_u64()).collect();
        let mut again = RandomStream::new(&[1, 2, 3]);
        assert_eq!(first, (0..3).map(|_| again.next_u64()).collect::<Vec<_>>());
        let mut items: Vec<u32> = (0..10).collect();
        RandomStream::new(&[7]).shuffle(&mut items);
        assert_eq!(items, GOLDEN_SHUFFLE);
    }

    const GOLDEN_SHUFFLE: [u32; 10] = [0; 10];

    #[test]
    fn below_is_roughly_uniform() {
        let mut stream = RandomStream::new(&[0]);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
    }
}
