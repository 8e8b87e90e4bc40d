//! The resizer against itself, libjpeg-turbo and what must hold of any resize; against Pillow it is in `tests/golden.rs`.

use std::num::NonZeroU8;
use std::path::Path;

use patchstream_datasets::ImageExaminer;
use patchstream_datasets::convert::Encode;
use proptest::prelude::*;

use super::*;
use crate::decode::Decoder;
use crate::examine::Examiner;
use crate::geometry::Rect;
use crate::jpeg;

fn view_of(region: PixelBox) -> View {
    View { source: region.into(), bounds: region, flip: false }
}

fn resized(decoded: &Decoded<'_>, view: &View, size: Size, mode: DecodeMode) -> Vec<u8> {
    let [detected, portable] = [Instructions::Detected, Instructions::Portable].map(|instructions| {
        let mut out = vec![0; size.rgb_bytes()];
        Resizer::new(instructions).resize(decoded, view, size, mode, &mut out);
        out
    });
    assert!(detected == portable, "the same bytes with all instructions: {view:?} to {size:?}, {mode:?}");
    detected
}

/// The repository's JPEGs that become planes: 4:2:0, 4:2:2, 4:4:4 and grayscale.
fn photos() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos");
    let files = |path: std::path::PathBuf| fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let photos = files(folder).filter(|path| path.is_dir()).flat_map(files).map(|path| fs_err::read(path).unwrap());
    photos.filter(|bytes| jpeg::image_size(bytes).is_ok()).collect()
}

#[test]
fn pixels_outside_of_the_bounds_have_no_influence() {
    let size = Size { width: 40, height: 30 };
    let region = PixelBox::whole(size);
    let inner = PixelBox { x: 8, y: 6, width: 20, height: 18 };
    let mut pictures = [0u8, 255].map(|outside| vec![outside; size.rgb_bytes()]);
    for pixels in &mut pictures {
        for y in inner.y..inner.bottom() {
            let row = (y * size.width + inner.x) as usize * 3;
            pixels[row..row + inner.width as usize * 3].fill(100 + y as u8);
        }
    }
    let [dark, bright] = pictures.map(|pixels| {
        let decoded = Decoded { pixels: Pixels::Rgb(&pixels), region };
        resized(&decoded, &view_of(inner), Size { width: 8, height: 8 }, DecodeMode::Exact)
    });
    assert_eq!(dark, bright);
}

#[test]
fn evaluation_reads_beyond_its_source_but_not_beyond_the_picture() {
    let source = Rect { x: 10.0, y: 0.5, width: 448.0, height: 448.0 };
    let bounds = PixelBox { x: 0, y: 0, width: 500, height: 449 };
    let needed = needed_pixels(&View { source, bounds, flip: false }, Size { width: 224, height: 224 });
    assert_eq!(needed, PixelBox { x: 4, y: 0, width: 460, height: 449 });
}

/// Whatever the size, down to one pixel: through the stream's decoder, each is as the complete decoders have it.
#[test]
fn the_smallest_jpegs_have_the_pixels_of_libjpeg_turbo() {
    let encode = Encode::Jpeg { max_side_px: None, quality: NonZeroU8::new(80).unwrap() };
    let mut decoder = Decoder::default();
    for (width, height) in (1..20).flat_map(|width| (1..20).map(move |height| (width, height))) {
        let size = Size { width, height };
        let mut ppm = format!("P6 {width} {height} 255\n").into_bytes();
        ppm.extend((0..size.rgb_bytes()).map(|index| (index * index * 7) as u8));
        let jpeg = Examiner::default().transcode(&ppm, encode, None).unwrap().unwrap().bytes;
        let whole = decoder.whole(&jpeg).unwrap().0.to_vec();
        let header = decoder.header(&jpeg, false).unwrap();
        let region = PixelBox::whole(size);
        let decoded = decoder.region(&jpeg, &header, region, None).unwrap();
        assert!(resized(&decoded, &view_of(region), size, DecodeMode::Exact) == whole, "{width} x {height}");
    }
}

