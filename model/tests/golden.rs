//! Parity with a MAE in `PyTorch`: prediction, latent, loss, gradients, twenty losses and the weights trained by them. The
//! script that made the numbers lies beside them.

use patchstream_model::{
    AdamW, DfdxEngine, Engine, MaeConfig, NamedTensor, PatchInput, PixelScale, Pixels, StatePart, Target,
    TransformerConfig,
};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

const TARGETS: [(Target, &str); 2] = [(Target::Pixels, "pixel"), (Target::NormalizedPatches, "norm_pix")];

/// Every case of the repository and of the directory that the environment names: JSON beside its tensors.
fn cases() -> Vec<(PathBuf, PathBuf)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    let further = std::env::var_os("PATCHSTREAM_GOLDEN").map(PathBuf::from);
    let mut cases = Vec::new();
    for folder in [Some(own), further].into_iter().flatten() {
        let listing = fs_err::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in listing {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("mae_") && path.extension().is_some_and(|extension| extension == "json") {
                cases.push((path.clone(), path.with_extension("safetensors")));
            }
        }
        assert!(!cases.is_empty(), "{} has no mae_*.json", folder.display());
    }
    cases.sort();
    cases
}

struct Case<'a> {
    name: String,
    meta: Value,
    tensors: SafeTensors<'a>,
}

impl Case<'_> {
    fn number(&self, key: &str) -> f64 {
        self.meta[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.name))
    }

    fn size(&self, key: &str) -> usize {
        let value = self.meta["config"][key].as_u64().unwrap_or_else(|| panic!("{}: no size {key}", self.name));
        usize::try_from(value).expect("sizes are small")
    }

    fn config(&self, target: Target) -> MaeConfig {
        let image = |axis: usize| self.meta["config"]["img"][axis].as_u64().expect("img has two sizes") as usize;
        let transformer = |width: &str, depth: &str, heads: &str| TransformerConfig {
            width: self.size(width),
            depth: self.size(depth),
            heads: self.size(heads),
        };
        MaeConfig {
            image_height_px: image(0),
            image_width_px: image(1),
            patch_px: self.size("patch"),
            channels: self.size("chans"),
            encoder: transformer("dim", "depth", "heads"),
            decoder: transformer("ddim", "ddepth", "dheads"),
            mlp_ratio: self.meta["config"]["mlp_ratio"].as_f64().unwrap_or(4.0),
            target,
        }
    }

    fn tensor(&self, name: &str) -> NamedTensor {
        let view = self.tensors.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.name));
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
        let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        NamedTensor { name: name.to_owned(), shape: view.shape().to_vec(), data }
    }

    /// All tensors below a prefix, by what follows it.
    fn group(&self, prefix: &str) -> Vec<NamedTensor> {
        let names = self.tensors.names();
        let below = names.iter().filter_map(|name| Some((*name, name.strip_prefix(prefix)?)));
        below.map(|(name, short)| NamedTensor { name: short.to_owned(), ..self.tensor(name) }).collect()
    }

    fn losses(&self, tag: &str) -> Vec<f64> {
        let losses = self.meta["results"][tag]["losses"].as_array().expect("a list of losses");
        losses.iter().map(|loss| loss.as_f64().expect("losses are numbers")).collect()
    }

    /// The batch of a training step, cut into patches.
    fn step(&self, config: &MaeConfig, step: usize) -> Step {
        let images = self.tensor(&format!("steps.{step:02}.images"));
        let shuffle = self.tensors.tensor(&format!("steps.{step:02}.ids_shuffle")).expect("every step has its order");
        let order: Vec<u16> = shuffle
            .data()
            .chunks_exact(4)
            .map(|b| u16::try_from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])).expect("patch indices fit"))
            .collect();
        let (patches, keep) = (config.patches(), self.number("keep") as usize);
        let rows = images.shape[0];
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
        batch
    }
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

/// Norm of the difference over the norm of what is expected.
fn relative_norm(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut expected.iter().map(|&v| f64::from(v))).max(1e-30)
}

/// The largest difference over the largest value expected.
fn relative_largest(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |high, v| high.max(v.abs()));
    let difference = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    f64::from(difference) / f64::from(largest)
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

