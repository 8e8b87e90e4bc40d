//! Markers and header segments (ITU T.81, annex B).
//!
//! Everything up to the first entropy-coded byte is read here and checked, so that the later stages meet only frames of
//! one or three 8-bit components in one sequential Huffman scan whose tables are all present. What does not fit is
//! left to a complete decoder: a header is never called damaged, since that decoder may know the dialect.

use super::refusal::{NotForUs, Refusal};

/// Natural (row by row) place of each coefficient in zigzag order (T.81 figure A.6).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

const SOI: u8 = 0xD8;
pub(super) const EOI: u8 = 0xD9;
pub(super) const RST0: u8 = 0xD0;

/// How the chroma planes are sampled against luma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sampling {
    /// One component.
    Gray,
    /// 4:4:4, all planes of full size.
    Full,
    /// 4:2:2, chroma of half the width.
    HalfWidth,
    /// 4:2:0, chroma of half the width and half the height.
    HalfBoth,
}

/// A Huffman table as it stands in a DHT segment (T.81 B.2.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HuffmanSpec<'a> {
    /// Number of codes of each length, 1 to 16 bits.
    pub(super) counts: &'a [u8; 16],
    /// The symbols in the order of their codes.
    pub(super) symbols: &'a [u8],
}

/// What a component uses, with the tables already looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Component<'a> {
    /// Quantisation steps in natural order, each 1 to 255.
    pub(super) quantization: [i16; 64],
    pub(super) dc: HuffmanSpec<'a>,
    pub(super) ac: HuffmanSpec<'a>,
}

/// A frame that this decoder can take.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) width_px: u32,
    pub(super) height_px: u32,
    pub(super) sampling: Sampling,
    /// One or three; the unused ones repeat the first.
    pub(super) components: [Component<'a>; 3],
    /// MCUs between restart markers, zero when there are none.
    pub(super) restart_interval: u32,
    /// Offset of the first entropy-coded byte.
    pub(super) scan_offset: usize,
}

/// What the segments before SOS have told so far.
struct Tables<'a> {
    quantization: [Option<[i16; 64]>; 4],
    dc: [Option<HuffmanSpec<'a>>; 4],
    ac: [Option<HuffmanSpec<'a>>; 4],
    restart_interval: u32,
    jfif: bool,
    adobe_transform: Option<u8>,
}

/// The fields of SOF that are needed after it (T.81 B.2.2).
#[derive(Clone, Copy)]
struct Frame {
    width_px: u32,
    height_px: u32,
    count: usize,
    ids: [u8; 3],
    quantization: [usize; 3],
    sampling: Sampling,
}

/// Reads everything up to the scan. Errors are always [`Refusal::NotForUs`].
pub(super) fn read_header(bytes: &[u8]) -> Result<Header<'_>, Refusal> {
    if bytes.len() < 4 || bytes[0] != 0xFF || bytes[1] != SOI {
        return Err(NotForUs::NotJpeg.into());
    }
    let mut tables = Tables {
        quantization: [None; 4],
        dc: [None; 4],
        ac: [None; 4],
        restart_interval: 0,
        jfif: false,
        adobe_transform: None,
    };
    let mut frame = None;
    let mut offset = 2;
    loop {
        let (marker, payload, next) = read_segment(bytes, offset)?;
        offset = next;
        match marker {
            0xC0 | 0xC1 if frame.is_none() => frame = Some(read_frame(payload)?),
            0xC0 | 0xC1 => return Err(NotForUs::Header("two frame headers").into()),
            0xC4 => read_huffman_tables(payload, &mut tables)?,
            0xC2..=0xCF => return Err(NotForUs::Process(marker).into()),
            0xDB => read_quantization_tables(payload, &mut tables)?,
            0xDD => tables.restart_interval = read_restart_interval(payload)?,
            0xE0 => tables.jfif |= payload.starts_with(b"JFIF\0"),
            0xEE if payload.len() >= 12 && payload.starts_with(b"Adobe") => tables.adobe_transform = Some(payload[11]),
            0xE1..=0xEF | 0xFE => {}
            0xDA => {
                let frame = frame.ok_or(NotForUs::Header("scan without a frame header"))?;
                return read_scan_header(payload, &frame, &tables, offset);
            }
            _ => return Err(NotForUs::Header("marker of an unknown kind").into()),
        }
    }
}

/// One marker with its payload: (marker, payload, offset after it).
fn read_segment(bytes: &[u8], mut offset: usize) -> Result<(u8, &[u8], usize), Refusal> {
    let cut = NotForUs::Header("ends inside the header");
    if bytes.get(offset) != Some(&0xFF) {
        return Err(NotForUs::Header("no marker where one should be").into());
    }
    // Any number of 0xFF may fill the space before a marker (T.81 B.1.1.2).
    while bytes.get(offset) == Some(&0xFF) {
        offset += 1;
    }
    let marker = *bytes.get(offset).ok_or(cut)?;
    let [high, low] = *bytes.get(offset + 1..).and_then(<[u8]>::first_chunk).ok_or(cut)?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = offset + 1 + length;
    if length < 2 || end > bytes.len() {
        return Err(cut.into());
    }
    Ok((marker, &bytes[offset + 3..end], end))
}

