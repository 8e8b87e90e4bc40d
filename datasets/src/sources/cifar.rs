//! CIFAR-10 and CIFAR-100 in their binary version (<https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! Each image is its class (CIFAR-100: the coarse class, then the fine one, which is taken) and 32 x 32 reds, greens and
//! blues.

use std::io::Read;

use super::SourceFormat;
use super::blob::Blob;
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::LabelTable;
use super::pixels::{PixelLayout, Pixels};
use crate::error::DatasetError;

const PIXELS: Pixels = Pixels { width_px: 32, height_px: 32, layout: PixelLayout::PlanarRgb };
/// Files with the names of classes are no larger.
const NAMES_BYTES_MAX: u64 = 1 << 16;

/// The two sets, which differ in what stands before the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cifar10,
    Cifar100,
}

impl Kind {
    fn label_bytes(self) -> u64 {
        match self {
            Self::Cifar10 => 1,
            Self::Cifar100 => 2,
        }
    }

    fn names_file(self) -> &'static str {
        match self {
            Self::Cifar10 => "batches.meta.txt",
            Self::Cifar100 => "fine_label_names.txt",
        }
    }

    /// By the length of the file, which is a multiple of that of an image.
    fn of(blob: &Blob) -> Option<Kind> {
        let fits =
            |kind: &Kind| blob.bytes() > 0 && blob.bytes().is_multiple_of(kind.label_bytes() + PIXELS.raw_bytes());
        let of_name = if is_cifar_100_name(&blob.name()) { Self::Cifar100 } else { Self::Cifar10 };
        [of_name, Self::Cifar10, Self::Cifar100].into_iter().find(fits)
    }
}

/// Whether a file is called like one of either set.
pub(super) fn is_name(name: &str) -> bool {
    let batch = name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin"));
    batch.is_some_and(|number| number.parse::<u32>().is_ok()) || name == "test_batch.bin" || is_cifar_100_name(name)
}

fn is_cifar_100_name(name: &str) -> bool {
    matches!(name, "train.bin" | "test.bin")
}

pub(super) fn open(location: &str, blobs: &[Blob]) -> Result<Catalog, DatasetError> {
    let (mut containers, mut images, mut labels) = (Vec::new(), Images::default(), LabelTable::default());
    let mut class_names: Option<Vec<String>> = None;
    for blob in blobs {
        let kind = Kind::of(blob).ok_or_else(|| {
            blob.damaged(format!(
                "its {} bytes are neither CIFAR-10 (3073 an image) nor CIFAR-100 (3074)",
                blob.bytes()
            ))
        })?;
        let names = read_names(blob, kind)?;
        if containers.is_empty() {
            class_names = names;
        } else if class_names != names {
            return Err(blob.damaged("its class names differ from those of the files before"));
        }
        let record_bytes = kind.label_bytes() + PIXELS.raw_bytes();
        let mut reader = blob.reader();
        for number in 0..blob.bytes() / record_bytes {
            let mut before = [0; 2];
            let before = &mut before[..kind.label_bytes() as usize];
            reader.read_exact(before).map_err(|error| blob.failure_of_reader(error))?;
            reader.skip(PIXELS.raw_bytes());
            let class = before[before.len() - 1];
            let image = Image {
                container: containers.len(),
                name: &format!("{number:05}"),
                label: labels.index(&class.to_string()),
                offset: number * record_bytes + kind.label_bytes(),
                bytes: PIXELS.raw_bytes(),
            };
            match &class_names {
                Some(names) if usize::from(class) >= names.len() => {
                    images.push_bad(&image, format!("its class {class} is not one of {}", names.len()));
                }
                _ => images.push(&image),
            }
        }
        containers.push(Container { name: blob.name(), content: Content::RawFile(blob.clone(), PIXELS) });
    }
    Ok(Catalog {
        format: SourceFormat::Cifar,
        location: location.to_owned(),
        containers,
        images,
        labels: match class_names {
            Some(names) => labels.finish_with_names(names),
            None => labels.finish(),
        },
        skipped: 0,
        spool: None,
    })
}

/// The names of the classes, one a line, if the file with them lies beside the images.
fn read_names(blob: &Blob, kind: Kind) -> Result<Option<Vec<String>>, DatasetError> {
    let Some(names) = blob.sibling(kind.names_file())? else { return Ok(None) };
    let text = String::from_utf8(names.whole(NAMES_BYTES_MAX)?).map_err(|_| names.damaged("it is not UTF-8"))?;
    Ok(Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}
