//! Random numbers that depend on nothing but their key.
//!
//! What is drawn for a sample is a function of (seed, epoch, sample, repeat, purpose), so neither the number of
//! threads, nor the rank, nor a restart changes one byte of a batch. The key's words are absorbed one after the other
//! by `SplitMix64`'s output function (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014,
//! with Stafford's variant 13 of the mixer), then `SplitMix64` counts on from there. The values are part of the data
//! contract: a test pins them.

/// What a draw is for; each purpose has a stream of its own, so that drawing more for one never shifts another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The random resized crop.
    Crop = 1,
    /// The horizontal flip.
    Flip = 2,
    /// The mask.
    Mask = 3,
}

/// Identifies one view of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleKey {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// The sample's position in manifest order.
    pub sample_id: u64,
    /// Which of several views of the sample in one epoch.
    pub repeat: u64,
}

/// A generator for one key and purpose.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

/// `SplitMix64`'s increment, 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s output function, a bijection of 64 bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The generator of this key for this purpose.
    pub fn new(key: SampleKey, purpose: Purpose) -> Self {
        let SampleKey { seed, epoch, sample_id, repeat } = key;
        let words = [seed, epoch, sample_id, repeat, purpose as u64];
        Self { state: words.into_iter().fold(0, |state, word| mix((state ^ word).wrapping_add(GAMMA))) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A number in [0, 1) of 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number below `bound`, which must not be zero, each equally likely (Lemire, "Fast Random Integer
    /// Generation in an Interval", 2019).
    pub fn below(&mut self, bound: u32) -> u32 {
        debug_assert!(bound > 0);
        let mut product = u64::from(self.bits() as u32) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.bits() as u32) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey { seed: 1, epoch: 2, sample_id: 3, repeat: 4 };

    /// These values must never change: batches of every existing run depend on them.
    #[test]
    fn values_are_pinned() {
        let draw = |purpose| {
            let mut random = Random::new(KEY, purpose);
            [random.bits(), random.bits(), u64::from(random.below(1000)), random.unit().to_bits()]
        };
        assert_eq!(draw(Purpose::Crop), PINNED[0]);
        assert_eq!(draw(Purpose::Flip), PINNED[1]);
        assert_eq!(draw(Purpose::Mask), PINNED[2]);
    }

    const PINNED: [[u64; 4]; 3] = [
        [0x0eaf_cd2e_4a23_7559, 0xfe8b_5f41_2fa6_ad3b, 256, 0x3fd1_c027_c36a_1230],
        [0xe828_6650_5cfb_3de9, 0x559f_2006_a108_160d, 36, 0x3f89_2762_a029_3380],
        [0x15bb_d1e6_9552_a633, 0x34bb_f215_f42b_75dc, 184, 0x3fe7_acb2_c243_601f],
    ];

    #[test]
    fn every_word_of_the_key_matters() {
        let first = |key, purpose| Random::new(key, purpose).bits();
        let mut values = vec![first(KEY, Purpose::Crop), first(KEY, Purpose::Flip)];
        values.push(first(SampleKey { seed: 9, ..KEY }, Purpose::Crop));
        values.push(first(SampleKey { epoch: 9, ..KEY }, Purpose::Crop));
        values.push(first(SampleKey { sample_id: 9, ..KEY }, Purpose::Crop));
        values.push(first(SampleKey { repeat: 9, ..KEY }, Purpose::Crop));
        // The order of the words matters as well: seed and epoch exchanged is another stream.
        values.push(first(SampleKey { seed: 2, epoch: 1, ..KEY }, Purpose::Crop));
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 7);
    }

    #[test]
    fn below_is_even_and_unit_is_in_range() {
        let mut random = Random::new(KEY, Purpose::Mask);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }
}
