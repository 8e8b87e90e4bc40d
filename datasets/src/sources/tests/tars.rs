use std::io::Write;

use super::*;

/// A member as a plain old ustar writer makes it.
pub(super) fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut block = header(name, kind, content.len() as u64);
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

pub(super) fn header(name: &str, kind: u8, bytes: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    block[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    with_sum(block)
}

pub(super) fn with_sum(mut block: Vec<u8>) -> Vec<u8> {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub(super) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(name, b'0', content)
}

pub(super) fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What the `webdataset` package writes, and what others do to it.
fn samples() -> Vec<u8> {
    archive(&[
        member("./", b'5', b""),
        file("a/0001.jpg", b"first"),
        file("a/0001.cls", b"7\n"),
        file("a/0001.seg.png", b"a mask is no image of its own"),
        file("b.c/0002.cls", b"3"),
        file("b.c/0002.PNG", b"second"),
        file("b.c/0002.jpeg", b"second, preferred"),
        file("0003.json", br#"{"label": 12, "caption": "a cat"}"#),
        file("0003.webp", b""),
        file("0004.txt", b"5"),
        file("0004.jpg", b"fourth"),
        file("0005.txt", b"a cat on a mat"),
        file("0005.jpg", &[5; 2000]),
        file("0006.cls", b"1"),
    ])
}

fn expected() -> Vec<Image> {
    vec![
        good("set.tar/a/0001.jpg", Some(7), b"first"),
        good("set.tar/b.c/0002.jpeg", Some(3), b"second, preferred"),
        good("set.tar/0003.webp", Some(12), b""),
        good("set.tar/0004.jpg", Some(5), b"fourth"),
        good("set.tar/0005.jpg", None, &[5; 2000]),
    ]
}

#[test]
fn members_are_grouped_as_webdataset_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.tar");
    fs_err::write(&path, samples()).unwrap();
    let source = source(&path);
    assert_eq!(images(source.as_ref()), expected());
    assert_eq!((source.skipped(), source.class_names().len(), source.format().name()), (2, 0, "tar"));
}

#[test]
fn compressed_archives_give_the_same_whatever_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.tar");
    for packed in [gzip(&samples()), zstd::encode_all(&*samples(), 3).unwrap()] {
        fs_err::write(&path, packed).unwrap();
        assert_eq!(images(source(&path).as_ref()), expected());
    }
}

#[test]
fn braces_and_folders_stand_for_many_archives() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..3 {
        let tar =
            archive(&[file("x.jpg", &[number]), file("x.cls", ["cat", "ant", "bee"][number as usize].as_bytes())]);
        fs_err::write(folder.path().join(format!("{number:03}.tar")), tar).unwrap();
    }
    fs_err::write(folder.path().join("notes.txt"), b"no image").unwrap();
    let all = [
        good("000.tar/x.jpg", Some(2), &[0]),
        good("001.tar/x.jpg", Some(0), &[1]),
        good("002.tar/x.jpg", Some(1), &[2]),
    ];
    for location in [folder.path().join("{000..002}.tar"), folder.path().to_owned()] {
        let source = source(&location);
        assert_eq!(images(source.as_ref()), all);
        assert_eq!(source.class_names(), ["ant", "bee", "cat"]);
    }
    assert!(
        refused(&folder.path().join("{000..003}.tar"), &SourceOptions::default()).contains("003.tar` does not exist")
    );
}

#[test]
fn long_names_and_sizes_of_gnu_and_pax() {
    let long = format!("{}/image.jpg", "deep/".repeat(60));
    let pax = |text: &str| {
        let length = (1..99).find(|length: &usize| length.to_string().len() + 1 + text.len() + 1 == *length).unwrap();
        format!("{length} {text}\n")
    };
    let mut prefixed = header("prefixed.jpg", b'0', 1);
    prefixed[345..348].copy_from_slice(b"dir");
    let mut base_256 = header("base256.jpg", b'0', 0);
    base_256[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    let block = |content: &[u8]| [content, &vec![0; 512 - content.len()]].concat();
    let tar = archive(&[
        member("pax_global_header", b'g', pax("comment=hello").as_bytes()),
        member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        file("deep/", b"one"),
        member("PaxHeaders/x", b'x', (pax("path=päx.jpg") + &pax("size=4")).as_bytes()),
        [header("x", b'0', 0), block(b"four")].concat(),
        [with_sum(prefixed), block(b"p")].concat(),
        [with_sum(base_256), block(b"256")].concat(),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.tar");
    fs_err::write(&path, tar).unwrap();
    let expected = [
        good(&format!("t.tar/{long}"), None, b"one"),
        good("t.tar/päx.jpg", None, b"four"),
        good("t.tar/dir/prefixed.jpg", None, b"p"),
        good("t.tar/base256.jpg", None, b"256"),
    ];
    assert_eq!(images(source(&path).as_ref()), expected);
}
