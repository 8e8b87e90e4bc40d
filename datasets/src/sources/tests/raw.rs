//! MNIST and CIFAR, whose images are raw pixels.

use super::tars::gzip;
use super::*;
use crate::header::image_size;
use crate::sources::pixels::{PixelLayout, Pixels};

fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|dimension| dimension.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

fn gray(raw: &[u8]) -> Vec<u8> {
    let mut png = Vec::new();
    Pixels { width_px: 3, height_px: 2, layout: PixelLayout::Gray }.encode(raw, &mut png);
    png
}

#[test]
fn mnist_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs_err::write(folder.path().join(name), bytes).unwrap();
    let values: Vec<u8> = (0..12).collect();
    write("train-images-idx3-ubyte.gz", &gzip(&idx(&[2, 2, 3], &values)));
    write("train-labels-idx1-ubyte", &idx(&[2], &[9, 0]));
    write("t10k-images.idx3-ubyte", &idx(&[1, 2, 3], &values[6..]));
    write("t10k-labels.idx1-ubyte.gz", &gzip(&idx(&[1], &[4])));

    let of = |split: &str| {
        open(
            folder.path().to_str().unwrap(),
            &SourceOptions { split: Some(split.to_owned()), ..SourceOptions::default() },
        )
        .unwrap()
    };
    let train = [
        good("train-images-idx3-ubyte.gz/000000", Some(9), &gray(&values[..6])),
        good("train-images-idx3-ubyte.gz/000001", Some(0), &gray(&values[6..])),
    ];
    let test = [good("t10k-images.idx3-ubyte/000000", Some(4), &gray(&values[6..]))];
    assert_eq!(images(of("train").as_ref()), train);
    assert_eq!(images(of("test").as_ref()), test);
    assert_eq!(of("all").len(), 3);
    assert_eq!(image_size(&gray(&values[..6])), Ok((3, 2)));
    assert!(refused(folder.path(), &SourceOptions::default()).contains("has the splits `test`, `train`"));
}

#[test]
fn mnist_that_contradicts_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images-idx3-ubyte");
    let check = |bytes: &[u8], message: &str| {
        fs_err::write(&path, bytes).unwrap();
        let said = refused(&path, &SourceOptions::default());
        assert!(said.contains(message), "expected `{message}`, got `{said}`");
    };
    check(&idx(&[2, 2, 3], &[0; 11]), "expected 12 bytes of pixels, as its header says, got 11");
    check(&idx(&[2, 2, 3], &[0; 13]), "expected 12 bytes of pixels, as its header says, got 13");
    check(&gzip(&idx(&[2, 2, 3], &[0; 11])), "expected 12 bytes of pixels, as its header says, got 11");
    check(&idx(&[u32::MAX; 3], &[]), "it declares images of 4294967295 x 4294967295 pixels");
    check(&gzip(&idx(&[u32::MAX, 1 << 14, 1 << 14], &[0; 99])), "pixels, as its header says, got 99");
    check(&idx(&[1, 0, 3], &[]), "it declares images of 3 x 0 pixels");
    check(&idx(&[2, 2], &[0; 4]), "expected an IDX file of bytes in 3 dimensions");
    fs_err::write(folder.path().join("labels-idx1-ubyte"), idx(&[3], &[0; 3])).unwrap();
    check(&idx(&[2, 1, 1], &[0; 2]), "expected 2 classes, as there are images, got 3");
}

#[test]
fn cifar_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let planes: Vec<u8> = (0..3072_u32).map(|at| (at / 5) as u8).collect();
    let mut png = Vec::new();
    Pixels { width_px: 32, height_px: 32, layout: PixelLayout::PlanarRgb }.encode(&planes, &mut png);
    let write = |name: &str, bytes: &[u8]| {
        fs_err::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let ten = write("data_batch_1.bin", &[&[1], &planes[..], &[7], &planes].concat());
    write("batches.meta.txt", b"airplane\nautomobile\n\n");
    let source_ten = source(&ten);
    let expected = [
        good("data_batch_1.bin/00000", Some(1), &png),
        bad("data_batch_1.bin/00001", Some(7), "its class 7 is not one of 2"),
    ];
    assert_eq!(images(source_ten.as_ref()), expected);
    assert_eq!(source_ten.class_names(), ["airplane", "automobile"]);

    let hundred = write("test.bin", &[&[19, 50], &planes[..]].concat());
    assert_eq!(images(source(&hundred).as_ref()), [good("test.bin/00000", Some(50), &png)]);
    let cut = write("data_batch_2.bin", &planes);
    assert!(refused(&cut, &SourceOptions::default()).contains("neither CIFAR-10 (3073 an image) nor CIFAR-100"));
}
