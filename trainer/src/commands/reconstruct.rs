//! `patchstream reconstruct`: a picture of originals, masked images and reconstructions.

use std::io::Cursor as Bytes;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context as _;
use patchstream_datasets::{Cursor, Dataset, LastBatch, Schedule, Share, Shuffle};
use patchstream_model::{NamedTensor, Prediction};
use patchstream_pipeline::{PatchBatch, PatchStream};
use serde::Serialize;

use super::{print, print_json};
use crate::cli::ReconstructArgs;
use crate::picture::{self, VisiblePatches};
use crate::report::UserError;
use crate::settings::RunConfig;
use crate::tensors::to_safetensors;
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
    let mut engine = checkpoint.engine(arguments.device)?;

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
    let panels = picture::of_batch(config, &batch, &prediction.patches, visible);
    let mut png = Bytes::new(Vec::new());
    picture::sheet(&panels).write_to(&mut png, image::ImageFormat::Png)?;
    training::write_whole(&arguments.out, png.get_ref())?;

    if let Some(path) = &arguments.tensors {
        training::write_whole(path, &tensors(config, &batch, &prediction)?)?;
    }

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

/// Images (B, 3, H, W) as the model sees them, masks (B, L) with 1 where a patch is hidden, latents (B, 1 + V, D) and
/// predictions (B, L, p * p * 3).
fn tensors(config: &RunConfig, batch: &PatchBatch, prediction: &Prediction) -> anyhow::Result<Vec<u8>> {
    let (model, scale) = (&config.model, config.pixel_scale());
    let (rows, patches, patch_values, patch_px) = (batch.rows(), model.patches(), model.patch_values(), model.patch_px);
    let (height, width, columns) = (model.image_height_px, model.image_width_px, model.grid_columns());
    let mut images = vec![0.0; rows * 3 * height * width];
    let mut mask = vec![0.0; rows * patches];
    let parts = [(batch.visible(), batch.visible_index(), 0.0), (batch.masked(), batch.masked_index(), 1.0)];
    for (pixels, index, hidden) in parts {
        let each = index.len() / rows;
        for (place, (patch, patch_pixels)) in index.iter().zip(pixels.chunks_exact(patch_values)).enumerate() {
            let (row, patch) = (place / each, usize::from(*patch));
            mask[row * patches + patch] = hidden;
            for (at, value) in patch_pixels.iter().enumerate() {
                let (channel, x, y) = (at % 3, at / 3 % patch_px, at / 3 / patch_px);
                let (x, y) = (patch % columns * patch_px + x, patch / columns * patch_px + y);
                let value = (f64::from(*value) / 255.0 - scale.mean[channel]) / scale.std[channel];
                images[((row * 3 + channel) * height + y) * width + x] = value as f32;
            }
        }
    }
    let named = |name: &str, shape: &[usize], data: Vec<f32>| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data,
    };
    let tokens = 1 + batch.visible_index().len() / rows;
    let all = vec![
        named("images", &[rows, 3, height, width], images),
        named("mask", &[rows, patches], mask),
        named("latent", &[rows, tokens, model.encoder.width], prediction.latent.clone()),
        named("prediction", &[rows, patches, patch_values], prediction.patches.clone()),
    ];
    to_safetensors(&[("", all)])
}