/// A crop at the picture's own size is the picture: so exact mode's planes become libjpeg-turbo's RGB, to the bit, at
/// the edges of the picture and of what was decoded too.
#[test]
fn exact_mode_makes_the_pixels_of_libjpeg_turbo() {
    let mut decoder = Decoder::default();
    for bytes in photos() {
        let (whole, size) = decoder.whole(&bytes).unwrap();
        let whole = whole.to_vec();
        let (w, h) = (size.width, size.height);
        for crop in [
            PixelBox::whole(size),
            PixelBox { x: 0, y: 0, width: 17, height: 9 },
            PixelBox { x: w - 21, y: h - 5, width: 21, height: 5 },
            PixelBox { x: w / 3, y: h / 3 + 1, width: w / 2, height: h / 2 },
            PixelBox { x: w / 3 + 1, y: h / 3, width: 1, height: 1 },
        ] {
            let mut jpeg = jpeg::Decoder::default();
            jpeg.decode(&bytes, crop, None).unwrap();
            let decoded = Decoded { pixels: Pixels::Ycc(jpeg.planes()), region: crop };
            let out_size = Size { width: crop.width, height: crop.height };
            let ours = resized(&decoded, &view_of(crop), out_size, DecodeMode::Exact);
            for (index, row) in ours.chunks(crop.width as usize * 3).enumerate() {
                let start = ((crop.y as usize + index) * w as usize + crop.x as usize) * 3;
                assert!(*row == whole[start..start + row.len()], "{w} x {h}, {crop:?}, row {index}");
            }
        }
    }
}

#[test]
fn planes_and_their_pixels_are_resized_alike() {
    let mut decoder = Decoder::default();
    for bytes in photos() {
        let (whole, size) = decoder.whole(&bytes).unwrap();
        let whole = whole.to_vec();
        let mut jpeg = jpeg::Decoder::default();
        for divisor in [1, 2, 5] {
            let (x, y) = (size.width / 7, size.height / 9);
            let crop = PixelBox { x, y, width: (size.width - x) / divisor, height: (size.height - y) / divisor };
            let target = Size { width: 52, height: 37 };
            jpeg.decode(&bytes, crop, None).unwrap();
            let planes = Decoded { pixels: Pixels::Ycc(jpeg.planes()), region: crop };
            let pixels = Decoded { pixels: Pixels::Rgb(&whole), region: PixelBox::whole(size) };
            let expected = resized(&pixels, &view_of(crop), target, DecodeMode::Exact);
            assert!(expected == resized(&planes, &view_of(crop), target, DecodeMode::Exact), "{size:?}, {crop:?}");
            let fast = resized(&planes, &view_of(crop), target, DecodeMode::Fast);
            let squares = fast.iter().zip(&expected).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
            let psnr_db = 10.0 * (255.0_f64.powi(2) * fast.len() as f64 / squares.sum::<f64>().max(1.0)).log10();
            assert!(psnr_db > 38.0, "{size:?}, {crop:?}: {psnr_db:.1} dB");
        }
    }
}

#[test]
fn a_flipped_view_is_the_mirrored_picture() {
    let size = Size { width: 50, height: 21 };
    let pixels: Vec<u8> = (0..size.rgb_bytes()).map(|index| (index * index / 7) as u8).collect();
    let decoded = Decoded { pixels: Pixels::Rgb(&pixels), region: PixelBox::whole(size) };
    let target = Size { width: 19, height: 30 };
    let crop = PixelBox { x: 3, y: 1, width: 40, height: 20 };
    let upright = resized(&decoded, &view_of(crop), target, DecodeMode::Exact);
    let flipped = resized(&decoded, &View { flip: true, ..view_of(crop) }, target, DecodeMode::Exact);
    let mirrored = upright.chunks(19 * 3).flat_map(|row| row.chunks(3).rev().flatten()).copied();
    assert!(flipped.iter().copied().eq(mirrored));
}

proptest! {
    /// Sizes of all kinds, narrower and lower than a vector too: flat pictures stay flat, and nothing is read or written
    /// where it must not be.
    #[test]
    fn flat_pictures_stay_flat(
        width in 1u32..80, height in 1u32..80, target_width in 1u32..70, target_height in 1u32..70,
        color: [u8; 3], shares in prop::array::uniform4(0.0..1.0f64),
    ) {
        let [x, y, w, h] = shares;
        let part = |share: f64, whole: u32| (f64::from(whole) * share) as u32;
        let (x, y) = (part(x, width), part(y, height));
        let crop = PixelBox { x, y, width: part(w, width - x).max(1), height: part(h, height - y).max(1) };
        let size = Size { width, height };
        let pixels = color.repeat(size.pixels() as usize);
        let decoded = Decoded { pixels: Pixels::Rgb(&pixels), region: PixelBox::whole(size) };
        let target = Size { width: target_width, height: target_height };
        let out = resized(&decoded, &view_of(crop), target, DecodeMode::Exact);
        prop_assert!(out.as_chunks::<3>().0.iter().all(|pixel| *pixel == color));
    }
}
