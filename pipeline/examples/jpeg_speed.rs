//! Our JPEG decoder and resizer beside libjpeg-turbo's region decode and `fast_image_resize`, on the same crops, in turn.
//!
//!     cargo run --release -p patchstream-pipeline --example jpeg_speed -- FOLDER [ROUNDS] [interval,...]
//!
//! Prints CPU milliseconds an image (one thread), their ratio, and the fidelity of ours to a full decode and resize. Each
//! restart interval asks for the same again on losslessly transcoded copies with restart markers and an index of segments.
#![allow(clippy::print_stdout, reason = "the numbers are the result")]
#![allow(clippy::disallowed_methods, reason = "the panic message names the path")]

use std::path::{Path, PathBuf};

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions};
use patchstream_pipeline::DecodeMode;
use patchstream_pipeline::decode::{Decoded, Pixels};
use patchstream_pipeline::geometry::{PixelBox, Size};
use patchstream_pipeline::jpeg::{Decoder, Instructions, image_size};
use patchstream_pipeline::resize::Resizer;
use patchstream_pipeline::transform::View;

#[path = "../tests/support/turbo.rs"]
mod turbo;

use turbo::Turbo;

const TARGET: Size = Size { width: 224, height: 224 };

struct Sample {
    bytes: Vec<u8>,
    index: Option<Vec<u32>>,
    crop: PixelBox,
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
            let Size { width, height } = image_size(&bytes).ok()?;
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

/// Runs all in turn and prints the median round of each.
fn compare(name: &str, samples: &[Sample], rounds: usize) {
    let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
    let mut times = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        let mut at = vec![cpu_ms()];
        for sample in samples {
            ours.decode(sample);
        }
        at.push(cpu_ms());
        for mode in [DecodeMode::Exact, DecodeMode::Fast] {
            for sample in samples {
                ours.crop(sample, mode);
            }
            at.push(cpu_ms());
        }
        for sample in samples {
            theirs.crop(sample);
        }
        at.push(cpu_ms());
        if round > 0 {
            for (times, pair) in times.iter_mut().zip(at.windows(2)) {
                times.push((pair[1] - pair[0]) / samples.len() as f64);
            }
        }
    }
    let [decode, exact, fast, theirs] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let bytes: usize = samples.iter().map(|sample| sample.bytes.len()).sum();
    println!(
        "{name}: exact {exact:.3} ms, fast {fast:.3} ms, of them decoding {decode:.3} ms; libjpeg-turbo {theirs:.3} ms; \
         ratio exact {:.2}, fast {:.2} ({} bytes)",
        theirs / exact,
        theirs / fast,
        bytes / samples.len()
    );
}

/// Peak signal-to-noise ratio of ours to a full decode and a resize of RGB.
fn fidelity(samples: &[Sample]) {
    let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
    for mode in [DecodeMode::Exact, DecodeMode::Fast] {
        let mut psnr: Vec<f64> = samples
            .iter()
            .map(|sample| {
                ours.crop(sample, mode);
                theirs.crop_exactly(sample);
                let squares = ours.out.iter().zip(&theirs.out).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
                10.0 * (255.0_f64.powi(2) * ours.out.len() as f64 / squares.sum::<f64>().max(1.0)).log10()
            })
            .collect();
        psnr.sort_by(f64::total_cmp);
        let at = |share: f64| psnr[((psnr.len() - 1) as f64 * share) as usize];
        println!("PSNR of {mode:?}: median {:.1}, 1% {:.1}, minimum {:.1} dB", at(0.5), at(0.01), at(0.0));
    }
}

struct Ours {
    decoder: Decoder,
    resizer: Resizer,
    out: Vec<u8>,
}

impl Ours {
    fn new() -> Ours {
        let resizer = Resizer::new(Instructions::Detected);
        Ours { decoder: Decoder::new(Instructions::Detected), resizer, out: vec![0; TARGET.rgb_bytes()] }
    }

    fn decode(&mut self, sample: &Sample) {
        self.decoder.decode(&sample.bytes, sample.crop, sample.index.as_deref()).expect("a file for us");
    }

    fn crop(&mut self, sample: &Sample, mode: DecodeMode) {
        self.decode(sample);
        let view = View { source: sample.crop.into(), bounds: sample.crop, flip: false };
        let decoded = Decoded { pixels: Pixels::Ycc(self.decoder.planes()), region: sample.crop };
        self.resizer.resize(&decoded, &view, TARGET, mode, &mut self.out);
    }
}

struct Theirs {
    turbo: Turbo,
    resizer: fast_image_resize::Resizer,
    rgb: Vec<u8>,
    out: Vec<u8>,
}

impl Theirs {
    fn new() -> Theirs {
        let resizer = fast_image_resize::Resizer::new();
        Theirs { turbo: Turbo::decompressor(), resizer, rgb: Vec::new(), out: vec![0; TARGET.rgb_bytes()] }
    }

    fn crop(&mut self, sample: &Sample) {
        let PixelBox { x, y, width, height } = sample.crop;
        let region = [x, y, width, height].map(|value| value as usize);
        let margin = self.turbo.decode_region(&sample.bytes, region, &mut self.rgb).expect("a good file") as u32;
        let size = Size { width: width + margin, height };
        self.resize(size, PixelBox { x: margin, y: 0, width, height });
    }

    fn crop_exactly(&mut self, sample: &Sample) {
        let (rgb, width, height) = self.turbo.decode(&sample.bytes).expect("a good file");
        self.rgb = rgb;
        self.resize(Size { width: width as u32, height: height as u32 }, sample.crop);
    }

    fn resize(&mut self, size: Size, crop: PixelBox) {
        // The typed interface, since only its kernels are compiled as one with what they work on.
        let pixels = TypedImageRef::<U8x3>::from_buffer(size.width, size.height, &self.rgb[..size.rgb_bytes()]);
        let pixels = pixels.expect("a whole picture");
        let cropped = TypedCroppedImage::new(pixels, crop.x, crop.y, crop.width, crop.height).expect("a crop inside");
        let mut out = TypedImage::<U8x3>::from_buffer(TARGET.width, TARGET.height, &mut self.out).expect("room");
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        self.resizer.resize_typed(&cropped, &mut out, &options).expect("a picture");
    }
}

/// Random resized crop: scale 0.2 to 1, ratio 3/4 to 4/3, ten tries, else everything.
fn random_crop(width: u32, height: u32, state: &mut u64) -> PixelBox {
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
            return PixelBox { x, y, width: w, height: h };
        }
    }
    PixelBox { x: 0, y: 0, width, height }
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
