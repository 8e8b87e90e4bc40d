//! Against libjpeg-turbo: coefficients and planes exactly, pictures closely.

use std::path::{Path, PathBuf};

use super::*;
use crate::jpeg::entropy::Block;
use crate::jpeg::scan::{BlockSink, Place, decode_scan};

#[path = "../../tests/support/turbo.rs"]
mod turbo;

use turbo::{Coefficients, Turbo};

/// Keeps the blocks instead of transforming them.
struct Recorder<'a> {
    region: &'a Region,
    components: Vec<Coefficients>,
}

impl BlockSink for Recorder<'_> {
    fn put(&mut self, Place { component, x, y, .. }: Place, block: &Block, _last: usize) {
        // A component has blocks beyond its own width only to fill the last MCU; libjpeg-turbo does not give them.
        let columns = self.region.components[component].x.samples.div_ceil(8) as usize;
        let rows = self.region.components[component].y.samples.div_ceil(8) as usize;
        self.components[component].columns = columns;
        self.components[component].blocks.resize(columns * rows, [0; 64]);
        self.components[component].blocks[y as usize * columns + x as usize] = *block.coefficients();
    }
}

fn whole(bytes: &[u8]) -> Result<PixelBox, Refusal> {
    image_size(bytes).map(PixelBox::whole)
}

fn our_coefficients(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Coefficients>, Refusal> {
    let header = markers::read_header(bytes)?;
    let region = Region::new(&header, whole(bytes)?)?;
    decoder.prepare(bytes, &header, &region, None)?;
    let tables = block_tables(&decoder.tables, table_count(&header, &region));
    let scan = Scan { region: &region, tables };
    let mut recorder = Recorder { region: &region, components: vec![Coefficients::default(); region.component_count] };
    decode_scan(&scan, &decoder.segments, &mut recorder)?;
    Ok(recorder.components)
}

fn jpegs_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
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

/// The repository's photographs, and those below `PATCHSTREAM_JPEGS`.
fn photos() -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths = Vec::new();
    jpegs_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data"), &mut paths);
    assert!(paths.len() > 12, "the repository's photographs are missing");
    if let Some(more) = std::env::var_os("PATCHSTREAM_JPEGS") {
        jpegs_below(Path::new(&more), &mut paths);
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs_err::read(path).expect("a readable file"))).collect()
}

/// Samples, width and height of each component.
fn our_planes(decoder: &mut Decoder, bytes: &[u8]) -> Vec<(Vec<u8>, usize, usize)> {
    decoder.decode(bytes, whole(bytes).expect("a header for us"), None).expect("a file for us");
    let planes = decoder.planes();
    let plane = |plane: &Plane<'_>| {
        let (width, height) = (plane.width as usize, plane.height as usize);
        let samples = (0..plane.height).flat_map(|y| &plane.row(0, y)[..width]).copied().collect();
        (samples, width, height)
    };
    planes.components.iter().take(planes.count).map(plane).collect()
}

#[test]
fn coefficients_are_those_of_libjpeg_turbo() {
    let (mut decoder, turbo) = (Decoder::default(), Turbo::transformer());
    let mut compared = 0;
    for (path, bytes) in photos() {
        match our_coefficients(&mut decoder, &bytes) {
            Ok(ours) => {
                let mut theirs = turbo.coefficients(&bytes).expect("what we decode, libjpeg-turbo does too");
                for (ours, theirs) in ours.iter().zip(&mut theirs) {
                    // It gives the rows of blocks too that only fill the last MCU.
                    theirs.blocks.truncate(ours.blocks.len());
                }
                assert!(ours == theirs, "{}", path.display());
                compared += 1;
            }
            Err(Refusal::NotForUs(_)) => {}
            Err(damage) => panic!("{}: {damage}", path.display()),
        }
    }
    assert!(compared >= 12, "only {compared} files were for us");
}

