//! Pixels against what Pillow makes of the same files; `tests/data/golden/generate.py` made the pictures.

use std::path::{Path, PathBuf};

use patchstream_pipeline::DecodeMode;
use patchstream_pipeline::decode::Decoder;
use patchstream_pipeline::geometry::{PixelBox, Size};
use patchstream_pipeline::resize::{Resizer, needed_pixels};
use patchstream_pipeline::transform::View;

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    file: PathBuf,
    #[serde(rename = "box")]
    crop: CropBox,
    size: CaseSize,
    expected: PathBuf,
}

#[derive(serde::Deserialize)]
struct CropBox {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// A square's side, or height and width.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum CaseSize {
    Side(u32),
    HeightWidth(u32, u32),
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(path)
}

fn rgb(path: &Path) -> image::RgbImage {
    image::load_from_memory(&fs_err::read(path).unwrap()).unwrap().into_rgb8()
}

/// Region decode and resize of one case; gives the differences to the expected picture, a value each.
fn differences(directory: &Path, case: &Case, mode: DecodeMode) -> Vec<u8> {
    let bytes = fs_err::read(directory.join(&case.file)).unwrap();
    let size = match case.size {
        CaseSize::Side(side) => Size { width: side, height: side },
        CaseSize::HeightWidth(height, width) => Size { width, height },
    };
    let CropBox { x, y, width, height } = case.crop;
    let crop = PixelBox { x, y, width, height };
    let view = View { source: crop.into(), bounds: crop, flip: false };
    let mut decoder = Decoder::default();
    let header = decoder.header(&bytes, false).unwrap();
    let decoded = decoder.region(&bytes, &header, needed_pixels(&view, size), None).unwrap();
    let mut resized = vec![0; size.rgb_bytes()];
    Resizer::default().resize(&decoded, &view, size, mode, &mut resized);
    let expected = rgb(&directory.join(&case.expected));
    assert_eq!((expected.width(), expected.height()), (size.width, size.height));
    resized.iter().zip(expected.as_raw()).map(|(got, expected)| got.abs_diff(*expected)).collect()
}

/// Calls `check` with a name and the differences of each golden case, those of `PATCHSTREAM_CROPS` included.
fn each_case(mode: DecodeMode, check: impl Fn(&str, Vec<u8>)) {
    let mut lists = vec![data("golden/crops/cases.json")];
    if let Some(further) = std::env::var_os("PATCHSTREAM_CROPS").map(PathBuf::from) {
        lists.push(if further.is_dir() { further.join("cases.json") } else { further });
    }
    for list in lists {
        let cases: Cases = serde_json::from_str(&fs_err::read_to_string(&list).unwrap()).unwrap();
        assert!(!cases.cases.is_empty(), "{} has cases", list.display());
        let directory = list.parent().unwrap();
        for case in &cases.cases {
            check(&case.expected.display().to_string(), differences(directory, case, mode));
        }
    }
}

fn mean(differences: &[u8]) -> f64 {
    differences.iter().map(|&difference| f64::from(difference)).sum::<f64>() / differences.len() as f64
}

#[test]
fn crops_in_exact_mode_equal_pillows() {
    each_case(DecodeMode::Exact, |name, differences| {
        let within_4 = differences.iter().filter(|&&difference| difference <= 4).count() as f64;
        assert!(mean(&differences) <= 0.6, "{name}: differs by {} on average", mean(&differences));
        assert!(within_4 >= 0.999 * differences.len() as f64, "{name}: {within_4} of {}", differences.len());
    });
}

/// No golden bound, but what the documentation of `DecodeMode::Fast` says of photographs.
#[test]
fn crops_in_fast_mode_stay_close_to_pillows() {
    each_case(DecodeMode::Fast, |name, differences| {
        let squares: f64 = differences.iter().map(|&difference| f64::from(difference).powi(2)).sum();
        let psnr_db = 10.0 * (255.0_f64.powi(2) * differences.len() as f64 / squares).log10();
        assert!(psnr_db >= 47.0, "{name}: {psnr_db:.1} dB");
    });
}

#[test]
fn golden_odd_files_decode_as_pillow_converts_them() {
    let mut decoder = Decoder::default();
    for entry in fs_err::read_dir(data("odd")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs_err::read(&path).unwrap();
        let (pixels, size) = decoder.whole(&bytes).unwrap();
        let expected = rgb(&data("golden/odd").join(path.with_extension("png").file_name().unwrap()));
        assert_eq!((expected.width(), expected.height()), (size.width, size.height), "{}", path.display());
        let worst = pixels.iter().zip(expected.as_raw()).map(|(got, expected)| got.abs_diff(*expected)).max();
        let allowed = if bytes.starts_with(&[0xff, 0xd8]) { 2 } else { 0 };
        assert!(worst <= Some(allowed), "{}: differs by {worst:?}", path.display());
    }
}
