//! What a user of the crate relies on, beside the golden numbers.

use patchstream_model::{
    AdamW, Device, EncoderInput, Engine, MaeConfig, MatmulPrecision, Mismatch, ModelError, NamedTensor, PatchInput,
    PixelScale, Pixels, StatePart, StepReport,
};

mod support;

use support::config;

fn engine(config: MaeConfig) -> Box<dyn Engine> {
    Device::Cpu.open(MatmulPrecision::Float32, config, PixelScale::IMAGENET, 7).expect("a valid configuration")
}

/// Enough for every kernel to cut its work into several tasks.
const ROWS: usize = 20;
const VISIBLE: [u16; 2] = [4, 1];
const MASKED: [u16; 4] = [0, 2, 3, 5];

struct Batch {
    visible: Vec<u8>,
    visible_index: Vec<u16>,
    masked: Vec<u8>,
    masked_index: Vec<u16>,
}

impl Batch {
    fn new() -> Batch {
        let bytes = |count: usize, salt: usize| (0..count).map(|i| (i * i * 31 + i * salt) as u8).collect();
        Batch {
            visible: bytes(ROWS * VISIBLE.len() * 192, 7),
            visible_index: VISIBLE.repeat(ROWS),
            masked: bytes(ROWS * MASKED.len() * 192, 3),
            masked_index: MASKED.repeat(ROWS),
        }
    }

    fn input(&self) -> PatchInput<'_> {
        PatchInput {
            rows: ROWS,
            visible: Pixels::Bytes(&self.visible),
            visible_index: &self.visible_index,
            masked: Pixels::Bytes(&self.masked),
            masked_index: &self.masked_index,
            uploaded: None,
        }
    }
}

fn bits(tensors: &[NamedTensor]) -> Vec<u32> {
    tensors.iter().flat_map(|tensor| tensor.data.iter().map(|value| value.to_bits())).collect()
}

#[test]
fn initialisation_is_seeded_and_as_the_table_says() {
    let weights = engine(config()).export(StatePart::Weights).expect("the CPU does not fail");
    assert_eq!(bits(&weights), bits(&engine(config()).export(StatePart::Weights).expect("the CPU does not fail")));
    let other =
        Device::Cpu.open(MatmulPrecision::Float32, config(), PixelScale::IMAGENET, 8).expect("a valid configuration");
    assert_ne!(bits(&weights), bits(&other.export(StatePart::Weights).expect("the CPU does not fail")));

    let qkv = weights.iter().find(|tensor| tensor.name == "blocks.1.attn.qkv.weight").expect("it is in the table");
    let bound = (6.0f32 / (24.0 + 72.0)).sqrt();
    let deviation = (qkv.data.iter().map(|v| v * v).sum::<f32>() / qkv.data.len() as f32).sqrt();
    assert!(qkv.data.iter().all(|value| value.abs() <= bound));
    assert!((deviation - bound / 3f32.sqrt()).abs() < 0.05 * bound);
}

#[test]
fn masked_pixels_never_reach_the_latent() {
    let mut engine = engine(config());
    let mut batch = Batch::new();
    let before = engine.predict(&batch.input()).expect("a valid batch");
    batch.masked.fill(255);
    let after = engine.predict(&batch.input()).expect("a valid batch");
    assert_eq!(before.latent, after.latent);
    assert_eq!(before.patches, after.patches);
    assert!((before.loss - after.loss).abs() > 1e-6);
}