#[test]
fn planes_are_those_of_libjpeg_turbo() {
    let (mut detected, mut portable) = (Decoder::default(), Decoder::new(Instructions::Portable));
    let turbo = Turbo::decompressor();
    for (path, bytes) in photos() {
        if image_size(&bytes).is_ok() {
            let theirs = turbo.planes(&bytes).unwrap_or_else(|| panic!("{}: no planes", path.display()));
            let ours = our_planes(&mut detected, &bytes);
            assert!(our_planes(&mut portable, &bytes) == ours, "{}, portable", path.display());
            assert_eq!(ours.len(), theirs.len(), "{}", path.display());
            for ((ours, width, _), (theirs, padded_width, _)) in ours.iter().zip(&theirs) {
                let theirs = theirs.chunks(*padded_width).map(|row| &row[..*width]);
                assert!(ours.chunks(*width).zip(theirs).all(|(ours, theirs)| ours == theirs), "{}", path.display());
            }
        }
    }
}

/// The pixels of a crop, chroma not enlarged, of all components one after the other.
fn crop(decoder: &mut Decoder, bytes: &[u8], part: PixelBox, segments: Option<&[u32]>) -> Result<Vec<u8>, Refusal> {
    decoder.decode(bytes, part, segments)?;
    let planes = decoder.planes();
    let mut samples = Vec::new();
    for (component, plane) in planes.components.iter().enumerate().take(planes.count) {
        let half = |is_half: bool| u32::from(is_half && component > 0);
        let (x, y) = (half(planes.is_half_width), half(planes.is_half_height));
        let columns = part.x >> x..((part.right() - 1) >> x) + 1;
        for row in part.y >> y..=(part.bottom() - 1) >> y {
            samples.extend_from_slice(&plane.row(columns.start, row)[..columns.len()]);
        }
    }
    Ok(samples)
}

/// Crops of all kinds of places, the first of them the whole image.
fn crops_of(bytes: &[u8]) -> Vec<PixelBox> {
    let Ok(PixelBox { width, height, .. }) = whole(bytes) else { return Vec::new() };
    let part = |size: u32, share: u32| (size * share / 16).min(size - 1);
    let mut crops = vec![PixelBox { x: 0, y: 0, width, height }];
    for (x, y, w, h) in [(1, 1, 13, 14), (5, 3, 4, 9), (0, 12, 16, 4), (11, 0, 5, 16), (7, 7, 1, 1), (15, 15, 1, 1)] {
        let (x, y) = (part(width, x) | 1, part(height, y));
        let (x, y) = (x.min(width - 1), y);
        let (w, h) = ((width * w / 16).clamp(1, width - x), (height * h / 16).clamp(1, height - y));
        crops.push(PixelBox { x, y, width: w, height: h });
    }
    crops
}

/// The repository's photographs that are for us.
fn own_photos() -> Vec<(PathBuf, Vec<u8>)> {
    let mut photos = photos();
    photos.retain(|(path, bytes)| path.starts_with(env!("CARGO_MANIFEST_DIR")) && image_size(bytes).is_ok());
    photos
}

/// Offsets of all restart segments.
fn segment_offsets(bytes: &[u8]) -> Vec<u32> {
    let start = markers::read_header(bytes).expect("a header for us").scan_offset;
    let restarts = (start..bytes.len() - 1).filter(|&at| bytes[at] == 0xFF && (0xD0..=0xD7).contains(&bytes[at + 1]));
    std::iter::once(start as u32).chain(restarts.map(|at| at as u32 + 2)).collect()
}

#[test]
fn restart_segments_and_their_index_change_nothing() {
    let (mut decoder, turbo) = (Decoder::default(), Turbo::transformer());
    for (path, bytes) in own_photos() {
        for interval in [1, 3, 8, 50, 60_000] {
            let segmented = turbo.with_restarts(&bytes, interval);
            let index = segment_offsets(&segmented);
            for part in crops_of(&bytes) {
                let expected = crop(&mut decoder, &bytes, part, None).expect("a good file");
                for index in [None, Some(&*index)] {
                    let got = crop(&mut decoder, &segmented, part, index);
                    assert!(got.as_ref() == Ok(&expected), "{}, {interval}, {part:?}: {:?}", path.display(), got.err());
                }
            }
        }
    }
}

