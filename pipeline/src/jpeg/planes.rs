//! What the decoder puts out: planes of samples.

/// Planes of Y, Cb and Cr, or of Y alone.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Of which only `count` are there.
    pub(crate) components: [Plane<'a>; 3],
    /// One or three.
    pub(crate) count: usize,
    /// Whether Cb and Cr have a sample for two columns of pixels.
    pub(crate) is_half_width: bool,
    /// Whether Cb and Cr have a sample for two rows of pixels.
    pub(crate) is_half_height: bool,
}

impl Planes<'_> {
    /// Whether this is 4:2:0: Cb and Cr with a sample for two by two pixels.
    pub(crate) fn is_quartered(&self) -> bool {
        self.count == 3 && self.is_half_width && self.is_half_height
    }
}

/// A part of a component.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    /// Rows of `stride` samples; a vector's bytes can be read from any of them on.
    pub(crate) samples: &'a [u8],
    pub(crate) stride: usize,
    /// The first sample's place in the component.
    pub(crate) origin_x: u32,
    pub(crate) origin_y: u32,
    /// Size of the whole component in samples.
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl<'a> Plane<'a> {
    /// The samples from this place of the component on, to the end of the row and beyond.
    #[inline]
    pub(crate) fn row(&self, x: u32, y: u32) -> &'a [u8] {
        &self.samples[(y - self.origin_y) as usize * self.stride + (x - self.origin_x) as usize..]
    }
}
