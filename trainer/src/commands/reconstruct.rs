//! `patchstream reconstruct`: a picture of originals, masked images and reconstructions.

use std::io::Cursor as Bytes;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_model::{DfdxEngine, Engine as _};
use patchstream_pipeline::PatchStream;
use serde::Serialize;

use super::{print, print_json};
use crate::cli::ReconstructArgs;
use crate::picture::{self, Sample, VisiblePatches};
use crate::report::UserError;
use crate::training::checkpoint::Checkpoint;
use crate::training::{self, patch_input};

#[derive(Serialize)]
struct Report {
    picture: String,
    images: usize,
    sample_ids: Vec<u64>,
    /// Mean over the masked patches of the images, in the space of the model's target.
    loss: f32,
    step: u64,
}

pub(crate) fn run(arguments: &ReconstructArgs) -> anyhow::Result<()> {
    let folder = arguments.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(UserError::new(format!("folder `{}` for the picture does not exist", folder.display())).into());
    }
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let config = &checkpoint.config;
    let dataset = Arc::new(Dataset::open(&arguments.data)?);
    let images = arguments.images.min(rows(&dataset)?);
    let mut engine = DfdxEngine::new(config.model.clone(), config.pixel_scale(), arguments.seed)?;
    checkpoint.load_weights(&mut engine)?;

    let schedule = Schedule {
        seed: arguments.seed,
        shuffle: Shuffle::Window(NonZeroUsize::MIN),
        batch_size: images,
        share: Share::WHOLE,
        last_batch: LastBatch::Drop,
        start: Cursor { epoch: 0, batch: 0 },
        end_epoch: Some(1),
    };
    let mut stream = PatchStream::start(dataset, schedule, &config.evaluation_pipeline()?)?;
    let batch = stream.next().context("the data set gave no batch")??;
    drop(stream);
    let prediction = engine.predict(&patch_input(&batch))?;

    let rows = batch.rows();
    let visible = if arguments.predict_visible { VisiblePatches::Predict } else { VisiblePatches::Paste };
    let panels: Vec<_> = (0..rows)
        .map(|row| {
            let sample = Sample {
                visible: part(batch.visible(), row, rows),
                visible_index: part(batch.visible_index(), row, rows),
                masked: part(batch.masked(), row, rows),
                masked_index: part(batch.masked_index(), row, rows),
                prediction: part(&prediction.patches, row, rows),
            };
            picture::panels(&config.model, &config.pixel_scale(), &sample, visible)
        })
        .collect();
    let mut png = Bytes::new(Vec::new());
    picture::sheet(&panels).write_to(&mut png, image::ImageFormat::Png)?;
    training::write_whole(&arguments.out, png.get_ref())?;

    let report = Report {
        picture: arguments.out.display().to_string(),
        images: rows,
        sample_ids: batch.sample_ids().to_vec(),
        loss: prediction.loss,
        step: checkpoint.position.step,
    };
    if arguments.json {
        return print_json(&report);
    }
    print(&format!(
        "{}: {rows} images after step {}, loss {:.4}; each is original, masked, reconstruction\n",
        report.picture, report.step, report.loss
    ))
}

fn rows(dataset: &Dataset) -> anyhow::Result<NonZeroUsize> {
    usize::try_from(dataset.manifest().rows()).ok().and_then(NonZeroUsize::new).context("the data set has no images")
}

/// The share of one row in values that belong to `rows` rows.
fn part<T>(values: &[T], row: usize, rows: usize) -> &[T] {
    let each = values.len() / rows;
    &values[row * each..][..each]
}
