//! Binary PPM (P6): pixels that need no decoding, as `convert --encode raw` stores them.
//!
//! The format is that of Netpbm's `ppm(5)`, with values up to 255.

use super::check_size;
use crate::error::PipelineError;
use crate::geometry::Size;

/// No header needs more bytes, unless comments fill it.
const HEADER_BYTES_MAX: usize = 4096;

/// Whether the content begins like a binary PPM.
pub(super) fn is_ppm(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'6', next, ..] if next.is_ascii_whitespace() || *next == b'#')
}

/// Size of the picture, and the offset of its pixels: `uint8 [height, width, 3]`, rows next to each other.
pub(super) fn header(bytes: &[u8]) -> Result<(Size, usize), PipelineError> {
    let mut at = 2;
    let mut number =
        |name: &str| number(bytes, &mut at).ok_or_else(|| undecodable(format!("the header has no {name}")));
    let size = Size { width: number("width")?, height: number("height")? };
    let value_max = number("largest value")?;
    if value_max != 255 {
        return Err(undecodable(format!("expected values up to 255, got {value_max}")));
    }
    check_size(size)?;
    // A single whitespace character stands between header and pixels.
    let (pixels, needed) = (at + 1, size.rgb_bytes());
    match bytes.len().checked_sub(pixels) {
        Some(got) if got >= needed => Ok((size, pixels)),
        got => Err(undecodable(format!("expected {needed} bytes of pixels, got {}", got.unwrap_or(0)))),
    }
}

/// The next number of the header, with `at` left behind its digits.
fn number(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let header = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
    loop {
        match header.get(*at)? {
            b'#' => *at += header[*at..].iter().position(|&byte| byte == b'\n')?,
            byte if byte.is_ascii_whitespace() => *at += 1,
            _ => break,
        }
    }
    let digits = header[*at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = std::str::from_utf8(&header[*at..*at + digits]).ok()?;
    *at += digits;
    text.parse().ok()
}

fn undecodable(reason: String) -> PipelineError {
    PipelineError::Undecodable { format: "PPM", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_netpbm_writes_them() {
        let check = |header: &[u8]| {
            let bytes = [header, &[7; 18]].concat();
            assert!(is_ppm(&bytes));
            let (size, pixels) = super::header(&bytes).unwrap();
            assert_eq!((size, pixels), (Size { width: 3, height: 2 }, header.len()));
        };
        check(b"P6 3 2 255\n");
        check(b"P6\n3\t2\r\n255\n");
        check(b"P6#made by hand\n# 9 9\n3 2 #nor this\n255 ");
        assert!(!is_ppm(b"P62 3 2 255\n") && !is_ppm(b"P6"));
    }

    #[test]
    fn headers_that_cannot_be_are_refused() {
        let check = |bytes: &[u8], message: &str| {
            let error = header(bytes).unwrap_err();
            assert!(error.is_bad_sample() && error.to_string().contains(message), "{error}");
        };
        check(b"P6 3", "no height");
        check(b"P6 3 -2 255\n", "no height");
        check(b"P6 99999999999 2 255\n", "no width");
        check(b"P6 3 2 65535\n", "got 65535");
        check(b"P6 0 2 255\n", "expected at most");
        check(b"P6 100000 100000 255\n", "expected at most");
        check(b"P6 3 2 255\n01234567890123456", "expected 18 bytes of pixels, got 17");
        check(b"P6 3 2 255", "expected 18 bytes of pixels, got 0");
        check(&[b"P6 ".as_slice(), &[b'#'; 5000]].concat(), "no width");
    }
}