#[test]
fn whole_images_are_encoded_each_alone() {
    let mut engine = engine(config());
    let pixels: Vec<u8> = (0..ROWS * 6 * 192).map(|i| (i * i * 13) as u8).collect();
    let all = engine.encode(ROWS, Pixels::Bytes(&pixels)).expect("a batch that fits");
    assert_eq!(all.len(), ROWS * 7 * 24);
    let third = engine.encode(1, Pixels::Bytes(&pixels[3 * 6 * 192..4 * 6 * 192])).expect("a batch that fits");
    assert_eq!(all[3 * 7 * 24..4 * 7 * 24], third);
    // Each token is at the scale of a layer norm that has not been trained.
    for token in all.chunks_exact(24) {
        let mean_square = token.iter().map(|value| value * value).sum::<f32>() / 24.0;
        assert!((mean_square - 1.0).abs() < 1e-3, "{mean_square}");
    }
    let short = engine.encode(2, Pixels::Bytes(&pixels[1..2 * 6 * 192])).expect_err("a value is missing");
    assert_eq!(short.to_string(), "the batch has 2303 values, expected 2304");
    assert_eq!(engine.encode(0, Pixels::Bytes(&[])), Err(ModelError::Zero { what: "the number of images" }));
}

#[test]
fn threads_do_not_change_a_bit() {
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts");
        pool.install(|| {
            let (mut engine, batch) = (engine(config()), Batch::new());
            for _ in 0..3 {
                engine.accumulate(&batch.input(), 0.5).expect("a valid batch");
                engine.accumulate(&batch.input(), 0.5).expect("a valid batch");
                engine.update(&AdamW::default()).expect("gradients are there");
            }
            [StatePart::Weights, StatePart::FirstMoments, StatePart::SecondMoments]
                .map(|part| bits(&engine.export(part).expect("the CPU does not fail")))
        })
    };
    let one = train(1);
    assert_eq!(one, train(2));
    assert_eq!(one, train(5));
}

#[test]
fn weights_of_accumulated_batches_add_up() {
    let (mut whole, mut parts, batch) = (engine(config()), engine(config()), Batch::new());
    whole.accumulate(&batch.input(), 1.0).expect("a valid batch");
    for weight in [0.75, 0.25] {
        parts.accumulate(&batch.input(), weight).expect("a valid batch");
    }
    let pairs = whole.gradients().expect("accumulated").into_iter().zip(parts.gradients().expect("accumulated"));
    for (whole, parts) in pairs {
        let largest = whole.data.iter().fold(1e-4f32, |high, value| high.max(value.abs()));
        assert!(whole.data.iter().zip(&parts.data).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{}", whole.name);
    }
}

#[test]
fn a_saved_state_continues_bit_by_bit() {
    let (mut engine, batch) = (engine(config()), Batch::new());
    let step = |engine: &mut Box<dyn Engine>| {
        engine.accumulate(&batch.input(), 1.0).expect("a valid batch");
        engine.update(&AdamW::default()).expect("gradients are there");
        engine.report().expect("an update was asked for");
    };
    step(&mut engine);
    let mut other =
        Device::Cpu.open(MatmulPrecision::Float32, config(), PixelScale::IMAGENET, 1).expect("a valid configuration");
    for part in [StatePart::Weights, StatePart::FirstMoments, StatePart::SecondMoments] {
        other.import(part, &engine.export(part).expect("the CPU does not fail")).expect("its own state fits");
    }
    other.set_updates(engine.updates());
    step(&mut engine);
    step(&mut other);
    assert_eq!(
        bits(&engine.export(StatePart::Weights).expect("the CPU does not fail")),
        bits(&other.export(StatePart::Weights).expect("the CPU does not fail"))
    );
}

#[test]
fn import_lists_every_mismatch_and_changes_nothing() {
    let mut engine = engine(config());
    let before = engine.export(StatePart::Weights).expect("the CPU does not fail");
    let mut wrong = before.clone();
    wrong.retain(|tensor| tensor.name != "mask_token");
    wrong[0].shape = vec![1, 1, 25];
    wrong.push(NamedTensor { name: "head.weight".to_owned(), shape: vec![1], data: vec![0.0] });
    wrong.push(wrong[3].clone());
    wrong[1].data.fill(0.5);
    let Err(ModelError::State { mismatches }) = engine.import(StatePart::Weights, &wrong) else {
        panic!("a wrong state was taken");
    };
    assert_eq!(
        mismatches,
        [
            Mismatch::Repeated { name: "patch_embed.proj.bias".to_owned() },
            Mismatch::Shape { name: "cls_token".to_owned(), expected: vec![1, 1, 24], got: vec![1, 1, 25], values: 24 },
            Mismatch::Missing { name: "mask_token".to_owned() },
            Mismatch::Unknown { name: "head.weight".to_owned() },
        ]
    );
    assert_eq!(bits(&before), bits(&engine.export(StatePart::Weights).expect("the CPU does not fail")));
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let mut engine = engine(config());
    let check = |engine: &mut Box<dyn Engine>, input: PatchInput<'_>, message: &str| {
        assert_eq!(engine.evaluate(&input).expect_err(message).to_string(), message);
    };
    let batch = Batch::new();
    let input = batch.input();
    check(
        &mut engine,
        PatchInput { rows: 0, ..input },
        "0 images with 40 visible and 80 masked indices, expected equally many a row, at least 1 each",
    );
    check(
        &mut engine,
        PatchInput { visible: Pixels::Bytes(&batch.visible[1..]), ..input },
        "visible has 7679 values, expected 7680",
    );
    let mut twice = batch.visible_index.clone();
    twice[3] = 0;
    check(
        &mut engine,
        PatchInput { visible_index: &twice, ..input },
        "patch index 0 of image 1 is there twice (the grid has 6 patches)",
    );
    twice[3] = 6;
    check(
        &mut engine,
        PatchInput { visible_index: &twice, ..input },
        "patch index 6 of image 1 is out of range (the grid has 6 patches)",
    );
    assert_eq!(engine.update(&AdamW::default()), Err(ModelError::NoGradient));
    assert_eq!(engine.gradients(), Err(ModelError::NoGradient));
}

