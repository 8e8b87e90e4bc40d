//! `patchstream features`: embeddings of a data set as a Parquet file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use patchstream_datasets::Dataset;
use serde::Serialize;

use super::{compute_pool, feature_options, print, print_json};
use crate::cli::FeaturesArgs;
use crate::evaluation::features::{FeatureBatch, FeatureStream};
use crate::training;
use crate::training::checkpoint::Checkpoint;

#[derive(Serialize)]
struct Report {
    file: String,
    images: u64,
    /// Images that could not be decoded.
    left_out: u64,
    width: usize,
    pool: &'static str,
    step: u64,
}

pub(crate) fn run(arguments: &FeaturesArgs) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::open(&arguments.features.checkpoint)?;
    let dataset = Arc::new(Dataset::open(&arguments.data)?);
    let pool = arguments.features.pool.name();
    let metadata = [
        ("patchstream.step", checkpoint.position.step.to_string()),
        ("patchstream.pool", pool.to_owned()),
        ("patchstream.data", format!("{:016x}", dataset.manifest().fingerprint())),
    ];
    let report = compute_pool(arguments.features.threads)?.install(|| {
        let mut stream = FeatureStream::open(&checkpoint, dataset, feature_options(&arguments.features))?;
        let width = stream.width();
        let schema = schema(width, metadata);
        let mut images = 0;
        training::file_whole(&arguments.out, |file| {
            let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
            let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties.build()))?;
            while let Some(batch) = stream.next_batch()? {
                images += batch.sample_ids.len() as u64;
                writer.write(&record_batch(&schema, width, batch)?)?;
            }
            writer.finish()?;
            Ok(())
        })?;
        let (file, left_out) = (arguments.out.display().to_string(), stream.left_out());
        anyhow::Ok(Report { file, images, left_out, width, pool, step: checkpoint.position.step })
    })?;
    if arguments.features.json {
        return print_json(&report);
    }
    let left_out = if report.left_out == 0 { String::new() } else { format!(", {} left out", report.left_out) };
    print(&format!(
        "{}: {} embeddings of {} floats after step {}{left_out}\n",
        report.file, report.images, report.width, report.step
    ))
}

fn schema(width: usize, metadata: [(&str, String); 3]) -> SchemaRef {
    let fields = vec![
        Field::new("sample_id", DataType::UInt64, false),
        Field::new("label", DataType::Int64, true),
        Field::new_fixed_size_list("embedding", item(), width as i32, false),
    ];
    Arc::new(Schema::new_with_metadata(
        fields,
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<HashMap<_, _>>(),
    ))
}

fn item() -> Field {
    Field::new("item", DataType::Float32, false)
}

fn record_batch(schema: &SchemaRef, width: usize, batch: FeatureBatch) -> anyhow::Result<RecordBatch> {
    let values: ArrayRef = Arc::new(Float32Array::from(batch.values));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(batch.sample_ids)),
        Arc::new(Int64Array::from(batch.labels)),
        Arc::new(FixedSizeListArray::try_new(Arc::new(item()), width as i32, values, None)?),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
