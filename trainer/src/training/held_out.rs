//! Evaluation on held-out shards while training goes on: the loss, and pictures of reconstructions.

use std::io::Cursor as Bytes;
use std::sync::Arc;

use anyhow::Context as _;
use image::RgbImage;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_model::Engine;
use patchstream_pipeline::PatchStream;
use serde::Serialize;

use super::step::patch_input;
use crate::picture::{self, VisiblePatches};
use crate::settings::RunConfig;

/// A held-out data set, opened and checked before the first step.
pub(crate) struct HeldOut {
    dataset: Arc<Dataset>,
    config: RunConfig,
}

/// A line of `evaluation.jsonl`.
#[derive(Serialize)]
pub(crate) struct EvaluationLine {
    /// Steps done.
    pub(crate) step: u64,
    /// Mean over the masked patches, in the space of the model's target.
    pub(crate) loss: f64,
    pub(crate) images: usize,
}

/// A picture as PNG.
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) png: Vec<u8>,
}

impl HeldOut {
    /// Opens the data set that the configuration names, if any.
    pub(crate) fn open(config: &RunConfig) -> anyhow::Result<Option<Self>> {
        let Some(path) = &config.evaluate.data else { return Ok(None) };
        let dataset = Dataset::open(path).with_context(|| format!("evaluate.data, `{path}`, cannot be used"))?;
        Ok(Some(Self { dataset: Arc::new(dataset), config: config.clone() }))
    }

    /// The loss on the first images, with the same masks every time, and a picture of the very first.
    pub(crate) fn evaluate(
        &self,
        engine: &mut dyn Engine,
        step: u64,
    ) -> anyhow::Result<(EvaluationLine, Option<Picture>)> {
        let config = &self.config;
        let schedule = Schedule {
            seed: config.train.seed,
            shuffle: Shuffle::Sequential,
            batch_size: config.train.batch_size.min(config.evaluate.images),
            share: Share::WHOLE,
            last_batch: LastBatch::Keep,
            start: Cursor::default(),
            end_epoch: Some(1),
        };
        let mut stream = PatchStream::start(Arc::clone(&self.dataset), schedule, &config.evaluation_pipeline()?)?;
        let (mut images, mut loss, mut picture) = (0, 0.0, None);
        while images < config.evaluate.images.get()
            && let Some(batch) = stream.next().transpose()?
        {
            let input = patch_input(&batch);
            let batch_loss = if images == 0 && config.evaluate.pictures > 0 {
                let prediction = engine.predict(&input)?;
                let mut panels = picture::of_batch(config, &batch, &prediction.patches, VisiblePatches::Paste);
                panels.truncate(config.evaluate.pictures);
                picture = Some(png(&picture::sheet(&panels))?);
                prediction.loss
            } else {
                engine.evaluate(&input)?
            };
            loss += f64::from(batch_loss) * batch.rows() as f64;
            images += batch.rows();
        }
        anyhow::ensure!(images > 0, "the held-out data set has no images");
        Ok((EvaluationLine { step, loss: loss / images as f64, images }, picture))
    }
}

fn png(sheet: &RgbImage) -> anyhow::Result<Picture> {
    let mut png = Bytes::new(Vec::new());
    sheet.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(Picture { width: sheet.width(), height: sheet.height(), png: png.into_inner() })
}