#[test]
fn nan_shows_in_the_loss_and_the_norm_and_does_not_panic() {
    let (mut engine, batch) = (engine(config()), Batch::new());
    let mut pixels = vec![0.25f32; batch.visible.len()];
    pixels[100] = f32::NAN;
    let input = PatchInput { visible: Pixels::Floats(&pixels), ..batch.input() };
    engine.accumulate(&input, 1.0).expect("a valid batch");
    let before = bits(&engine.export(StatePart::Weights).expect("the CPU does not fail"));
    engine.update(&AdamW::default()).expect("gradients are there");
    let report = engine.report().expect("an update was asked for");
    assert!(report.loss.is_nan() && report.gradient_norm.is_nan());
    assert_eq!(
        (bits(&engine.export(StatePart::Weights).expect("the CPU does not fail")), engine.updates()),
        (before, 0),
        "nothing was updated"
    );
    assert_eq!(engine.gradients(), Err(ModelError::NoGradient), "the gradient is gone");
    engine.accumulate(&batch.input(), 1.0).expect("a valid batch");
    engine.update(&AdamW::default()).expect("gradients are there");
    assert!(engine.report().expect("an update was asked for").is_finite());
    assert_eq!(engine.report(), Err(ModelError::NothingToReport));
}

/// Steps are asked for before those before them are reported; one that does not count must not show in those after it.
#[test]
fn a_step_that_does_not_count_changes_none_that_was_asked_for_after_it() {
    let batch = Batch::new();
    let mut pixels = vec![0.25f32; batch.visible.len()];
    pixels[100] = f32::NAN;
    let bad = PatchInput { visible: Pixels::Floats(&pixels), ..batch.input() };
    let train = |inputs: &[PatchInput<'_>]| {
        let mut engine = engine(config());
        for input in inputs {
            engine.accumulate(input, 1.0).expect("a valid batch");
            engine.update(&AdamW::default()).expect("gradients are there");
        }
        let reports = inputs.iter().map(|_| engine.report().expect("an update was asked for"));
        let losses: Vec<u32> = reports.filter(StepReport::is_finite).map(|report| report.loss.to_bits()).collect();
        (losses, bits(&engine.export(StatePart::Weights).expect("the CPU does not fail")), engine.updates())
    };
    let good = batch.input();
    assert_eq!(train(&[good, bad, good, good]), train(&[good, good, good]));
}