#[test]
fn portable_code_gives_the_same_bytes() {
    let (mut detected, mut portable) = (Decoder::default(), Decoder::new(Instructions::Portable));
    for (path, bytes) in own_photos() {
        for part in crops_of(&bytes) {
            let expected = crop(&mut portable, &bytes, part, None).expect("a good file");
            assert!(crop(&mut detected, &bytes, part, None) == Ok(expected), "{}, {part:?}", path.display());
        }
    }
}

#[test]
fn an_index_that_lies_is_noticed() {
    let (mut decoder, turbo) = (Decoder::default(), Turbo::transformer());
    let bytes =
        fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos/space/astronaut.jpg")).unwrap();
    let segmented = turbo.with_restarts(&bytes, 8);
    let part = crops_of(&bytes)[1];
    let index = segment_offsets(&segmented);
    let shifted: Vec<u32> = index.iter().map(|offset| offset + 1).collect();
    let next: Vec<u32> = index[1..].iter().copied().chain([u32::MAX]).collect();
    let reversed: Vec<u32> = index.iter().rev().copied().collect();
    for lie in [&shifted[..], &next, &reversed, &index[..1], &[]] {
        assert!(crop(&mut decoder, &segmented, part, Some(lie)) == Err(Damage::Restart.into()));
    }
}

#[test]
fn a_cut_file_is_damaged() {
    let mut decoder = Decoder::default();
    for (path, bytes) in own_photos() {
        let start = markers::read_header(&bytes).expect("a header for us").scan_offset;
        for share in 0..20 {
            let cut = start + (bytes.len() - start - 1) * share / 19;
            let result = crop(&mut decoder, &bytes[..cut], whole(&bytes).expect("a header"), None);
            assert_eq!(result, Err(Damage::Truncated.into()), "{} cut to {cut}", path.display());
        }
    }
}

#[test]
fn what_follows_the_last_block_is_checked() {
    let mut decoder = Decoder::default();
    for (path, bytes) in own_photos() {
        let part = whole(&bytes).expect("a header for us");
        let mut longer = bytes.clone();
        longer.splice(bytes.len() - 2..bytes.len() - 2, [0x5A]);
        let result = crop(&mut decoder, &longer, part, None);
        assert_eq!(result, Err(Damage::Leftover.into()), "{}", path.display());
    }
}

/// T.81 wants ones there; what some cameras write are zeros.
#[test]
fn the_last_byte_may_be_filled_with_anything() {
    let mut decoder = Decoder::default();
    let photos = own_photos();
    let mut same = 0;
    for (_, bytes) in &photos {
        let part = whole(bytes).expect("a header for us");
        let mut other = bytes.clone();
        // The last bit before the end-of-image marker. Where it is one of a code, the picture changes.
        other[bytes.len() - 3] ^= 1;
        let planes = crop(&mut decoder, bytes, part, None);
        same += usize::from(planes.is_ok() && planes == crop(&mut decoder, &other, part, None));
    }
    assert!(same * 4 >= photos.len() * 3, "{same} of {}", photos.len());
}

#[test]
fn others_are_refused_not_damaged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let check = |file: &str, expected: NotForUs| {
        let bytes = fs_err::read(folder.join(file)).expect("a readable file");
        assert_eq!(image_size(&bytes), Err(expected.into()), "{file}");
    };
    check("photos/space/rocket.jpg", NotForUs::Process(0xC2));
    check("odd/cmyk.jpg", NotForUs::Components(4));
    check("odd/png_named_jpg.jpg", NotForUs::NotJpeg);
    assert_eq!(image_size(&[]), Err(NotForUs::NotJpeg.into()));
}

