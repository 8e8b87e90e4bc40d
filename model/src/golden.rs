//! Golden numbers: what a MAE in `PyTorch` made of given weights and batches, and how far an engine is from it. The tests of
//! this crate check every case on the CPU; a program can check one on the device that it is to train on.

use crate::config::{EncoderInput, MaeConfig, Target, TransformerConfig};
use crate::engine::{AdamW, Engine, NamedTensor, PatchInput, Pixels, StatePart};
use crate::error::ModelError;
use safetensors::SafeTensors;
use serde_json::Value;

const TARGETS: [(Target, &str); 2] = [(Target::Pixels, "pixel"), (Target::NormalizedPatches, "norm_pix")];

/// How far one number or tensor may be off.
const FORWARD_MAX: f64 = 1e-4;
const GRADIENT_MAX: f64 = 1e-3;

/// How far an engine is from a golden number.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// The target in training: `pixel` or `norm_pix`.
    pub target: &'static str,
    /// What was compared.
    pub what: String,
    /// Relative to what is expected.
    pub error: f64,
    /// What is still right.
    pub allowed: f64,
}

impl Deviation {
    /// Whether it is as it should be; what is no number is not.
    pub fn is_right(&self) -> bool {
        self.error <= self.allowed
    }
}

/// A case: its JSON and its tensors, as `generate.py` beside them writes them.
pub struct Case<'a> {
    meta: Value,
    tensors: SafeTensors<'a>,
}

