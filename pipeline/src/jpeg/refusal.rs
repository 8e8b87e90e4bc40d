//! Why a file was not decoded: because it is somebody else's work, or because it is damaged.

/// Why [`Decoder::decode`](super::Decoder::decode) wrote no picture.
///
/// Both kinds may be given to a complete decoder afterwards: it decodes what is [`NotForUs`](Refusal::NotForUs), and it
/// may be more forgiving about what is [`Damaged`](Refusal::Damaged).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file may be a fine JPEG, but not of the kind that this decoder takes.
    #[error("jpeg left to the complete decoder: {0}")]
    NotForUs(NotForUs),
    /// The file is of our kind, and broken in a part that the crop needs.
    #[error("damaged jpeg: {0}")]
    Damaged(Damage),
}

/// What this decoder leaves to a complete one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForUs {
    /// The bytes do not begin with the SOI marker.
    #[error("no SOI marker at the start")]
    NotJpeg,
    /// SOF2 and above: progressive, lossless, hierarchical or arithmetic coding.
    #[error("coding process of marker 0xff{0:02x}, expected baseline or extended Huffman")]
    Process(u8),
    /// More than 8 bits a sample.
    #[error("{0} bits a sample, expected 8")]
    Precision(u8),
    /// Neither one component nor three.
    #[error("{0} components, expected 1 or 3")]
    Components(u8),
    /// Sampling other than 4:4:4, 4:2:2 and 4:2:0.
    #[error("sampling factors other than 4:4:4, 4:2:2 and 4:2:0")]
    Sampling,
    /// Too narrow for the triangle filter: libjpeg enlarges two columns of chroma by repeating them.
    #[error("{0} pixels wide, with chroma of half the width")]
    Narrow(u32),
    /// Three components that are not, or may not be, YCbCr as JFIF defines it.
    #[error("colour space that is not known to be YCbCr")]
    ColorSpace,
    /// The image comes in more than one scan, or the scan is not a sequential one of all components.
    #[error("several scans, or one that is not sequential")]
    Scans,
    /// Header segments that contradict each other or the specification.
    #[error("header not well-formed: {0}")]
    Header(&'static str),
    /// Entropy-coded data with marker sequences that a complete decoder may know how to treat.
    #[error("markers inside the scan are not well-formed: {0}")]
    ScanMarkers(&'static str),
    /// More pixels in the crop than this decoder sets memory aside for.
    #[error("crop of {0} pixels is too large")]
    TooLarge(u64),
    /// The crop reaches outside the image, or is empty.
    #[error("crop outside an image of {width} x {height} pixels")]
    CropOutside {
        /// Width of the image in pixels.
        width: u32,
        /// Height of the image in pixels.
        height: u32,
    },
}

/// What is wrong with the entropy-coded data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The data end before the last block that the crop needs.
    #[error("entropy-coded data end too early")]
    Truncated,
    /// Bits that no Huffman code begins with, or more than 63 AC coefficients in a block.
    #[error("bits that are no valid block of coefficients")]
    Block,
    /// A restart segment or the scan goes on after its last block.
    #[error("data left over at the end of a segment")]
    Leftover,
    /// A restart marker is missing or out of turn.
    #[error("restart marker missing or out of turn")]
    Restart,
}

impl From<NotForUs> for Refusal {
    fn from(reason: NotForUs) -> Self {
        Self::NotForUs(reason)
    }
}

impl From<Damage> for Refusal {
    fn from(reason: Damage) -> Self {
        Self::Damaged(reason)
    }
}
