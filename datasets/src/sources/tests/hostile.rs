//! Input that was made to harm.

use std::io::Read;

use super::super::root::Root;
use super::super::unpack::{Compression, Unpacked};
use super::tars::{archive, file, gzip, header, member, with_sum};
use super::*;

fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.tar");
    fs_err::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn tar_members_that_lead_elsewhere_go_to_the_ledger() {
    let tar = archive(&[
        file("/etc/passwd.jpg", b"root"),
        file("a/../../up.jpg", b"up"),
        member("link.jpg", b'2', b""),
        member("hard.png", b'1', b""),
        file("good.jpg", b"good"),
        member("device.jpg", b'3', b""),
    ]);
    let leads_out = "its name leads out of the archive";
    let link = "it is a link in the archive, which is not followed";
    let expected = [
        bad("evil.tar//etc/passwd.jpg", None, leads_out),
        bad("evil.tar/a/../../up.jpg", None, leads_out),
        bad("evil.tar/link.jpg", None, link),
        bad("evil.tar/hard.png", None, link),
        good("evil.tar/good.jpg", None, b"good"),
    ];
    for packed in [tar.clone(), gzip(&tar)] {
        let (_folder, path) = written(&packed);
        assert_eq!(images(source(&path).as_ref()), expected);
    }
}

#[test]
fn tar_headers_that_lie_are_errors() {
    let whole = archive(&[file("1.jpg", &[1; 700]), file("2.jpg", &[2; 700])]);
    let mut huge = header("huge.jpg", b'0', 0);
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let mut wide = header("wide.jpg", b'0', 0);
    wide[124..136].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut flipped = whole.clone();
    flipped[1536 + 3] ^= 1;
    for (tar, message) in [
        (archive(&[header("big.jpg", b'0', 1 << 32)]), "it ends inside `big.jpg`, which should have 4294967296 bytes"),
        (archive(&[with_sum(huge)]), "the header at byte 0 declares a size too large"),
        (archive(&[with_sum(wide)]), "the header at byte 0 declares no size"),
        (archive(&[header("././@LongLink", b'L', 1 << 30)]), "the name before byte 1073742336 has 1073741824 bytes"),
        (archive(&[member("x", b'x', b"999999999 path=a\n"), file("1.jpg", b"")]), "the header at byte 0 is invalid"),
        (whole[..1700].to_vec(), "it ends inside the header at byte 1536"),
        (whole[..2300].to_vec(), "it ends inside `2.jpg`, which should have 700 bytes from byte 2048 on"),
        (flipped, "the header at byte 1536 is none: its checksum is wrong"),
    ] {
        for packed in [tar.clone(), gzip(&tar)] {
            let (_folder, path) = written(&packed);
            let said = refused(
                &path,
                &SourceOptions { format: Some(super::super::SourceFormat::Tar), ..SourceOptions::default() },
            );
            assert!(said.contains(message), "expected `{message}`, got `{said}`");
        }
    }
    // Cut inside the compressed stream.
    let packed = gzip(&whole);
    let (_folder, path) = written(&packed[..packed.len() / 2]);
    assert!(refused(&path, &SourceOptions::default()).contains("is damaged"));
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    // 256 MiB of zeros in some kilobytes, which a member of a tar might well declare.
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packed.include_checksum(false).unwrap();
    std::io::Write::write_all(&mut packed, &header("0.jpg", b'0', 256 << 20)).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(256 << 20), &mut packed).unwrap();
    let (folder, path) = written(&packed.finish().unwrap());
    let options = SourceOptions { spool_folder: folder.path().to_owned(), ..SourceOptions::default() };
    let said = refused(&path, &options);
    assert!(said.contains("unpack to more than"), "{said}");

    // A window of 1 GiB, which a decoder would have to hold in memory.
    let (_folder, path) = written(b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00");
    assert!(refused(&path, &SourceOptions::default()).contains("is damaged"));

    let (_folder, path) = written(&gzip(&vec![0; 100_000]));
    let blob = Root::Local.existing_blob(&path).unwrap();
    let mut reader = Unpacked::open(&blob, Compression::Gzip).unwrap().with_bytes_max(99_999);
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("unpack to more than"), "{error}");
}

#[test]
fn files_that_are_no_source_are_errors() {
    let (folder, path) = written(b"hello");
    let plain = folder.path().join("plain");
    fs_err::write(&plain, b"hello").unwrap();
    assert!(refused(&plain, &SourceOptions::default()).contains("cannot tell what kind of source"));
    assert!(refused(&path, &SourceOptions::default()).contains("it ends inside the header at byte 0"));
    let columns = SourceOptions { image_column: Some("photo".to_owned()), ..SourceOptions::default() };
    assert!(refused(&path, &columns).contains("a source of kind `tar` has no columns"));
    assert!(refused(Path::new("/dev/null"), &SourceOptions::default()).contains("it is not a file"));
}