impl<'a> Case<'a> {
    /// Reads a case.
    ///
    /// # Errors
    /// Bytes that are no JSON, or no safetensors.
    pub fn read(json: &[u8], safetensors: &'a [u8]) -> Result<Case<'a>, ModelError> {
        let broken = |reason: String| ModelError::Golden { reason };
        Ok(Case {
            meta: serde_json::from_slice(json).map_err(|error| broken(error.to_string()))?,
            tensors: SafeTensors::deserialize(safetensors).map_err(|error| broken(error.to_string()))?,
        })
    }

    /// Compares engines, as `open` makes them, with everything in the case: for each target latent, prediction and loss of
    /// a forward pass, every gradient of a step, the losses of all steps and the weights after them.
    ///
    /// # Errors
    /// An engine failed, or something is missing in the case.
    pub fn deviations(
        &self,
        mut open: impl FnMut(MaeConfig) -> Result<Box<dyn Engine>, ModelError>,
    ) -> Result<Vec<Deviation>, ModelError> {
        let mut deviations = Vec::new();
        for (target, tag) in TARGETS {
            let mut engine = open(self.config(target)?)?;
            engine.import(StatePart::Weights, &self.group("weights.")?)?;
            let mut add = |what: String, error: f64, allowed: f64| {
                deviations.push(Deviation { target: tag, what, error, allowed });
            };
            self.forward(tag, engine.as_mut(), &mut add)?;
            self.gradients(tag, engine.as_mut(), &mut add)?;
            self.training(tag, engine.as_mut(), &mut add)?;
        }
        Ok(deviations)
    }

    fn forward(
        &self,
        tag: &str,
        engine: &mut dyn Engine,
        add: &mut impl FnMut(String, f64, f64),
    ) -> Result<(), ModelError> {
        let batch = self.step(engine.config(), 0)?;
        let loss = self.number(&["results", tag, "loss"])?;
        let prediction = engine.predict(&batch.input())?;
        let evaluated = engine.evaluate(&batch.input())?;
        for (what, got) in [("latent", &prediction.latent), ("pred", &prediction.patches)] {
            let expected = self.tensor(&format!("{tag}.{what}"))?.data;
            add(format!("largest error of {what}"), relative_largest(got, &expected), FORWARD_MAX);
            add(format!("norm of the error of {what}"), relative_norm(got, &expected), FORWARD_MAX);
        }
        for (what, got) in [("loss", prediction.loss), ("evaluated loss", evaluated)] {
            add(what.to_owned(), (f64::from(got) - loss).abs() / loss, FORWARD_MAX);
        }
        Ok(())
    }

    fn gradients(
        &self,
        tag: &str,
        engine: &mut dyn Engine,
        add: &mut impl FnMut(String, f64, f64),
    ) -> Result<(), ModelError> {
        engine.accumulate(&self.step(engine.config(), 0)?.input(), 1.0)?;
        let (got, expected) = (engine.gradients()?, self.group(&format!("{tag}.grad."))?);
        engine.discard();
        compare("gradient of", &got, &expected, |_, values| vec![values], add)
    }

    fn training(
        &self,
        tag: &str,
        engine: &mut dyn Engine,
        add: &mut impl FnMut(String, f64, f64),
    ) -> Result<(), ModelError> {
        let beta = |i: usize| self.meta["betas"][i].as_f64().ok_or_else(|| missing("betas"));
        let adamw = AdamW {
            lr: self.number(&["lr"])?,
            beta1: beta(0)?,
            beta2: beta(1)?,
            eps: self.number(&["eps"])?,
            weight_decay: self.number(&["weight_decay"])?,
            clip_norm: None,
        };
        let losses = self.meta["results"][tag]["losses"].as_array().ok_or_else(|| missing("losses"))?;
        for (step, expected) in losses.iter().enumerate() {
            let expected = expected.as_f64().ok_or_else(|| missing("losses"))?;
            engine.accumulate(&self.step(engine.config(), step)?.input(), 1.0)?;
            engine.update(&adamw)?;
            let got = engine.report()?.loss;
            add(format!("loss of step {step}"), (f64::from(got) - expected).abs() / expected, FORWARD_MAX);
        }
        let expected = self.group(&format!("{tag}.trained."))?;
        compare("trained", &engine.export(StatePart::Weights)?, &expected, without_keys, add)
    }

    fn number(&self, path: &[&str]) -> Result<f64, ModelError> {
        let value = path.iter().fold(&self.meta, |value, key| &value[*key]);
        value.as_f64().ok_or_else(|| missing(&path.join(".")))
    }

    fn config(&self, target: Target) -> Result<MaeConfig, ModelError> {
        let size = |key: &str| Ok(self.number(&["config", key])? as usize);
        let image = |axis: usize| {
            self.meta["config"]["img"][axis].as_u64().map(|px| px as usize).ok_or_else(|| missing("config.img"))
        };
        let transformer = |width: &str, depth: &str, heads: &str| -> Result<TransformerConfig, ModelError> {
            Ok(TransformerConfig { width: size(width)?, depth: size(depth)?, heads: size(heads)? })
        };
        Ok(MaeConfig {
            image_height_px: image(0)?,
            image_width_px: image(1)?,
            patch_px: size("patch")?,
            channels: size("chans")?,
            encoder: transformer("dim", "depth", "heads")?,
            decoder: transformer("ddim", "ddepth", "dheads")?,
            mlp_ratio: self.meta["config"]["mlp_ratio"].as_f64().unwrap_or(4.0),
            target,
            encoder_input: EncoderInput::Visible,
        })
    }

    fn tensor(&self, name: &str) -> Result<NamedTensor, ModelError> {
        let view = self.tensors.tensor(name).map_err(|_| missing(name))?;
        let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(NamedTensor { name: name.to_owned(), shape: view.shape().to_vec(), data })
    }

    /// All tensors below a prefix, by what follows it.
    fn group(&self, prefix: &str) -> Result<Vec<NamedTensor>, ModelError> {
        let mut found = Vec::new();
        for name in self.tensors.names() {
            if let Some(short) = name.strip_prefix(prefix) {
                found.push(NamedTensor { name: short.to_owned(), ..self.tensor(name)? });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        if found.is_empty() { Err(missing(prefix)) } else { Ok(found) }
    }

    /// The batch of a training step, cut into patches.
    fn step(&self, config: &MaeConfig, step: usize) -> Result<Step, ModelError> {
        let images = self.tensor(&format!("steps.{step:02}.images"))?;
        let name = format!("steps.{step:02}.ids_shuffle");
        let shuffle = self.tensors.tensor(&name).map_err(|_| missing(&name))?;
        let order: Vec<u16> =
            shuffle.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as u16).collect();
        let (patches, keep) = (config.patches(), self.number(&["keep"])? as usize);
        let rows = order.len() / patches;
        let mut batch = Step { rows, ..Step::default() };
        for (image, order) in images.data.chunks_exact(images.data.len() / rows).zip(order.chunks_exact(patches)) {
            for (place, &index) in order.iter().enumerate() {
                let patch = patch_of(config, image, usize::from(index));
                let (pixels, indices) = if place < keep {
                    (&mut batch.visible, &mut batch.visible_index)
                } else {
                    (&mut batch.masked, &mut batch.masked_index)
                };
                pixels.extend(patch);
                indices.push(index);
            }
        }
        Ok(batch)
    }
}

/// Compares tensors by name, in the parts that `cut` makes of each.
fn compare(
    what: &str,
    got: &[NamedTensor],
    expected: &[NamedTensor],
    cut: impl for<'b> Fn(&str, &'b [f32]) -> Vec<&'b [f32]>,
    add: &mut impl FnMut(String, f64, f64),
) -> Result<(), ModelError> {
    for NamedTensor { name, shape, data } in expected {
        let got = got.iter().find(|tensor| &tensor.name == name && &tensor.shape == shape);
        let got = got.ok_or_else(|| missing(name))?;
        let parts = cut(name, &got.data).into_iter().zip(cut(name, data));
        let error = parts.map(|(got, expected)| relative_norm(got, expected)).fold(0.0, worse);
        add(format!("{what} {name}"), error, GRADIENT_MAX);
    }
    Ok(())
}

fn missing(what: &str) -> ModelError {
    ModelError::Golden { reason: format!("{what} is missing or of another shape") }
}

#[derive(Default)]
struct Step {
    rows: usize,
    visible: Vec<f32>,
    visible_index: Vec<u16>,
    masked: Vec<f32>,
    masked_index: Vec<u16>,
}

impl Step {
    fn input(&self) -> PatchInput<'_> {
        PatchInput {
            rows: self.rows,
            visible: Pixels::Floats(&self.visible),
            visible_index: &self.visible_index,
            masked: Pixels::Floats(&self.masked),
            masked_index: &self.masked_index,
            uploaded: None,
        }
    }
}

