//! Assembly: finished rows as an Arrow record batch, without a copy.
//!
//! Puts out a [`PatchBatch`], whose schema is [`schema`].

pub(crate) mod memory;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, PrimitiveArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt64Type};

use crate::geometry::PatchGrid;
use crate::mask::Masking;
use memory::{Section, Written};

/// The schema of patch batches: one row an image.
///
/// `sample_id: uint64`, `label: int64` nullable, `visible: uint8 [V, p, p, 3]`, `visible_index: uint16 [V]`,
/// `masked: uint8 [M, p, p, 3]`, `masked_index: uint16 [M]`. Tensors are fixed-size lists with Arrow's canonical
/// extension `arrow.fixed_shape_tensor`
/// (<https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor>).
pub fn schema(grid: &PatchGrid, masking: &Masking) -> SchemaRef {
    let visible = masking.visible_patches(grid.patches());
    let masked = grid.patches() - visible;
    let p = grid.patch_px as usize;
    Arc::new(Schema::new(vec![
        Field::new("sample_id", DataType::UInt64, false),
        Field::new("label", DataType::Int64, true),
        tensor("visible", DataType::UInt8, &[visible, p, p, 3]),
        tensor("visible_index", DataType::UInt16, &[visible]),
        tensor("masked", DataType::UInt8, &[masked, p, p, 3]),
        tensor("masked_index", DataType::UInt16, &[masked]),
    ]))
}

fn tensor(name: &str, values: DataType, shape: &[usize]) -> Field {
    let length = shape.iter().product::<usize>() as i32;
    Field::new_fixed_size_list(name, Field::new("item", values, false), length, false).with_metadata(HashMap::from([
        ("ARROW:extension:name".to_owned(), "arrow.fixed_shape_tensor".to_owned()),
        ("ARROW:extension:metadata".to_owned(), serde_json::json!({ "shape": shape }).to_string()),
    ]))
}

/// A batch of images as patches, visible and masked apart. B is [`PatchBatch::rows`].
///
/// Dropping it, and what was cloned from its record batch, gives the memory back to the pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchBatch {
    epoch: u64,
    batch: u64,
    record_batch: RecordBatch,
    bytes: usize,
}

/// The columns' positions in the schema.
const SAMPLE_ID: usize = 0;
const LABEL: usize = 1;
const VISIBLE: usize = 2;
const VISIBLE_INDEX: usize = 3;
const MASKED: usize = 4;
const MASKED_INDEX: usize = 5;

