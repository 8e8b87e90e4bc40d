use std::path::{Path, PathBuf};

use super::*;

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(folder)
}

/// The JPEGs among the photographs and the awkward files.
fn jpegs() -> Vec<(PathBuf, Vec<u8>)> {
    let files = |path: PathBuf| fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let photos = files(data("photos")).filter(|path| path.is_dir()).flat_map(files);
    let all = photos.chain(files(data("odd"))).map(|path| (path.clone(), fs_err::read(path).unwrap()));
    all.filter(|(_, bytes)| bytes.starts_with(&[0xff, 0xd8])).collect()
}

fn interval(mcus: u16) -> NonZeroU16 {
    NonZeroU16::new(mcus).unwrap()
}

/// Markers and bodies of application segments and comments, but for JFIF's, which encoders write themselves.
fn application_segments(jpeg: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut found, mut at) = (Vec::new(), 2);
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if matches!(jpeg[at + 1], 0xe1..=0xef | 0xfe) {
            found.push((jpeg[at + 1], jpeg[at + 4..end].to_vec()));
        }
        at = end;
    }
    found
}

/// Gray, 4:2:0, 4:2:2, 4:4:4, CMYK, progressive, with restart markers of its own, of a few pixels, with EXIF: the pixels
/// are the same, so the coefficients are, and so is everything beside them.
#[test]
fn a_tile_index_changes_no_pixel_and_no_metadata() {
    let mut transcoder = Transcoder::default();
    let jpegs = jpegs();
    assert_eq!(jpegs.len(), 15);
    for (path, original) in &jpegs {
        for mcus in [1, 8, 1000] {
            let new = transcoder.transcode(original, Encode::Keep, Some(interval(mcus))).unwrap().unwrap();
            let segments = new.segments.unwrap();
            let [pixels, indexed] =
                [original, &new.bytes].map(|jpeg| Decoder::default().whole(jpeg).unwrap().0.to_vec());
            assert!(pixels == indexed, "{}", path.display());
            assert_eq!(application_segments(original), application_segments(&new.bytes), "{}", path.display());
            assert!(!new.bytes.windows(2).any(|pair| pair == [0xff, 0xc2]), "progressive became baseline");
            for (number, &offset) in segments.iter().enumerate().skip(1) {
                let marker = [0xff, 0xd0 + ((number - 1) % 8) as u8];
                assert_eq!(new.bytes[offset as usize - 2..offset as usize], marker, "{}", path.display());
            }
            let size = Size { width: new.width_px, height: new.height_px };
            let blocks = u64::from(size.width.div_ceil(16)) * u64::from(size.height.div_ceil(16));
            assert!(segments.len() as u64 >= blocks.div_ceil(u64::from(mcus)), "{}: {segments:?}", path.display());
        }
    }
}

#[test]
fn a_progressive_picture_has_the_same_pixels_as_a_baseline_file() {
    let mut transcoder = Transcoder::default();
    let progressive: Vec<_> = jpegs().into_iter().filter(|(_, bytes)| is_progressive(bytes)).collect();
    assert!(!progressive.is_empty());
    for (path, bytes) in &progressive {
        let baseline = transcoder.transformer.baseline_of(bytes).unwrap();
        assert!(!is_progressive(&baseline));
        let expected = Decoder::default().whole(bytes).unwrap().0.to_vec();
        assert!(Decoder::default().whole(&baseline).unwrap().0 == expected, "{}", path.display());
    }
}

#[test]
fn what_cannot_be_transcoded_stays_as_it_is() {
    let mut transcoder = Transcoder::default();
    let photo = fs_err::read(data("photos/space/astronaut.jpg")).unwrap();
    let mut damaged = photo.clone();
    damaged.truncate(photo.len() - 500);
    let rubbish = [&photo[..20], b"rubbish"].concat();
    let png = fs_err::read(data("odd/rgba.png")).unwrap();
    for bytes in [&damaged, &rubbish, &png] {
        assert_eq!(transcoder.transcode(bytes, Encode::Keep, Some(interval(8))).unwrap(), None);
    }
    assert!(transcoder.transcode(&photo, Encode::Keep, Some(interval(8))).unwrap().is_some(), "and then goes on");
}

