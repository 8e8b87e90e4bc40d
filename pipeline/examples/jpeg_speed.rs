//! Our JPEG decoder beside libjpeg-turbo's region decode and `fast_image_resize`, on the same crops, in turn.
//!
//!     cargo run --release -p patchstream-pipeline --example jpeg_speed -- FOLDER [ROUNDS] [interval,...]
//!
//! Prints CPU milliseconds an image (one thread), their ratio, and the fidelity of ours to the exact path. Each restart
//! interval asks for the same again on losslessly transcoded copies with restart markers and an index of segments.
#![allow(clippy::print_stdout, reason = "the numbers are the result")]
#![allow(clippy::disallowed_methods, reason = "the panic message names the path")]

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use patchstream_pipeline::jpeg::{CropBox, Decoder, Instructions, Refusal, TargetSize, image_size};

#[path = "../tests/support/turbo.rs"]
mod turbo;

use turbo::Turbo;

const TARGET_PX: u32 = 224;

struct Sample {
    bytes: Vec<u8>,
    index: Option<Vec<u32>>,
    crop: CropBox,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().expect("the folder with the JPEGs");
    let rounds: usize = arguments.get(1).map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    let mut paths = Vec::new();
    jpegs_below(Path::new(folder), &mut paths);
    paths.sort();
    let mut random = 1;
    let samples: Vec<Sample> = paths
        .iter()
        .filter_map(|path| {
            let bytes = std::fs::read(path).expect("a readable file");
            let (width, height) = image_size(&bytes).ok()?;
            Some(Sample { bytes, index: None, crop: random_crop(width, height, &mut random) })
        })
        .collect();
    println!("{} of {} files are for us", samples.len(), paths.len());
    fidelity(&samples);
    compare("original files", &samples, rounds);
    for interval in arguments.get(2).iter().flat_map(|list| list.split(',')) {
        let turbo = Turbo::transformer();
        let indexed: Vec<Sample> = samples
            .iter()
            .map(|sample| {
                let bytes = turbo.with_restarts(&sample.bytes, interval.parse().expect("an interval in MCUs"));
                Sample { index: Some(segment_offsets(&bytes)), bytes, crop: sample.crop }
            })
            .collect();
        compare(&format!("restart interval {interval}"), &indexed, rounds);
    }
}

/// Runs both decoders in turn and prints the median round of each.
fn compare(name: &str, samples: &[Sample], rounds: usize) {
    let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        let started = cpu_ms();
        for sample in samples {
            ours.crop(sample).expect("a file for us");
        }
        let between = cpu_ms();
        for sample in samples {
            theirs.crop(sample);
        }
        let ended = cpu_ms();
        if round > 0 {
            times[0].push((between - started) / samples.len() as f64);
            times[1].push((ended - between) / samples.len() as f64);
        }
    }
    let [ours, theirs] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let bytes: usize = samples.iter().map(|sample| sample.bytes.len()).sum();
    let mean_bytes = bytes / samples.len();
    println!(
        "{name}: ours {ours:.3} ms, libjpeg-turbo {theirs:.3} ms, ratio {:.3} ({mean_bytes} bytes)",
        theirs / ours
    );
}

/// Peak signal-to-noise ratio of ours to a full decode and a resize of RGB.
fn fidelity(samples: &[Sample]) {
    let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
    let mut psnr: Vec<f64> = samples
        .iter()
        .map(|sample| {
            ours.crop(sample).expect("a file for us");
            theirs.crop_exactly(sample);
            let squares = ours.out.iter().zip(theirs.out.buffer()).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
            10.0 * (255.0_f64.powi(2) * ours.out.len() as f64 / squares.sum::<f64>().max(1.0)).log10()
        })
        .collect();
    psnr.sort_by(f64::total_cmp);
    let at = |share: f64| psnr[((psnr.len() - 1) as f64 * share) as usize];
    println!("PSNR to the exact path: median {:.1}, 1% {:.1}, minimum {:.1} dB", at(0.5), at(0.01), at(0.0));
}

