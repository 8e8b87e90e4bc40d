//! `patchstream export`: a checkpoint's weights as other libraries load them.

use patchstream_model::{Device, MaeConfig, StatePart};
use serde::Serialize;

use super::{print, print_json};
use crate::cli::{ExportArgs, Layout};
use crate::exchange;
use crate::report::UserError;
use crate::tensors::to_safetensors;
use crate::training::checkpoint::Checkpoint;
use crate::training::{folder_whole, write_synced};

#[derive(Serialize)]
struct Report {
    folder: String,
    tensors: usize,
    step: u64,
}

pub(crate) fn run(arguments: &ExportArgs) -> anyhow::Result<()> {
    let folder = arguments.out.display().to_string();
    if arguments.out.exists() {
        return Err(UserError::new(format!("`{folder}` already exists")).hint("name another folder").into());
    }
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let model = &checkpoint.config.model;
    let ours = checkpoint.engine(Device::Cpu)?.export(StatePart::Weights)?;
    let (tensors, json) = match arguments.to {
        Layout::Mae => (ours, serde_json::to_value(model)?),
        Layout::Timm => (exchange::to_timm(ours), exchange::timm_config(model)),
        Layout::Huggingface => {
            refuse_oblong(model)?;
            (exchange::to_hugging_face(ours), exchange::hugging_face_config(model))
        }
    };
    let count = tensors.len();
    let weights = to_safetensors(&[("", tensors)])?;
    folder_whole(&arguments.out, |partial| {
        write_synced(&partial.join("model.safetensors"), &weights)?;
        Ok(write_synced(&partial.join("config.json"), &serde_json::to_vec_pretty(&json)?)?)
    })?;
    let report = Report { folder, tensors: count, step: checkpoint.position.step };
    if arguments.json {
        return print_json(&report);
    }
    print(&format!("{}: {} tensors after step {}\n", report.folder, report.tensors, report.step))
}

fn refuse_oblong(model: &MaeConfig) -> anyhow::Result<()> {
    let (height, width) = (model.image_height_px, model.image_width_px);
    if height == width {
        return Ok(());
    }
    Err(UserError::new(format!(
        "ViTMAEForPreTraining takes square images, expected {height} x {height}, got {height} x {width}"
    ))
    .hint("--to mae or --to timm take oblong ones")
    .into())
}
