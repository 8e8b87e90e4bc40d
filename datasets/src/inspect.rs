//! What is in a data set, and whether it is whole.

mod sample;
mod summary;
#[cfg(test)]
mod tests;
mod verification;

pub use self::sample::{measure_pixels, sample_rows};
pub use self::summary::{ClassCount, Distribution, Oddities, SUMMARY_ROWS_MAX, Summary, summarize};
pub use self::verification::{DamagedGroup, DamagedRow, Verification, verify};
