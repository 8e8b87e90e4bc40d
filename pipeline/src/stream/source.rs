//! Where rows come from: shards, or whatever a test makes up.

use patchstream_datasets::{EncodedRow, PlannedRow, Replacer, RowStream};

use crate::error::PipelineError;

/// An image as it was stored.
pub(crate) trait EncodedImage: Send + 'static {
    fn sample_id(&self) -> u64;
    fn bytes(&self) -> &[u8];
    /// Where the restart segments of a JPEG begin, where that is known.
    fn segments(&self) -> Option<&[u32]>;
    fn path(&self) -> &str;
    fn label(&self) -> Option<i64>;
    /// To be asked when all is done that shall be done with the bytes: an error if some of them went away meanwhile.
    fn check(&self) -> Result<(), PipelineError>;
}

/// An image and its place in the plan; rows of a batch come one after the other, from place 0 on.
pub(crate) struct PlacedRow<R> {
    pub(crate) epoch: u64,
    pub(crate) batch: u64,
    pub(crate) place: usize,
    pub(crate) global_place: usize,
    pub(crate) rows_in_batch: usize,
    pub(crate) row: R,
}

/// Rows in plan order.
pub(crate) trait RowSource:
    Iterator<Item = Result<PlacedRow<Self::Row>, PipelineError>> + Send + 'static
{
    type Row: EncodedImage;
}

/// Replacements for bad samples, a pure function of their arguments.
pub(crate) trait Replacements<R>: Clone + Send + 'static {
    fn candidate(&self, epoch: u64, batch: u64, global_place: usize, attempt: u64) -> Result<R, PipelineError>;
}

impl EncodedImage for EncodedRow {
    fn sample_id(&self) -> u64 {
        self.sample_id()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes()
    }

    fn segments(&self) -> Option<&[u32]> {
        self.segments()
    }

    fn path(&self) -> &str {
        self.path()
    }

    fn label(&self) -> Option<i64> {
        self.label()
    }

    fn check(&self) -> Result<(), PipelineError> {
        Ok(self.check()?)
    }
}

/// Rows of Parquet shards.
pub(crate) struct ShardRows(pub(crate) RowStream);

impl Iterator for ShardRows {
    type Item = Result<PlacedRow<EncodedRow>, PipelineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.next()?.map_err(PipelineError::from);
        Some(row.map(|PlannedRow { epoch, batch, place, global_place, rows_in_batch, row }| PlacedRow {
            epoch,
            batch,
            place,
            global_place,
            rows_in_batch,
            row,
        }))
    }
}

impl RowSource for ShardRows {
    type Row = EncodedRow;
}

impl Replacements<EncodedRow> for Replacer {
    fn candidate(
        &self,
        epoch: u64,
        batch: u64,
        global_place: usize,
        attempt: u64,
    ) -> Result<EncodedRow, PipelineError> {
        Ok(self.candidate(epoch, batch, global_place, attempt)?)
    }
}