#[test]
fn images_are_shrunk_upright_and_in_shape() {
    let mut transcoder = Transcoder::default();
    let side = NonZeroU32::new(100).unwrap();
    let raw = Encode::Raw { max_side_px: side, zstd_level: None };
    // Wider than high as stored, to be turned by a quarter.
    let rotated = fs_err::read(data("odd/exif_rotated.jpg")).unwrap();
    let new = transcoder.transcode(&rotated, raw, None).unwrap().unwrap();
    assert!(new.bytes.starts_with(format!("P6 {} {} 255\n", new.width_px, new.height_px).as_bytes()));
    assert_eq!(new.width_px.max(new.height_px), 100);
    assert!(new.height_px > new.width_px, "{} x {}", new.width_px, new.height_px);
    let (pixels, size) = transcoder.decoder.whole(&new.bytes).unwrap();
    assert_eq!((size.width, size.height), (new.width_px, new.height_px));
    assert!(std::ptr::eq(pixels, &raw const new.bytes[new.bytes.len() - pixels.len()..]), "raw pixels are not copied");

    let as_it_is = Encode::Jpeg { max_side_px: None, quality: 95.try_into().unwrap() };
    let new = transcoder.transcode(&rotated, as_it_is, None).unwrap().unwrap();
    let mut decoder = Decoder::default();
    let header = decoder.header(&rotated, true).unwrap();
    let mut expected = vec![0; header.size.rgb_bytes()];
    header.orientation.apply(decoder.whole(&rotated).unwrap().0, header.size, &mut expected);
    assert!(new.height_px > new.width_px && psnr_db(&expected, Decoder::default().whole(&new.bytes).unwrap().0) > 35.0);

    let tiny = fs_err::read(data("odd/tiny_9x7.jpg")).unwrap();
    let new = transcoder.transcode(&tiny, raw, None).unwrap().unwrap();
    assert_eq!((new.width_px, new.height_px), (9, 7), "small images are not enlarged");
    assert_eq!(&new.bytes[11..], Decoder::default().whole(&tiny).unwrap().0);
}

fn psnr_db(original: &[u8], other: &[u8]) -> f64 {
    assert_eq!(original.len(), other.len());
    let squares: u64 = original.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0_f64.powi(2) * original.len() as f64 / squares as f64).log10()
}

/// Through planes nothing is lost but by quantising, in sizes that are odd, too.
#[test]
fn planes_are_compressed_with_less_loss_than_rgb() {
    let Transcoder { mut decoder, mut compressor, .. } = Transcoder::default();
    compressor.configure(95.try_into().unwrap(), None);
    let mut sizes = Vec::new();
    for (path, original) in jpegs() {
        let (rgb, size) = Decoder::default().whole(&original).map(|(rgb, size)| (rgb.to_vec(), size)).unwrap();
        let header = decoder.header(&original, false).unwrap();
        let Some(planes) = decoder.quartered_planes(&original, &header) else { continue };
        sizes.push([size.width, size.height]);
        let jpegs = [compressor.compress_planes(&planes, size), compressor.compress(&rgb, size)].map(Result::unwrap);
        let [planes_db, rgb_db] = jpegs.map(|jpeg| psnr_db(&rgb, Decoder::default().whole(&jpeg).unwrap().0));
        assert!(planes_db > rgb_db, "{}: {planes_db} and {rgb_db} dB", path.display());
    }
    assert!(sizes.iter().flatten().any(|px| px % 2 == 1) && sizes.len() > 3, "{sizes:?}");
}

#[test]
fn jpegs_have_the_quality_asked_for() {
    let mut transcoder = Transcoder::default();
    let photo = fs_err::read(data("photos/space/astronaut.jpg")).unwrap();
    let original = Decoder::default().whole(&photo).unwrap().0.to_vec();
    let mut lengths = Vec::new();
    for quality in [50, 90, 100] {
        let encode = Encode::Jpeg { max_side_px: None, quality: quality.try_into().unwrap() };
        let new = transcoder.transcode(&photo, encode, Some(interval(8))).unwrap().unwrap();
        assert!(new.segments.is_some_and(|segments| segments.len() > 100));
        let decoded = Decoder::default().whole(&new.bytes).unwrap().0.to_vec();
        lengths.push((new.bytes.len(), psnr_db(&original, &decoded)));
    }
    assert!(lengths.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{lengths:?}");
    assert!(lengths[1].1 > 33.0, "{lengths:?}");
}

#[test]
fn sizes_keep_their_shape() {
    let side = NonZeroU32::new(256);
    let check = |width, height, expected| {
        let got = shrunk(Size { width, height }, side);
        assert_eq!((got.width, got.height), expected);
    };
    check(512, 384, (256, 192));
    check(500, 375, (256, 192));
    check(256, 10, (256, 10));
    check(100_000, 3, (256, 1));
    assert_eq!(shrunk(Size { width: 9, height: 9 }, None), Size { width: 9, height: 9 });
}