#[test]
fn clipping_scales_a_long_gradient_and_leaves_a_short_one() {
    let batch = Batch::new();
    let moments = |clip_norm: Option<f64>| {
        let mut engine = engine(config());
        engine.accumulate(&batch.input(), 1.0).expect("a valid batch");
        let adamw = AdamW { clip_norm, ..AdamW::default() };
        engine.update(&adamw).expect("gradients are there");
        let norm = engine.report().expect("an update was asked for").gradient_norm;
        let first = engine
            .export(StatePart::FirstMoments)
            .expect("the CPU does not fail")
            .into_iter()
            .flat_map(|tensor| tensor.data);
        (norm, first.collect::<Vec<f32>>())
    };
    let (norm, free) = moments(None);
    assert_eq!(moments(Some(2.0 * norm)), (norm, free.clone()));
    let (reported, clipped) = moments(Some(norm / 4.0));
    assert!((reported - norm).abs() < 1e-12, "the norm is that before clipping");
    assert!(free.iter().zip(&clipped).all(|(free, clipped)| (free / 4.0 - clipped).abs() <= 1e-6 * free.abs()));
}

#[test]
fn bytes_are_normalised_by_the_scale() {
    let (mut engine, batch) = (engine(config()), Batch::new());
    let scale = PixelScale::IMAGENET;
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let normal =
            |(i, &byte): (usize, &u8)| ((f64::from(byte) / 255.0 - scale.mean[i % 3]) / scale.std[i % 3]) as f32;
        bytes.iter().enumerate().map(normal).collect()
    };
    let (visible, masked) = (floats(&batch.visible), floats(&batch.masked));
    let floats = PatchInput { visible: Pixels::Floats(&visible), masked: Pixels::Floats(&masked), ..batch.input() };
    let from_bytes = engine.evaluate(&batch.input()).expect("a valid batch");
    let from_floats = engine.evaluate(&floats).expect("a valid batch");
    assert!((from_bytes - from_floats).abs() < 1e-5 * from_floats);
}

/// The whole model's gradient against differences of its loss, for tensors on either side of the encoder.
#[test]
fn gradients_match_differences_whatever_the_encoder_sees() {
    const STEP: f32 = 1e-2;
    let batch = Batch::new();
    for encoder_input in [EncoderInput::Visible, EncoderInput::WithMaskTokens] {
        let mut engine = engine(MaeConfig { encoder_input, ..config() });
        engine.accumulate(&batch.input(), 1.0).expect("a valid batch");
        let gradients = engine.gradients().expect("a gradient was accumulated");
        let weights = engine.export(StatePart::Weights).expect("the CPU does not fail");
        for name in ["mask_token", "cls_token", "blocks.0.attn.proj.weight", "decoder_embed.bias"] {
            let gradient = &gradients.iter().find(|tensor| tensor.name == name).expect("a trained tensor").data;
            // The value whose change is felt most, so that rounding of the loss does not drown it.
            let at = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
            let at = at.expect("no tensor is empty");
            let mut loss = |change: f32| {
                let mut changed = weights.clone();
                let tensor = changed.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of the table");
                tensor.data[at] += change;
                engine.import(StatePart::Weights, &changed).expect("the weights fit");
                engine.evaluate(&batch.input()).expect("a valid batch")
            };
            let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let error = (difference - gradient[at]).abs();
            assert!(
                error < 2e-2 * gradient[at].abs() + 1e-5,
                "{encoder_input:?} {name}: {} and {difference}",
                gradient[at]
            );
        }
    }
}
