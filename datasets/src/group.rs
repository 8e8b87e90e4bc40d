//! Row groups in memory.
use std::sync::Arc;

/// One row group in memory.
#[derive(Debug)]
pub struct EncodedGroup {}

/// One row of a row group in memory.
#[derive(Debug, Clone)]
pub struct EncodedRow {
    #[allow(dead_code)]
    group: Arc<EncodedGroup>,
    #[allow(dead_code)]
    row: u32,
}

impl EncodedGroup {
    /// How many rows it has.
    pub fn rows(&self) -> u32 {
        todo!()
    }
    /// One of its rows.
    pub fn row(self: &Arc<Self>, _row: u32) -> Option<EncodedRow> {
        todo!()
    }
}

impl EncodedRow {
    /// The row's position in manifest order.
    pub fn sample_id(&self) -> u64 {
        todo!()
    }
    /// The encoded image.
    pub fn bytes(&self) -> &[u8] {
        todo!()
    }
    /// The path of the image in its source.
    pub fn path(&self) -> &str {
        todo!()
    }
    /// The class.
    pub fn label(&self) -> Option<i64> {
        todo!()
    }
}
