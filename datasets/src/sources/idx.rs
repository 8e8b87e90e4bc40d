//! MNIST's IDX files: images as `train-images-idx3-ubyte`, their classes as `train-labels-idx1-ubyte`, each possibly packed
//! by gzip.
//!
//! The format is described at the end of <http://yann.lecun.com/exdb/mnist>: two zero bytes, the type of the values (8 for
//! bytes), the number of dimensions, each dimension as a big-endian 32-bit number, then the values.

use std::io::Read;

use super::blob::Blob;
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::{LabelIndex, LabelTable};
use super::pixels::{PixelLayout, Pixels};
use super::spool::Spool;
use super::unpack::{Compression, Unpacked};
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;

/// Images are no wider or higher than this, so that their size cannot overflow.
const SIDE_PX_MAX: u32 = 1 << 14;

/// Whether a file is called as the images of such a set are.
pub(super) fn is_images_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.contains("images") && name.ends_with("idx3-ubyte")
}

/// Whether a file begins as one with images does.
pub(super) fn is_images_start(start: &[u8]) -> bool {
    start.starts_with(&[0, 0, 8, 3])
}

pub(super) fn open(location: &str, blobs: &[Blob], options: &SourceOptions) -> Result<Catalog, DatasetError> {
    let (mut containers, mut images, mut labels) = (Vec::new(), Images::default(), LabelTable::default());
    let mut spool = None;
    for blob in blobs {
        let compression = Compression::of(blob)?;
        let mut reader = Unpacked::open(blob, compression)?;
        let [count, height_px, width_px] = dimensions(blob, &mut reader)?;
        if !(1..=SIDE_PX_MAX).contains(&height_px) || !(1..=SIDE_PX_MAX).contains(&width_px) {
            return Err(blob.damaged(format!("it declares images of {width_px} x {height_px} pixels")));
        }
        let pixels = Pixels { width_px, height_px, layout: PixelLayout::Gray };
        let expected = u64::from(count) * pixels.raw_bytes();
        let mut begin = 16;
        let content = if compression == Compression::None {
            check_length(blob, expected, blob.bytes() - begin)?;
            Content::RawFile(blob.clone(), pixels)
        } else {
            let spool = match &mut spool {
                Some(spool) => spool,
                None => spool.insert(Spool::create(&options.spool_folder)?),
            };
            begin = spool.position();
            let whole = spool.append_from(&mut reader, expected).map_err(|error| blob.failure_of_reader(error))?;
            let more = reader.read(&mut [0]).map_err(|error| blob.failure_of_reader(error))?;
            check_length(blob, expected, if whole { expected + more as u64 } else { spool.position() - begin })?;
            Content::RawSpooled(pixels)
        };
        let classes = labels_beside(blob)?.map(|file| read_labels(&file, count)).transpose()?;
        for number in 0..count {
            let label = classes.as_ref().map(|classes| classes[number as usize].to_string());
            let label = label.map_or(LabelIndex::NONE, |label| labels.index(&label));
            let offset = begin + u64::from(number) * pixels.raw_bytes();
            let name = &format!("{number:06}");
            images.push(&Image { container: containers.len(), name, label, offset, bytes: pixels.raw_bytes() });
        }
        containers.push(Container { name: blob.name(), content });
    }
    Ok(Catalog {
        format: SourceFormat::Idx,
        location: location.to_owned(),
        containers,
        images,
        labels: labels.finish(),
        skipped: 0,
        spool: spool.map(Spool::finish).transpose()?,
    })
}

fn check_length(blob: &Blob, expected: u64, got: u64) -> Result<(), DatasetError> {
    if expected == got {
        return Ok(());
    }
    Err(blob.damaged(format!("expected {expected} bytes of pixels, as its header says, got {got}")))
}

fn dimensions<const COUNT: usize>(blob: &Blob, reader: &mut Unpacked) -> Result<[u32; COUNT], DatasetError> {
    let mut magic = [0; 4];
    let mut dimensions = [0; COUNT];
    let mut read = |into: &mut [u8; 4]| reader.read_exact(into).map_err(|error| blob.failure_of_reader(error));
    read(&mut magic)?;
    if magic != [0, 0, 8, COUNT as u8] {
        return Err(
            blob.damaged(format!("expected an IDX file of bytes in {COUNT} dimensions, got magic {magic:02x?}"))
        );
    }
    for dimension in &mut dimensions {
        let mut bytes = [0; 4];
        read(&mut bytes)?;
        *dimension = u32::from_be_bytes(bytes);
    }
    Ok(dimensions)
}

/// The file with the classes of these images, packed or not.
fn labels_beside(images: &Blob) -> Result<Option<Blob>, DatasetError> {
    let name = images.name();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    if labels == name {
        return Ok(None);
    }
    for candidate in [labels.clone(), labels + ".gz"] {
        if let Some(file) = images.sibling(&candidate)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn read_labels(blob: &Blob, images: u32) -> Result<Vec<u8>, DatasetError> {
    let mut reader = Unpacked::open(blob, Compression::of(blob)?)?;
    let [count] = dimensions(blob, &mut reader)?;
    if count != images {
        return Err(blob.damaged(format!("expected {images} classes, as there are images, got {count}")));
    }
    let mut classes = Vec::new();
    let limit = u64::from(count) + 1;
    reader.take(limit).read_to_end(&mut classes).map_err(|error| blob.failure_of_reader(error))?;
    if classes.len() != count as usize {
        return Err(blob.damaged(format!("expected {count} classes, as its header says, got {}", classes.len())));
    }
    Ok(classes)
}
