use std::os::unix::fs::symlink;

use super::*;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = root.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
    root
}

fn listed(root: &Path) -> Vec<(String, Option<i64>)> {
    let listing = FolderSource::open(root).unwrap();
    (0..listing.len()).map(|image| (listing.path(image), listing.label(image))).collect()
}

#[test]
fn classes_are_first_folders_in_order() {
    let root = folder(&[
        ("b/x/2.jpg", b""),
        ("b/1.JPG", b""),
        ("a/9.png", b""),
        ("top.gif", b""),
        ("docs/README.md", b"# BM is not a bitmap"),
        (".hidden/1.jpg", b""),
        ("a/.DS_Store", b""),
        ("a/Thumbs.db", b""),
    ]);
    let expected = [("a/9.png", Some(0)), ("b/1.JPG", Some(1)), ("b/x/2.jpg", Some(1)), ("top.gif", None)];
    assert_eq!(listed(root.path()), expected.map(|(path, label)| (path.to_owned(), label)));
    let listing = FolderSource::open(root.path()).unwrap();
    assert_eq!(listing.class_names(), ["a", "b"]);
    assert_eq!(listing.skipped(), 4);
    assert_eq!(listing.full_path(2), format!("{}/b/x/2.jpg", root.path().display()));
}

#[test]
fn folders_of_splits_share_their_classes() {
    let files: [(&str, &[u8]); 4] =
        [("train/b/1.jpg", b""), ("train/c/2.jpg", b""), ("val/a/3.jpg", b""), ("val/b/x/4.jpg", b"")];
    let root = folder(&files);
    let listed = |split| {
        let listing = FolderSource::open_split(root.path(), split)?;
        let images = (0..listing.len()).map(|image| (listing.path(image), listing.label(image)));
        Ok::<_, DatasetError>((images.collect::<Vec<_>>(), listing.class_names().join(" ")))
    };
    let all = [("train/b/1.jpg", 1), ("train/c/2.jpg", 2), ("val/a/3.jpg", 0), ("val/b/x/4.jpg", 1)];
    let all = all.map(|(path, label)| (path.to_owned(), Some(label)));
    assert_eq!(listed(Some("all")).unwrap(), (all.to_vec(), "a b c".to_owned()));
    let train = [("train/b/1.jpg".to_owned(), Some(0)), ("train/c/2.jpg".to_owned(), Some(1))];
    assert_eq!(listed(Some("train")).unwrap(), (train.to_vec(), "b c".to_owned()));
    let error = listed(None).unwrap_err();
    assert!(error.to_string().contains("has the splits `train`, `val`") && error.hint().is_some(), "{error}");
    // Beside other folders, `train` is a class.
    fs_err::create_dir(root.path().join("bus")).unwrap();
    assert_eq!(listed(None).unwrap().1, "train val");
}

#[test]
fn content_makes_an_image_of_any_name() {
    let root =
        folder(&[("photo", b"\xff\xd8\xff\xe0\0\x10JFIF\0\0\0"), ("BM.txt", b"BMW is a car"), ("P6", b"P6 rocks!!")]);
    assert_eq!(listed(root.path()), [("photo".to_owned(), None)]);
}

#[test]
fn missing_empty_and_looping_sources_are_errors() {
    let root = folder(&[]);
    let check = |path: &Path, message: &str| {
        let error = FolderSource::open(path).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    };
    check(root.path(), "is empty");
    check(&root.path().join("none"), "does not exist");
    let looping = folder(&[("a/1.jpg", b""), ("b/2.jpg", b"")]);
    check(&looping.path().join("a/1.jpg"), "is not a folder");
    symlink("../b", looping.path().join("a/to_b")).unwrap();
    assert_eq!(listed(looping.path()).len(), 3, "a link to a sibling is followed");
    symlink("../a", looping.path().join("b/to_a")).unwrap();
    check(looping.path(), "leads back to");
}

#[test]
fn files_that_change_after_listing_are_errors() {
    let root = folder(&[("1.jpg", b"12345"), ("2.jpg", b"")]);
    let listing = FolderSource::open(root.path()).unwrap();
    assert_eq!((listing.bytes(0), listing.bytes(1)), (5, 0));
    let mut read = b"before".to_vec();
    listing.read(0, &mut read).unwrap();
    listing.read(1, &mut read).unwrap();
    assert_eq!(read, b"before12345");
    for changed in [&b"1234"[..], b"123456"] {
        fs_err::write(root.path().join("1.jpg"), changed).unwrap();
        let Err(ReadFailure::Failed(error)) = listing.read(0, &mut read) else { panic!("a changed file was read") };
        assert!(error.to_string().contains("1.jpg` changed") && error.hint().is_some(), "{error}");
        assert_eq!(read, b"before12345");
    }
}

#[test]
fn extensions_are_sorted_for_the_search() {
    assert!(IMAGE_EXTENSIONS.is_sorted());
}