/// Runs a check on every case and target, with an engine that holds the case's weights.
fn check(run: impl Fn(&Case<'_>, &str, &mut DfdxEngine)) {
    for (json, safetensors) in cases() {
        let meta = fs_err::read(&json).unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        let bytes = fs_err::read(&safetensors).unwrap_or_else(|error| panic!("{}: {error}", safetensors.display()));
        let case = Case {
            name: json.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            meta: serde_json::from_slice(&meta).expect("a case is JSON"),
            tensors: SafeTensors::deserialize(&bytes).expect("a case's tensors can be read"),
        };
        for (target, tag) in TARGETS {
            let mut engine = DfdxEngine::new(case.config(target), PixelScale::IMAGENET, 0).expect("a valid case");
            engine.import(StatePart::Weights, &case.group("weights.")).expect("weights fit");
            run(&case, tag, &mut engine);
        }
    }
}

#[test]
fn golden_prediction_latent_and_loss() {
    check(|case, tag, engine| {
        let step = case.step(engine.config(), 0);
        let prediction = engine.predict(&step.input()).expect("a valid batch");
        let loss = case.meta["results"][tag]["loss"].as_f64().expect("a loss");
        let worst = [
            ("latent", relative_largest(&prediction.latent, &case.tensor(&format!("{tag}.latent")).data)),
            ("prediction", relative_largest(&prediction.patches, &case.tensor(&format!("{tag}.pred")).data)),
            ("latent's norm", relative_norm(&prediction.latent, &case.tensor(&format!("{tag}.latent")).data)),
            ("prediction's norm", relative_norm(&prediction.patches, &case.tensor(&format!("{tag}.pred")).data)),
            ("loss", (f64::from(prediction.loss) - loss).abs() / loss),
            ("evaluation", (f64::from(engine.evaluate(&step.input()).expect("a valid batch")) - loss).abs() / loss),
        ];
        for (what, error) in worst {
            assert!(error < 1e-4, "{} {tag}: {what} is off by {error:.2e}", case.name);
        }
    });
}

#[test]
fn golden_gradients() {
    check(|case, tag, engine| {
        let step = case.step(engine.config(), 0);
        engine.accumulate(&step.input(), 1.0).expect("a valid batch");
        let expected = case.group(&format!("{tag}.grad."));
        let got = engine.gradients().expect("a gradient was accumulated");
        assert_eq!(got.len(), expected.len());
        for expected in expected {
            let got = got.iter().find(|tensor| tensor.name == expected.name).expect("every gradient is there");
            assert_eq!(got.shape, expected.shape, "{}", expected.name);
            let error = relative_norm(&got.data, &expected.data);
            assert!(error < 1e-3, "{} {tag}: gradient of {} is off by {error:.2e}", case.name, expected.name);
        }
    });
}

#[test]
fn golden_training() {
    check(|case, tag, engine| {
        let beta = |i: usize| case.meta["betas"][i].as_f64().expect("two betas");
        let adamw = AdamW {
            lr: case.number("lr"),
            beta1: beta(0),
            beta2: beta(1),
            eps: case.number("eps"),
            weight_decay: case.number("weight_decay"),
            clip_norm: None,
        };
        for (step, expected) in case.losses(tag).into_iter().enumerate() {
            let batch = case.step(engine.config(), step);
            let loss = f64::from(engine.accumulate(&batch.input(), 1.0).expect("a valid batch"));
            engine.update(&adamw).expect("a gradient was accumulated");
            let error = (loss - expected).abs() / expected;
            assert!(error < 1e-4, "{} {tag}: loss of step {step} is off by {error:.2e}", case.name);
        }
        let trained = engine.export(StatePart::Weights);
        for expected in case.group(&format!("{tag}.trained.")) {
            let name = &expected.name;
            let got = trained.iter().find(|tensor| &tensor.name == name).expect("every weight is exported");
            for (got, expected) in without_keys(name, &got.data).into_iter().zip(without_keys(name, &expected.data)) {
                let error = relative_norm(got, expected);
                assert!(error < 1e-3, "{} {tag}: trained {name} is off by {error:.2e}", case.name);
            }
        }
    });
}
