//! Decoding of real, odd, damaged and hostile files.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use patchstream_pipeline::PipelineError;
use patchstream_pipeline::decode::Decoder;
use proptest::prelude::*;

fn photos() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let classes = fs_err::read_dir(root.join("photos")).unwrap().map(|entry| entry.unwrap().path());
    let directories = classes.filter(|path| path.is_dir()).chain([root.join("odd")]);
    let mut files: Vec<PathBuf> =
        directories.flat_map(|path| fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path())).collect();
    files.sort();
    files
}

fn photo(name: &str) -> Vec<u8> {
    let path = photos().into_iter().find(|path| path.ends_with(name)).expect("the photograph is there");
    fs_err::read(path).unwrap()
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let picture = RgbImage::from_fn(37, 23, |x, y| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x ^ y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn content_decides_the_format() {
    let mut decoder = Decoder::default();
    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
        let (_, size) = decoder.whole(&encoded(format)).unwrap();
        assert_eq!((size.width, size.height), (37, 23), "{format:?}");
    }
    let error = decoder.whole(b"<svg/>").unwrap_err();
    assert!(matches!(error, PipelineError::UnknownFormat { .. }) && error.is_bad_sample() && error.hint().is_some());
    decoder.whole(b"").unwrap_err();
}

#[test]
fn jpeg_files_that_are_cut_off_are_bad_wherever_the_crop_lies() {
    let mut decoder = Decoder::default();
    for name in ["astronaut.jpg", "rocket.jpg", "hubble_deep_field.jpg", "moon.jpg", "cmyk.jpg"] {
        let bytes = photo(name);
        for kept in [2, 100, bytes.len() / 4, bytes.len() / 2, bytes.len() - 2] {
            let error = decoder.header(&bytes[..kept], false).unwrap_err();
            assert!(error.is_bad_sample(), "{name} cut off at {kept}: {error}");
        }
    }
}

#[test]
fn damaged_entropy_data_are_bad_and_surplus_bytes_are_not() {
    let mut decoder = Decoder::default();
    let bytes = photo("hubble_deep_field.jpg");
    let middle = bytes.len() / 2;
    let mut damaged = bytes.clone();
    damaged[middle..middle + 400].fill(0x55);
    let error = decoder.whole(&damaged).unwrap_err();
    assert!(error.is_bad_sample() && error.to_string().starts_with("JPEG: Corrupt JPEG data"), "{error}");

    let sound = decoder.whole(&bytes).unwrap().0.to_vec();
    let before_end = [&bytes[..bytes.len() - 2], &[0; 7], &bytes[bytes.len() - 2..]].concat();
    assert!(decoder.whole(&before_end).unwrap().0 == sound, "surplus bytes before the end change nothing");
    let after_end = [&bytes[..], &[0x1a; 1000]].concat();
    assert!(decoder.whole(&after_end).unwrap().0 == sound, "surplus bytes after the end change nothing");
}

/// Headers that declare 60,000 pixels each way or more, in files of a few bytes.
#[test]
fn giant_declarations_are_errors() {
    let mut decoder = Decoder::default();
    let mut check = |name: &str, bytes: &[u8]| {
        let error = decoder.whole(bytes).unwrap_err();
        assert!(error.is_bad_sample(), "{name}: {error}");
    };
    let mut jpeg = photo("astronaut.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    check("JPEG", &jpeg);
    let mut png = encoded(ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    check("PNG", &png);
    let mut gif = encoded(ImageFormat::Gif);
    gif[6..10].fill(0xff);
    check("GIF", &gif);
    let mut bmp = encoded(ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xa0, 0x86, 1, 0, 0xa0, 0x86, 1, 0]);
    check("BMP", &bmp);
}

/// The checksum of a PNG chunk (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn originals() -> Vec<Vec<u8>> {
    let mut originals: Vec<Vec<u8>> =
        [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP]
            .map(encoded)
            .into();
    let names = ["chelsea.jpg", "rocket.jpg", "hubble_deep_field.jpg", "tiny_9x7.jpg", "cmyk.jpg", "webp.webp"];
    originals.extend(names.map(photo));
    originals
}

proptest! {
    /// Whatever happens to a file, it decodes or is a bad sample; nothing panics, and the memory asked for follows
    /// from the declared size, which is capped.
    #[test]
    fn damaged_files_decode_or_are_bad_samples(
        original in 0..11usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        kept in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        in_header in any::<bool>(),
    ) {
        let mut bytes = originals().swap_remove(original);
        let reach = if in_header { bytes.len().min(700) } else { bytes.len() };
        for (index, value) in flips {
            let at = index.index(reach);
            bytes[at] = value;
        }
        if let Some(kept) = kept {
            bytes.truncate(kept.index(bytes.len()));
        }
        match Decoder::default().whole(&bytes) {
            Ok((pixels, size)) => prop_assert_eq!(pixels.len(), size.rgb_bytes()),
            Err(error) => prop_assert!(error.is_bad_sample(), "{}", error),
        }
    }
}