#[test]
fn crops_outside_are_refused() {
    let mut decoder = Decoder::default();
    let (_, bytes) = own_photos().swap_remove(0);
    let PixelBox { width, height, .. } = whole(&bytes).expect("a header for us");
    for (x, y, w, h) in [(0, 0, 0, 1), (0, 0, 1, 0), (width, 0, 1, 1), (0, 0, width, height + 1), (u32::MAX, 0, 2, 1)] {
        let result = crop(&mut decoder, &bytes, PixelBox { x, y, width: w, height: h }, None);
        assert_eq!(result, Err(NotForUs::CropOutside { width, height }.into()));
    }
}

/// A JPEG has no checksum: a wrong bit may change a value and nothing else. What can be asked for is that we take nothing
/// about which libjpeg-turbo would so much as warn, and that it reads the same from what we do take.
#[test]
fn damage_that_libjpeg_turbo_notices_is_noticed() {
    let (mut decoder, turbo) = (Decoder::default(), Turbo::transformer());
    let (mut ours_noticed, mut theirs_noticed) = (0, 0);
    for (path, bytes) in own_photos() {
        for bytes in [bytes.clone(), Turbo::transformer().with_restarts(&bytes, 8)] {
            let start = markers::read_header(&bytes).expect("a header for us").scan_offset;
            for step in 1..60 {
                let mut bad = bytes.clone();
                let place = start + (bytes.len() - start) * step / 61;
                // One wrong bit, a wrong byte, a run of zeros.
                match step % 3 {
                    0 => bad[place] ^= 1 << (step % 8),
                    1 => bad[place] = (step * 37) as u8,
                    _ => bad[place..(place + 20).min(bytes.len())].fill(0),
                }
                let theirs = turbo.coefficients(&bad);
                theirs_noticed += i32::from(theirs.is_none());
                match our_coefficients(&mut decoder, &bad) {
                    Ok(ours) => {
                        let mut theirs = theirs.unwrap_or_else(|| panic!("{}, {step}: unnoticed", path.display()));
                        for (ours, theirs) in ours.iter().zip(&mut theirs) {
                            theirs.blocks.truncate(ours.blocks.len());
                        }
                        assert!(ours == theirs, "{}, {step}", path.display());
                    }
                    Err(_) => ours_noticed += 1,
                }
            }
        }
    }
    assert!(ours_noticed > theirs_noticed, "noticed {ours_noticed}, libjpeg-turbo {theirs_noticed}");
}

mod damaged {
    use proptest::prelude::*;

    use super::*;

    /// Small files of all kinds that are for us, with and without restart segments.
    fn seeds() -> &'static [(Vec<u8>, Vec<u32>)] {
        static SEEDS: std::sync::OnceLock<Vec<(Vec<u8>, Vec<u32>)>> = std::sync::OnceLock::new();
        SEEDS.get_or_init(|| {
            let turbo = Turbo::transformer();
            let photos = own_photos();
            let plain = photos.iter().map(|(_, bytes)| bytes.clone());
            let segmented = photos.iter().map(|(_, bytes)| turbo.with_restarts(bytes, 5));
            plain
                .chain(segmented)
                .map(|bytes| (segment_offsets(&bytes), bytes))
                .map(|(index, bytes)| (bytes, index))
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_never_panic_and_both_paths_agree(
            seed in 0..1000_usize,
            is_indexed: bool,
            part in 0..7_usize,
            cut in 0.0..1.3_f64,
            changes in prop::collection::vec((0.0..1.0_f64, any::<u8>(), any::<bool>()), 0..8),
        ) {
            let (bytes, index) = &seeds()[seed % seeds().len()];
            let mut bytes = bytes.clone();
            let part = crops_of(&bytes)[part];
            for (place, value, is_in_header) in changes {
                let range = if is_in_header { bytes.len().min(700) } else { bytes.len() };
                bytes[(range as f64 * place) as usize] = value;
            }
            bytes.truncate((bytes.len() as f64 * cut) as usize);
            let index = is_indexed.then_some(&index[..]);
            let (mut detected, mut portable) = (Decoder::default(), Decoder::new(Instructions::Portable));
            let ours = crop(&mut detected, &bytes, part, index);
            prop_assert!(ours == crop(&mut portable, &bytes, part, index));
        }
    }
}
