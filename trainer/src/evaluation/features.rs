//! Features of a data set: what a checkpoint's encoder makes of whole images, one vector an image.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_model::{Device, Engine, Pixels};
use patchstream_pipeline::PatchStream;

use crate::cli::Pool;
use crate::report::UserError;
use crate::training::checkpoint::Checkpoint;

/// How features are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeatureOptions {
    pub(crate) device: Device,
    pub(crate) pool: Pool,
    pub(crate) batch_size: NonZeroUsize,
    /// Threads that decode.
    pub(crate) workers: NonZeroUsize,
}

/// Features of a batch of images.
pub(crate) struct FeatureBatch {
    pub(crate) sample_ids: Vec<u64>,
    pub(crate) labels: Vec<Option<i64>>,
    /// (B, D)
    pub(crate) values: Vec<f32>,
}

/// Features of a data set, batch by batch in manifest order. A sample that cannot be decoded is left out.
pub(crate) struct FeatureStream {
    engine: Box<dyn Engine>,
    stream: PatchStream,
    pool: Pool,
    /// A bad sample's row shows another sample, which must not count twice.
    seen: HashSet<u64>,
}

/// A labelled data set as vectors.
pub(crate) struct Labelled {
    /// D
    pub(crate) width: usize,
    /// (N, D)
    pub(crate) values: Vec<f32>,
    /// N classes, as numbers of the manifest's list.
    pub(crate) labels: Vec<usize>,
    pub(crate) class_names: Vec<String>,
}

impl FeatureStream {
    /// Starts the pipeline. The caller's rayon pool does the encoder's work.
    pub(crate) fn open(
        checkpoint: &Checkpoint,
        dataset: Arc<Dataset>,
        options: FeatureOptions,
    ) -> anyhow::Result<Self> {
        let config = &checkpoint.config;
        let engine = checkpoint.engine(options.device)?;
        let schedule = Schedule {
            seed: 0,
            shuffle: Shuffle::Sequential,
            batch_size: options.batch_size,
            share: Share::WHOLE,
            last_batch: LastBatch::Keep,
            start: Cursor::default(),
            end_epoch: Some(1),
        };
        let mut pipeline = config.evaluation_pipeline()?;
        pipeline.masking.ratio = 0.0;
        pipeline.workers = options.workers;
        let stream = PatchStream::start(dataset, schedule, &pipeline)?;
        Ok(Self { engine, stream, pool: options.pool, seen: HashSet::new() })
    }

    /// D
    pub(crate) fn width(&self) -> usize {
        self.engine.config().encoder.width * if self.pool == Pool::Both { 2 } else { 1 }
    }

    /// Samples left out so far because they could not be decoded.
    pub(crate) fn left_out(&self) -> u64 {
        self.stream.snapshot().quarantined
    }

    /// The next batch; nothing at the end of the data set.
    pub(crate) fn next_batch(&mut self) -> anyhow::Result<Option<FeatureBatch>> {
        let Some(batch) = self.stream.next().transpose()? else { return Ok(None) };
        let width = self.engine.config().encoder.width;
        let tokens = self.engine.encode(batch.rows(), Pixels::Bytes(batch.visible()))?; // (B, 1 + L, D)
        let mut out = FeatureBatch { sample_ids: Vec::new(), labels: Vec::new(), values: Vec::new() };
        for (row, tokens) in tokens.chunks_exact(tokens.len() / batch.rows()).enumerate() {
            let sample_id = batch.sample_ids()[row];
            if self.seen.insert(sample_id) {
                out.sample_ids.push(sample_id);
                out.labels.push(batch.label(row));
                pool(self.pool, tokens, width, &mut out.values);
            }
        }
        Ok(Some(out))
    }
}

/// Adds the vector of one image's tokens (1 + L, width) to `out`.
fn pool(pool: Pool, tokens: &[f32], width: usize, out: &mut Vec<f32>) {
    let (class, patches) = tokens.split_at(width);
    if pool != Pool::Mean {
        out.extend_from_slice(class);
    }
    if pool != Pool::Class {
        let start = out.len();
        out.resize(start + width, 0.0);
        let mean = &mut out[start..];
        for patch in patches.chunks_exact(width) {
            mean.iter_mut().zip(patch).for_each(|(sum, value)| *sum += value);
        }
        let count = (patches.len() / width) as f32;
        for sum in mean {
            *sum /= count;
        }
    }
}

impl Labelled {
    /// Encodes a whole data set, every image of which must have a label.
    pub(crate) fn collect(checkpoint: &Checkpoint, location: &str, options: FeatureOptions) -> anyhow::Result<Self> {
        let dataset = Arc::new(Dataset::open(location)?);
        let class_names = dataset.manifest().class_names().to_vec();
        let mut stream = FeatureStream::open(checkpoint, dataset, options)?;
        let mut all = Self { width: stream.width(), values: Vec::new(), labels: Vec::new(), class_names };
        while let Some(batch) = stream.next_batch()? {
            all.values.extend_from_slice(&batch.values);
            for (sample_id, label) in batch.sample_ids.iter().zip(&batch.labels) {
                let label = label.and_then(|label| usize::try_from(label).ok()).filter(|label| *label < CLASSES_MAX);
                all.labels.push(label.ok_or_else(|| {
                    UserError::new(format!(
                        "sample {sample_id} of `{location}` has no label, expected a class below {CLASSES_MAX}"
                    ))
                    .hint("convert images in a folder a class, or use `patchstream features`")
                })?);
            }
        }
        anyhow::ensure!(!all.labels.is_empty(), "`{location}` has no image that can be decoded");
        Ok(all)
    }

    /// Classes up to the highest label of either data set; their names must be the same where both have some.
    pub(crate) fn classes_with(&self, test: &Self) -> anyhow::Result<usize> {
        let both_named = !self.class_names.is_empty() && !test.class_names.is_empty();
        if both_named && self.class_names != test.class_names {
            return Err(UserError::new(format!(
                "the two data sets have different classes: {} against {}",
                listed(&self.class_names),
                listed(&test.class_names)
            ))
            .hint("labels are numbers, and would mean different things")
            .into());
        }
        let highest = self.labels.iter().chain(&test.labels).max().context("no labels")?;
        Ok(highest + 1)
    }

    pub(crate) fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The vector of an image.
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }
}

/// A label beyond this is not a class but damage; scores of all classes are held for each image.
const CLASSES_MAX: usize = 1 << 20;

fn listed(names: &[String]) -> String {
    let few = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    format!("{} ({few}{})", names.len(), if names.len() > 5 { ", ..." } else { "" })
}
