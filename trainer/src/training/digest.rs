//! A rolling digest of the batches that a run has seen: a proof, 64 bits long, of every pixel, place and order.

use patchstream_pipeline::PatchBatch;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// XXH3-64 over the digest before and the batch: epoch, batch number, sample ids, masks and pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(u64);

impl Digest {
    /// The digest after one more batch.
    pub(crate) fn after(self, batch: &PatchBatch) -> Self {
        let mut hash = Xxh3::new();
        for number in [self.0, batch.epoch(), batch.batch(), batch.rows() as u64] {
            hash.update(&number.to_le_bytes());
        }
        for id in batch.sample_ids() {
            hash.update(&id.to_le_bytes());
        }
        for index in [batch.visible_index(), batch.masked_index()] {
            for place in index {
                hash.update(&place.to_le_bytes());
            }
        }
        hash.update(batch.visible());
        hash.update(batch.masked());
        Self(hash.digest())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}