impl PatchBatch {
    /// Makes a record batch of a written block; `schema` must be that of the block's layout.
    pub(crate) fn assemble(epoch: u64, batch: u64, schema: &SchemaRef, written: &Written) -> Self {
        fn values<T: ArrowPrimitiveType>(written: &Written, section: Section, nulls: Option<NullBuffer>) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(written.buffer(section)), nulls))
        }
        let rows = written.layout().rows;
        let has_label = written.buffer(Section::HasLabel);
        let nulls = NullBuffer::new(BooleanBuffer::collect_bool(rows, |row| has_label[row] != 0));
        let list = |column: usize, values: ArrayRef| -> ArrayRef {
            let DataType::FixedSizeList(item, length) = schema.field(column).data_type() else {
                unreachable!("column {column} is a tensor")
            };
            let list = FixedSizeListArray::try_new_with_length(Arc::clone(item), *length, values, None, rows);
            Arc::new(list.expect("the layout has the schema's shapes"))
        };
        let columns = vec![
            values::<UInt64Type>(written, Section::SampleId, None),
            values::<Int64Type>(written, Section::Label, (nulls.null_count() > 0).then_some(nulls)),
            list(VISIBLE, values::<UInt8Type>(written, Section::Visible, None)),
            list(VISIBLE_INDEX, values::<UInt16Type>(written, Section::VisibleIndex, None)),
            list(MASKED, values::<UInt8Type>(written, Section::Masked, None)),
            list(MASKED_INDEX, values::<UInt16Type>(written, Section::MaskedIndex, None)),
        ];
        let record_batch = RecordBatch::try_new(Arc::clone(schema), columns).expect("columns match the schema");
        Self { epoch, batch, record_batch, bytes: written.layout().bytes() }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The global batch's number in its epoch.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Images in this batch, B.
    pub fn rows(&self) -> usize {
        self.record_batch.num_rows()
    }

    /// The batch as Arrow, with the schema of [`schema`].
    pub fn record_batch(&self) -> &RecordBatch {
        &self.record_batch
    }

    /// Which sample each row shows: `[B]`. A replaced bad sample's row has its replacement's id.
    pub fn sample_ids(&self) -> &[u64] {
        self.record_batch.column(SAMPLE_ID).as_primitive::<UInt64Type>().values()
    }

    /// The label of a row, if its sample has one.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn label(&self, row: usize) -> Option<i64> {
        let labels = self.record_batch.column(LABEL).as_primitive::<Int64Type>();
        labels.is_valid(row).then(|| labels.value(row))
    }

    /// Pixels of the visible patches: `[B, V, p, p, 3]`.
    pub fn visible(&self) -> &[u8] {
        self.tensor::<UInt8Type>(VISIBLE)
    }

    /// Places of the visible patches, ascending in each row: `[B, V]`.
    pub fn visible_index(&self) -> &[u16] {
        self.tensor::<UInt16Type>(VISIBLE_INDEX)
    }

    /// Pixels of the masked patches: `[B, M, p, p, 3]`.
    pub fn masked(&self) -> &[u8] {
        self.tensor::<UInt8Type>(MASKED)
    }

    /// Places of the masked patches, ascending in each row: `[B, M]`.
    pub fn masked_index(&self) -> &[u16] {
        self.tensor::<UInt16Type>(MASKED_INDEX)
    }

    /// Bytes of the block that the batch is in.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn tensor<T: ArrowPrimitiveType>(&self, column: usize) -> &[T::Native] {
        self.record_batch.column(column).as_fixed_size_list().values().as_primitive::<T>().values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::{Layout, Pool};

    #[test]
    fn a_written_block_becomes_a_record_batch_with_tensor_metadata() {
        let grid = PatchGrid::new(8, 8, 2).unwrap();
        let masking = Masking::default();
        let schema = schema(&grid, &masking);
        let layout = Layout { rows: 2, visible: 4, masked: 12, patch_bytes: 12 };
        let mut rows = Pool::new(1).lease(layout).take(2);
        for row in 0..2u8 {
            let slot = rows.slot(row.into());
            slot.visible.fill(row);
            slot.masked.fill(10 + row);
            slot.visible_index.copy_from_slice(&[0, 1, 2, 3]);
            slot.masked_index.fill(9);
            (*slot.sample_id, *slot.label, *slot.has_label) = (40 + u64::from(row), 5, row);
        }
        let batch = PatchBatch::assemble(3, 7, &schema, &rows.finish().unwrap());
        assert_eq!((batch.epoch(), batch.batch(), batch.rows()), (3, 7, 2));
        assert_eq!(batch.sample_ids(), [40, 41]);
        assert_eq!((batch.label(0), batch.label(1)), (None, Some(5)));
        assert_eq!((batch.visible().len(), batch.visible()[47], batch.visible()[48]), (96, 0, 1));
        assert_eq!((batch.masked().len(), batch.masked_index().len()), (288, 24));
        assert_eq!(batch.visible_index(), [0, 1, 2, 3, 0, 1, 2, 3]);
        let metadata = schema.field(VISIBLE).metadata();
        assert_eq!(metadata["ARROW:extension:name"], "arrow.fixed_shape_tensor");
        assert_eq!(metadata["ARROW:extension:metadata"], r#"{"shape":[4,2,2,3]}"#);
    }

    #[test]
    fn nothing_masked_gives_tensors_of_no_values() {
        let grid = PatchGrid::new(4, 4, 2).unwrap();
        let schema = schema(&grid, &Masking { ratio: 0.0, ..Masking::default() });
        let mut rows = Pool::new(1).lease(Layout { rows: 1, visible: 4, masked: 0, patch_bytes: 12 }).take(1);
        assert!(rows.slot(0).masked.is_empty());
        let batch = PatchBatch::assemble(0, 0, &schema, &rows.finish().unwrap());
        assert!(batch.masked().is_empty() && batch.masked_index().is_empty());
    }
}
