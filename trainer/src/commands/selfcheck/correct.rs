//! Whether a device computes what PyTorch computed, and the same twice.

use std::num::NonZeroUsize;

use patchstream_model::golden::{Case, Deviation};
use patchstream_model::{AdamW, Device, Engine, MatmulPrecision, ModelError, PixelScale, Pixels, Preset, StatePart};
use serde::Serialize;

use crate::synthetic::SyntheticBatch;

/// The smallest golden case, which every program carries.
const CASE_JSON: &[u8] = include_bytes!("../../../../tests/data/golden/mae_tiny.json");
const CASE_TENSORS: &[u8] = include_bytes!("../../../../tests/data/golden/mae_tiny.safetensors");
/// Steps after which two trainings are compared.
const STEPS: usize = 3;
/// Images of these steps.
const IMAGES: usize = 8;
/// How far another device may be from the CPU.
fn allowed_of_cpu(precision: MatmulPrecision) -> f64 {
    match precision {
        MatmulPrecision::Float32 => 1e-3,
        // A factor is rounded by up to 2^-11, some forty products one after another, and moments are of gradients.
        MatmulPrecision::Tf32 => 1e-2,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Golden {
    pub(super) passed: bool,
    pub(super) compared: usize,
    /// Error of the worst number over what is allowed of it; there is none if one is no number.
    pub(super) worst_share: f64,
    pub(super) worst: String,
    /// All that are beyond what is allowed.
    wrong: Vec<Wrong>,
}

#[derive(Debug, Serialize)]
struct Wrong {
    target: &'static str,
    what: String,
    /// As text, since JSON has no NaN.
    error: String,
    allowed: f64,
}

/// Compares a device with golden numbers.
pub(super) fn golden(device: Device) -> Result<Golden, ModelError> {
    let case = Case::read(CASE_JSON, CASE_TENSORS)?;
    let deviations =
        case.deviations(|config| device.open(MatmulPrecision::Float32, config, PixelScale::IMAGENET, 0))?;
    let share = |deviation: &Deviation| deviation.error / deviation.allowed;
    // In this order, what is no number is above all numbers.
    let worst = deviations.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
    let wrong = deviations.iter().filter(|deviation| !deviation.is_right()).map(|deviation| Wrong {
        target: deviation.target,
        what: deviation.what.clone(),
        error: deviation.error.to_string(),
        allowed: deviation.allowed,
    });
    let wrong: Vec<Wrong> = wrong.collect();
    Ok(Golden {
        passed: wrong.is_empty() && !deviations.is_empty(),
        compared: deviations.len(),
        worst_share: worst.map_or(f64::NAN, share),
        worst: worst.map(|worst| format!("{}, {}", worst.target, worst.what)).unwrap_or_default(),
        wrong,
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Repeats {
    pub(super) passed: bool,
    pub(super) what: String,
    /// Values that differ in any bit, of weights and moments.
    differing: usize,
    values: usize,
}

/// Trains twice and compares every bit; on the CPU, with all threads and with one.
pub(super) fn repeats(device: Device, threads: NonZeroUsize) -> anyhow::Result<Repeats> {
    let train = || trained(device, MatmulPrecision::Float32);
    let first = train()?.state;
    let (second, what) = if device == Device::Cpu {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let what = format!("{STEPS} steps of vit_micro on {threads} threads and on 1, bit by bit");
        (pool.install(train)?.state, what)
    } else {
        (train()?.state, format!("{STEPS} steps of vit_micro twice, bit by bit"))
    };
    let differing = first.iter().zip(&second).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let passed = differing == 0 && first.len() == second.len() && first.iter().all(|value| value.is_finite());
    Ok(Repeats { passed, what, differing, values: first.len() })
}

#[derive(Debug, Serialize)]
pub(super) struct AgainstCpu {
    pub(super) matmul_precision: MatmulPrecision,
    pub(super) passed: bool,
    /// The largest error of a loss, over the CPU's.
    pub(super) loss_error: f64,
    /// Norm of the difference of all weights and moments, over the norm of the CPU's.
    pub(super) state_error: f64,
    /// The same of what the encoder makes of whole images with the trained weights.
    pub(super) features_error: f64,
    allowed: f64,
}

/// Trains on a device and, in float32, on the CPU, from bytes.
pub(super) fn against_cpu(device: Device, precision: MatmulPrecision) -> Result<AgainstCpu, ModelError> {
    let (got, expected) = (trained(device, precision)?, trained(Device::Cpu, MatmulPrecision::Float32)?);
    let allowed = allowed_of_cpu(precision);
    let losses = got.losses.iter().zip(&expected.losses);
    let loss_error = losses.map(|(&got, &cpu)| relative_norm(&[got], &[cpu])).fold(0.0, f64::max);
    let state_error = relative_norm(&got.state, &expected.state);
    let features_error = relative_norm(&got.features, &expected.features);
    // Written so that what is no number does not pass.
    let passed = [loss_error, state_error, features_error].iter().all(|&error| error <= allowed)
        && got.losses.iter().all(|loss| loss.is_finite());
    Ok(AgainstCpu { matmul_precision: precision, passed, loss_error, state_error, features_error, allowed })
}

/// Norm of the difference over the norm of what is expected.
fn relative_norm(got: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let difference: f64 = got.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (difference / expected.iter().map(|&value| square(f64::from(value))).sum::<f64>()).sqrt()
}

struct Trained {
    losses: Vec<f32>,
    /// Weights and moments after the steps.
    state: Vec<f32>,
    /// What the encoder makes of two whole images.
    features: Vec<f32>,
}

/// A few steps of a small model on bytes.
fn trained(device: Device, precision: MatmulPrecision) -> Result<Trained, ModelError> {
    let config = Preset::VitMicro.config();
    let mut engine = device.open(precision, config.clone(), PixelScale::IMAGENET, 1)?;
    let batch = SyntheticBatch::new(&config, config.patches() / 4, IMAGES, 1);
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        engine.accumulate(&batch.input(), 1.0)?;
        engine.update(&AdamW::default())?;
    }
    for _ in 0..STEPS {
        losses.push(engine.report()?.loss);
    }
    let image = config.patches() * config.patch_values();
    let pixels: Vec<u8> = (0..2 * image).map(|at| (at * at / 7) as u8).collect();
    let features = engine.encode(2, Pixels::Bytes(&pixels))?;
    Ok(Trained { losses, state: state(engine.as_ref())?, features })
}

fn state(engine: &dyn Engine) -> Result<Vec<f32>, ModelError> {
    let mut values = Vec::new();
    for part in [StatePart::Weights, StatePart::FirstMoments, StatePart::SecondMoments] {
        values.extend(engine.export(part)?.into_iter().flat_map(|tensor| tensor.data));
    }
    Ok(values)
}
