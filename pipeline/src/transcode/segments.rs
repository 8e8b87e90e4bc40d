//! Where the restart segments of a JPEG begin (ITU T.81, B.1.1.2 and F.1.2.3).

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const RST0: u8 = 0xd0;

/// The offset of the first entropy-coded byte of each restart segment of the one scan that the file has: behind the
/// scan's header, and behind each restart marker. Nothing for files of another make.
pub(super) fn offsets(jpeg: &[u8]) -> Option<Vec<u32>> {
    let mut at = scan_start(jpeg)?;
    let mut offsets = vec![u32::try_from(at).ok()?];
    loop {
        // In entropy-coded data 0xFF is followed by zero, or begins a marker.
        at += jpeg.get(at..)?.iter().position(|&byte| byte == 0xff)? + 2;
        match *jpeg.get(at - 1)? {
            0 => {}
            EOI => return (at == jpeg.len()).then_some(offsets),
            marker if marker == RST0 + ((offsets.len() - 1) % 8) as u8 => offsets.push(u32::try_from(at).ok()?),
            _ => return None,
        }
    }
}

/// The offset behind the header of the first scan, in a file without anything unusual before it.
fn scan_start(jpeg: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let &[0xff, marker, high, low] = jpeg.get(at..at + 4)? else { return None };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == SOS {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_stand_behind_their_markers() {
        let header = [0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xd0, 0xff, 0xda, 0, 3, 7];
        let file = |scan: &[u8]| [&header, scan].concat();
        assert_eq!(offsets(&file(&[1, 0xff, 0, 2, 0xff, 0xd9])), Some(vec![13]));
        assert_eq!(offsets(&file(&[1, 0xff, 0xd0, 2, 0xff, 0xd1, 0xff, 0, 0xff, 0xd9])), Some(vec![13, 16, 19]));
        for broken in [&[1, 0xff, 0xd1, 2, 0xff, 0xd9][..], &[1, 0xff, 0xd9, 1], &[1, 2], &[1, 0xff], &[0xff, 0xda]] {
            assert_eq!(offsets(&file(broken)), None, "{broken:?}");
        }
    }
}
