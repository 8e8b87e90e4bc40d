//! A fence around the libraries that read Parquet and lists, which assert where a damaged file should be an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs something that reads untrusted bytes with such a library; a panic in it is damage, not the end of the program.
pub(crate) fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What a panic leaves half-read belongs to `read`, and is dropped with it.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the library that reads it gave up on it".to_owned()))
}