fn read_frame(payload: &[u8]) -> Result<Frame, Refusal> {
    let &[precision, height_high, height_low, width_high, width_low, count, ref parameters @ ..] = payload else {
        return Err(NotForUs::Header("frame header too short").into());
    };
    if precision != 8 {
        return Err(NotForUs::Precision(precision).into());
    }
    if count != 1 && count != 3 {
        return Err(NotForUs::Components(count).into());
    }
    if parameters.len() != 3 * usize::from(count) {
        return Err(NotForUs::Header("frame header of the wrong length").into());
    }
    let width_px = u32::from(u16::from_be_bytes([width_high, width_low]));
    let height_px = u32::from(u16::from_be_bytes([height_high, height_low]));
    // A height of zero would come later, in a DNL segment.
    if width_px == 0 || height_px == 0 {
        return Err(NotForUs::Header("no width or no height").into());
    }
    let count = usize::from(count);
    let mut frame = Frame { width_px, height_px, count, ids: [0; 3], quantization: [0; 3], sampling: Sampling::Gray };
    let mut factors = [0; 3];
    for (index, parameter) in parameters.chunks_exact(3).enumerate() {
        frame.ids[index] = parameter[0];
        factors[index] = parameter[1];
        frame.quantization[index] = usize::from(parameter[2]);
    }
    if count == 3 {
        frame.sampling = match factors {
            [0x11, 0x11, 0x11] => Sampling::Full,
            [0x21, 0x11, 0x11] => Sampling::HalfWidth,
            [0x22, 0x11, 0x11] => Sampling::HalfBoth,
            _ => return Err(NotForUs::Sampling.into()),
        };
        if frame.sampling != Sampling::Full && width_px <= 4 {
            return Err(NotForUs::Narrow(width_px).into());
        }
    } else if !(1..=4).contains(&(factors[0] >> 4)) || !(1..=4).contains(&(factors[0] & 15)) {
        return Err(NotForUs::Sampling.into());
    }
    Ok(frame)
}

fn read_quantization_tables(mut payload: &[u8], tables: &mut Tables<'_>) -> Result<(), Refusal> {
    while let Some((&selector, rest)) = payload.split_first() {
        // The high nibble is the precision; 16-bit steps are not for 8-bit frames of the baseline process.
        let Some((steps, rest)) = rest.split_first_chunk::<64>() else {
            return Err(NotForUs::Header("quantisation table cut").into());
        };
        if selector > 3 || steps.contains(&0) {
            return Err(NotForUs::Header("quantisation table of an unknown kind").into());
        }
        let mut natural = [0; 64];
        for (&step, &place) in steps.iter().zip(&ZIGZAG) {
            natural[usize::from(place)] = i16::from(step);
        }
        tables.quantization[usize::from(selector)] = Some(natural);
        payload = rest;
    }
    Ok(())
}

fn read_huffman_tables<'a>(mut payload: &'a [u8], tables: &mut Tables<'a>) -> Result<(), Refusal> {
    while let Some((&selector, rest)) = payload.split_first() {
        let cut = NotForUs::Header("huffman table cut");
        let (counts, rest) = rest.split_first_chunk::<16>().ok_or(cut)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(total).ok_or(cut)?;
        let class = if selector >> 4 == 0 { &mut tables.dc } else { &mut tables.ac };
        if selector >> 4 > 1 || selector & 15 > 3 || total > 256 {
            return Err(NotForUs::Header("huffman table of an unknown kind").into());
        }
        class[usize::from(selector & 15)] = Some(HuffmanSpec { counts, symbols });
        payload = rest;
    }
    Ok(())
}

fn read_restart_interval(payload: &[u8]) -> Result<u32, Refusal> {
    let &[high, low] = payload else {
        return Err(NotForUs::Header("restart interval of the wrong length").into());
    };
    Ok(u32::from(u16::from_be_bytes([high, low])))
}

/// T.81 B.2.3, and the assumptions about colour that JFIF and Adobe added.
fn read_scan_header<'a>(
    payload: &'a [u8],
    frame: &Frame,
    tables: &Tables<'a>,
    scan_offset: usize,
) -> Result<Header<'a>, Refusal> {
    let Some((&count, rest)) = payload.split_first() else {
        return Err(NotForUs::Header("scan header cut").into());
    };
    if usize::from(count) != frame.count || rest.len() != 2 * frame.count + 3 || rest[2 * frame.count..] != [0, 63, 0] {
        return Err(NotForUs::Scans.into());
    }
    let is_ycc = match tables.adobe_transform {
        Some(transform) => transform == 1,
        None => tables.jfif || frame.ids == [1, 2, 3],
    };
    if frame.count == 3 && !is_ycc {
        return Err(NotForUs::ColorSpace.into());
    }
    let missing = NotForUs::Header("scan refers to a table that is not there");
    let component = |index: usize| -> Result<Component<'a>, Refusal> {
        let (id, selectors) = (rest[2 * index], rest[2 * index + 1]);
        if id != frame.ids[index] {
            return Err(NotForUs::Scans.into());
        }
        let (dc, ac) = (usize::from(selectors >> 4), usize::from(selectors & 15));
        Ok(Component {
            quantization: tables.quantization.get(frame.quantization[index]).copied().flatten().ok_or(missing)?,
            dc: tables.dc.get(dc).copied().flatten().ok_or(missing)?,
            ac: tables.ac.get(ac).copied().flatten().ok_or(missing)?,
        })
    };
    let first = component(0)?;
    let components = if frame.count == 3 { [first, component(1)?, component(2)?] } else { [first; 3] };
    Ok(Header {
        width_px: frame.width_px,
        height_px: frame.height_px,
        sampling: frame.sampling,
        components,
        restart_interval: tables.restart_interval,
        scan_offset,
    })
}