/// Row, column, channel of one patch of an image (C, H, W).
fn patch_of(config: &MaeConfig, image: &[f32], index: usize) -> Vec<f32> {
    let (height, width, patch) = (config.image_height_px, config.image_width_px, config.patch_px);
    let (top, left) = (index / config.grid_columns() * patch, index % config.grid_columns() * patch);
    let mut values = Vec::with_capacity(config.patch_values());
    for y in top..top + patch {
        for x in left..left + patch {
            values.extend((0..config.channels).map(|channel| image[(channel * height + y) * width + x]));
        }
    }
    values
}

/// The larger error; one that is no number is the largest.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Norm of the difference over the norm of what is expected.
fn relative_norm(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::NAN;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut expected.iter().map(|&v| f64::from(v))).max(1e-30)
}

/// The largest difference over the largest value expected.
fn relative_largest(got: &[f32], expected: &[f32]) -> f64 {
    if got.len() != expected.len() {
        return f64::NAN;
    }
    let largest = expected.iter().fold(0.0f32, |high, v| high.max(v.abs()));
    let difference = got.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, worse);
    difference / f64::from(largest)
}

/// The key third of a qkv bias shifts all scores of a row alike: its gradient is rounding noise.
fn without_keys<'a>(name: &str, values: &'a [f32]) -> Vec<&'a [f32]> {
    if name.ends_with("qkv.bias") {
        let third = values.len() / 3;
        vec![&values[..third], &values[2 * third..]]
    } else {
        vec![values]
    }
}
