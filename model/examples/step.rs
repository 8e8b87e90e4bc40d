//! Times training steps of a preset on random pixels:
//!
//!     cargo run --release -p patchstream-model --example step -- vit_micro 64 2 30
//!
//! with model, batch, threads and steps. Prints the median, the fastest and the slowest step, and what they come to.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use patchstream_model::{AdamW, DfdxEngine, Engine, ModelError, PatchInput, PixelScale, Pixels, Preset};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize, default: &str| arguments.get(place).map_or(default.to_owned(), Clone::clone);
    let (model, batch) = (argument(0, "vit_micro"), argument(1, "64").parse()?);
    let (threads, steps) = (argument(2, "2").parse()?, argument(3, "30").parse()?);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(pool.install(|| run(&model, batch, steps))?)
}

fn run(model: &str, batch: usize, steps: usize) -> Result<(), ModelError> {
    let config = model.parse::<Preset>()?.config();
    let (patches, values) = (config.patches(), config.patch_values());
    let visible = patches / 4;
    let flops = config.flops_per_image(visible) * batch as u64;
    let mut engine = DfdxEngine::new(config, PixelScale::IMAGENET, 0)?;

    let pixels: Vec<u8> = (0..batch * patches * values).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
    let order: Vec<u16> = (0..patches as u16).collect();
    let (shown, hidden) = order.split_at(visible);
    let (visible_pixels, masked_pixels) = pixels.split_at(batch * visible * values);
    let input = PatchInput {
        rows: batch,
        visible: Pixels::Bytes(visible_pixels),
        visible_index: &shown.repeat(batch),
        masked: Pixels::Bytes(masked_pixels),
        masked_index: &hidden.repeat(batch),
    };

    let mut times_ms = Vec::new();
    let mut loss = 0.0;
    for step in 0..steps + 3 {
        let start = Instant::now();
        loss = engine.accumulate(&input, 1.0)?;
        engine.update(&AdamW::default())?;
        if step >= 3 {
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times_ms.sort_by(f64::total_cmp);
    let (median, least, most) = (times_ms[times_ms.len() / 2], times_ms[0], times_ms[times_ms.len() - 1]);
    let gflops = flops as f64 / median / 1e6;
    println!("{model} x {batch}: {median:.1} ms a step ({least:.1} to {most:.1}), {gflops:.1} GFLOP/s, loss {loss:.4}");
    Ok(())
}
