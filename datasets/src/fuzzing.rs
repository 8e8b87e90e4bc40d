//! Readers that fuzz targets reach no other way, see `fuzz/`. Not part of a normal build.

use bytes::Bytes;

use crate::group::{EncodedGroup, FetchedRanges, Footer};
use crate::guard::guarded;
use crate::manifest::{Manifest, RowGroupEntry};
use crate::schema::{HEIGHT, LABEL, WIDTH};

/// Takes any bytes for a manifest.
pub fn read_manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(Bytes::copy_from_slice(bytes), "manifest") else { return };
    manifest.fingerprint();
    assert_eq!(manifest.locate(manifest.rows()), None);
    if let Some(last) = manifest.rows().checked_sub(1) {
        let (group, row) = manifest.locate(last).expect("every row is somewhere");
        assert_eq!((group + 1, row + 1), (manifest.row_groups().len(), manifest.row_groups()[group].rows));
    }
}

/// Takes any bytes for a shard: eight for the rows and the place of the first row group, then the file.
pub fn read_shard(input: &[u8]) {
    let Some((&[rows, row_group, offset, _, length_0, length_1, length_2, _], shard)) = input.split_first_chunk()
    else {
        return;
    };
    let (offset, length) = (u64::from(offset), u64::from(u32::from_le_bytes([length_0, length_1, length_2, 0])));
    let end = (offset + length).min(shard.len() as u64);
    let Some(length) = end.checked_sub(offset) else { return };
    let entry = RowGroupEntry {
        file: "shard".into(),
        offset,
        length,
        rows: u32::from(rows),
        image_bytes: length,
        xxh3: 0,
        first_sample_id: 0,
        row_group: u32::from(row_group),
    };
    let Ok(footer) = guarded(|| Footer::parse(&shard[end as usize..])) else { return };
    let bytes = Bytes::copy_from_slice(&shard[offset as usize..end as usize]);
    if let Ok(group) = guarded(|| EncodedGroup::decode(&entry, bytes.clone(), &footer)) {
        let group = std::sync::Arc::new(group);
        for row in (0..group.rows()).filter_map(|row| group.row(row)) {
            let _ = (row.bytes().len(), row.path().len(), row.label(), row.segments().map(<[u32]>::len));
        }
    }
    let fetched = FetchedRanges { parts: vec![(offset, bytes)] };
    let _ = guarded(|| footer.decode(&entry, fetched, &[LABEL, WIDTH, HEIGHT]));
}
