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

fn whole(bytes: &[u8]) -> Result<CropBox, Refusal> {
    let (width, height) = image_size(bytes)?;
    Ok(CropBox { x: 0, y: 0, width, height })
}

fn our_coefficients(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Coefficients>, Refusal> {
    let header = markers::read_header(bytes)?;
    let region = Region::new(&header, whole(bytes)?)?;
    decoder.prepare(bytes, &header, &region, None)?;
    let [luma, cb, cr] = &decoder.tables;
    let tables = [luma, cb, cr].map(|[dc, ac]| BlockTables { dc, ac });
    let scan = Scan { region: &region, tables };
    let mut recorder = Recorder { region: &region, components: vec![Coefficients::default(); region.component_count] };
    decode_scan(&scan, &decoder.segments, &mut recorder)?;
    Ok(recorder.components)
}

fn jpegs_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
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
    jpegs_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/photos"), &mut paths);
    assert!(paths.len() > 12, "the repository's photographs are missing");
    if let Some(more) = std::env::var_os("PATCHSTREAM_JPEGS") {
        jpegs_below(Path::new(&more), &mut paths);
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a readable file"))).collect()
}

fn our_planes(decoder: &mut Decoder, bytes: &[u8]) -> Vec<(Vec<u8>, usize, usize)> {
    let crop = whole(bytes).expect("a header for us");
    let size = NonZeroU32::new(16).expect("not zero");
    let mut out = vec![0; 16 * 16 * 3];
    decoder.decode(bytes, crop, TargetSize { height: size, width: size }, None, &mut out).expect("a file for us");
    let header = markers::read_header(bytes).expect("a header for us");
    let region = Region::new(&header, crop).expect("a crop inside");
    let planes = decoder.planes.iter().zip(&region.components).take(region.component_count);
    planes
        .map(|(plane, component)| {
            let (width, height) = (component.x.samples as usize, component.y.samples as usize);
            let rows = plane.samples.chunks(plane.stride).take(height);
            (rows.flat_map(|row| &row[..width]).copied().collect(), width, height)
        })
        .collect()
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
            let theirs = turbo.planes(&bytes).expect("what we decode, libjpeg-turbo does too");
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