struct Ours {
    decoder: Decoder,
    out: Vec<u8>,
}

impl Ours {
    fn new() -> Ours {
        Ours { decoder: Decoder::new(Instructions::Detected), out: vec![0; (TARGET_PX * TARGET_PX * 3) as usize] }
    }

    fn crop(&mut self, sample: &Sample) -> Result<(), Refusal> {
        let side = NonZeroU32::new(TARGET_PX).expect("not zero");
        let target = TargetSize { height: side, width: side };
        self.decoder.decode(&sample.bytes, sample.crop, target, sample.index.as_deref(), &mut self.out)
    }
}

struct Theirs {
    turbo: Turbo,
    resizer: Resizer,
    rgb: Vec<u8>,
    out: Image<'static>,
}

impl Theirs {
    fn new() -> Theirs {
        let out = Image::new(TARGET_PX, TARGET_PX, PixelType::U8x3);
        Theirs { turbo: Turbo::decompressor(), resizer: Resizer::new(), rgb: Vec::new(), out }
    }

    fn crop(&mut self, sample: &Sample) {
        let CropBox { x, y, width, height } = sample.crop;
        let region = [x, y, width, height].map(|value| value as usize);
        let margin = self.turbo.decode_region(&sample.bytes, region, &mut self.rgb).expect("a good file");
        self.resize(width + margin as u32, height, [margin as u32, 0], sample.crop);
    }

    fn crop_exactly(&mut self, sample: &Sample) {
        let (rgb, width, height) = self.turbo.decode(&sample.bytes).expect("a good file");
        self.rgb = rgb;
        self.resize(width as u32, height as u32, [sample.crop.x, sample.crop.y], sample.crop);
    }

    fn resize(&mut self, width: u32, height: u32, [x, y]: [u32; 2], crop: CropBox) {
        let image = ImageRef::new(width, height, &self.rgb, PixelType::U8x3).expect("a whole picture");
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(
            x.into(),
            y.into(),
            crop.width.into(),
            crop.height.into(),
        );
        self.resizer.resize(&image, &mut self.out, &options).expect("a crop inside");
    }
}

/// Random resized crop: scale 0.2 to 1, ratio 3/4 to 4/3, ten tries, else everything.
fn random_crop(width: u32, height: u32, state: &mut u64) -> CropBox {
    let mut uniform = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = *state;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((value ^ (value >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    for _ in 0..10 {
        let area = f64::from(width) * f64::from(height) * (0.2 + 0.8 * uniform());
        let ratio = ((0.75_f64).ln() * (1.0 - 2.0 * uniform())).exp();
        let (w, h) = ((area * ratio).sqrt().round() as u32, (area / ratio).sqrt().round() as u32);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let x = (uniform() * f64::from(width - w + 1)) as u32;
            let y = (uniform() * f64::from(height - h + 1)) as u32;
            return CropBox { x, y, width: w, height: h };
        }
    }
    CropBox { x: 0, y: 0, width, height }
}

/// Offsets of all restart segments of a file whose last marker segment before the scan is SOS.
fn segment_offsets(bytes: &[u8]) -> Vec<u32> {
    let mut offset = 2;
    while bytes[offset + 1] != 0xDA {
        offset += 2 + usize::from(u16::from_be_bytes([bytes[offset + 2], bytes[offset + 3]]));
    }
    offset += 2 + usize::from(u16::from_be_bytes([bytes[offset + 2], bytes[offset + 3]]));
    let restarts = (offset..bytes.len() - 1).filter(|&at| bytes[at] == 0xFF && (0xD0..=0xD7).contains(&bytes[at + 1]));
    std::iter::once(offset as u32).chain(restarts.map(|at| at as u32 + 2)).collect()
}

fn jpegs_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            jpegs_below(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg"))
        {
            found.push(path);
        }
    }
}

/// CPU time of this process so far.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split_whitespace().next().expect("a number").parse::<f64>().expect("nanoseconds") / 1e6
}
