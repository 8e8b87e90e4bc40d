//! What is read of a JPEG file's markers without decoding it (ITU T.81, annex B).

use crate::orientation::Orientation;

/// Start of scan: entropy-coded data follow this segment.
const SOS: u8 = 0xda;
/// End of image.
const EOI: u8 = 0xd9;
/// Frame of a progressive picture.
const SOF2: u8 = 0xc2;
/// Application segment 1, where EXIF lies.
const APP1: u8 = 0xe1;

/// Calls `visit` with marker and body of each segment up to the first start of scan; gives back the offset of what
/// follows that segment, or nothing when the header is not whole.
fn walk<'a>(bytes: &'a [u8], mut visit: impl FnMut(u8, &'a [u8])) -> Option<usize> {
    let mut at = 2;
    loop {
        // Any number of 0xFF may stand before a marker, and libjpeg skips other bytes too.
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        at += bytes.get(at..)?.iter().position(|&byte| byte != 0xff)?;
        let marker = bytes[at];
        at += 1;
        // Stuffed zeros, TEM and RSTn have no body; SOI may be repeated.
        if matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if marker == EOI {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let body = bytes.get(at + 2..at + length.max(2))?;
        visit(marker, body);
        at += length.max(2);
        if marker == SOS {
            return Some(at);
        }
    }
}

/// The orientation that the EXIF segment asks for; upright without one.
pub(super) fn orientation(bytes: &[u8]) -> Orientation {
    let mut orientation = None;
    walk(bytes, |marker, body| {
        if marker == APP1 && orientation.is_none() {
            orientation = body.strip_prefix(b"Exif\0\0").map(Orientation::from_exif_chunk);
        }
    });
    orientation.unwrap_or_default()
}

/// Whether the picture is progressive: all its coefficients must be in memory before there is a pixel.
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    let mut is_progressive = false;
    walk(bytes, |marker, _| is_progressive |= marker == SOF2);
    is_progressive
}

/// Whether an end-of-image marker follows the first scan's header.
///
/// A file that was cut off has none: within entropy-coded data 0xFF is always followed by zero or a restart marker.
/// The search runs from the end, so it costs nothing for a file that is whole; the header is walked because a
/// thumbnail within has an end of its own.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let Some(scan) = walk(bytes, |_, _| ()) else { return false };
    bytes[scan..].windows(2).rev().any(|pair| pair == [0xff, EOI])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = &[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2, 0xff, 0xda, 0, 3, 7];

    #[test]
    fn an_end_inside_of_a_header_segment_does_not_count() {
        assert!(!has_end(HEADER));
        assert!(!has_end(&[HEADER, &[1, 2, 0xff, 0, 3]].concat()));
        assert!(has_end(&[HEADER, &[1, 2, 0xff, 0xd9]].concat()));
        assert!(has_end(&[HEADER, &[1, 2, 0xff, 0xd9, 0, 0, 0]].concat()));
    }

    #[test]
    fn headers_that_are_cut_off_end_the_walk() {
        for length in 0..HEADER.len() {
            assert!(!has_end(&HEADER[..length]), "{length} bytes");
            assert!(orientation(&HEADER[..length]).is_upright());
        }
        assert!(!has_end(&[0xff, 0xd8, 0xff, 0xe1, 0, 0, 0xff, 0xe1, 0, 1]));
    }
}
