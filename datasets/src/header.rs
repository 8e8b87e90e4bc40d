//! What the first bytes of a file tell about an image.

use imagesize::ImageType;

/// Larger images are refused, as `pipeline` refuses to decode them.
pub(crate) const IMAGE_PX_MAX: u64 = 100_000_000;

/// The formats that can become samples, as `pipeline` decodes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ImageFormat {
    Bmp,
    Gif,
    Jpeg,
    Png,
    Pnm,
    Tiff,
    Webp,
}

impl ImageFormat {
    /// The format's usual short name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bmp => "bmp",
            Self::Gif => "gif",
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Pnm => "pnm",
            Self::Tiff => "tiff",
            Self::Webp => "webp",
        }
    }

    /// The format that the content begins like, whatever the file is called; nothing for all others.
    pub(crate) fn sniff(content: &[u8]) -> Option<ImageFormat> {
        match imagesize::image_type(content).ok()? {
            ImageType::Bmp => Some(Self::Bmp),
            ImageType::Gif => Some(Self::Gif),
            ImageType::Jpeg => Some(Self::Jpeg),
            ImageType::Png => Some(Self::Png),
            ImageType::Pnm => Some(Self::Pnm),
            ImageType::Tiff => Some(Self::Tiff),
            ImageType::Webp => Some(Self::Webp),
            _ => None,
        }
    }

    /// Whether the format's signature is so short that ordinary text may begin like it.
    pub(crate) fn is_weakly_signed(self) -> bool {
        matches!(self, Self::Bmp | Self::Pnm)
    }
}

/// Width and height in pixels, as the header tells them.
///
/// # Errors
///
/// The reason why this is no image that can become a sample, for the ledger.
pub(crate) fn image_size(content: &[u8]) -> Result<(u32, u32), String> {
    if content.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if ImageFormat::sniff(content).is_none() {
        return Err(match imagesize::image_type(content) {
            Ok(other) => format!("the format {other:?} is not supported").to_lowercase(),
            Err(_) => "the content is no image of a known format".to_owned(),
        });
    }
    let size = imagesize::blob_size(content).map_err(|error| format!("the header cannot be read: {error}"))?;
    match (u32::try_from(size.width), u32::try_from(size.height)) {
        (Ok(width), Ok(height)) if u64::from(width) * u64::from(height) > IMAGE_PX_MAX => {
            Err(format!("the header declares {width} x {height} pixels, more than {IMAGE_PX_MAX}"))
        }
        (Ok(width), Ok(height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(format!("the header declares {} x {} pixels", size.width, size.height)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_the_format() {
        let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/odd");
        let read = |name: &str| fs_err::read(format!("{photos}/{name}")).unwrap();
        assert_eq!(ImageFormat::sniff(&read("png_named_jpg.jpg")), Some(ImageFormat::Png));
        assert_eq!(ImageFormat::sniff(&read("webp.webp")), Some(ImageFormat::Webp));
        assert_eq!(image_size(&read("tiny_9x7.jpg")), Ok((9, 7)));
        assert_eq!(ImageFormat::sniff(b"P6 3 2 255\n......"), Some(ImageFormat::Pnm));
    }

    #[test]
    fn reasons_are_clear() {
        assert_eq!(image_size(b""), Err("the file is empty".to_owned()));
        assert_eq!(image_size(b"hello, I am text"), Err("the content is no image of a known format".to_owned()));
        assert!(
            image_size(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01").unwrap_err().starts_with("the header cannot be read")
        );
        assert_eq!(
            image_size(b"P6 100000 100000 255\n...................."),
            Err("the header declares 100000 x 100000 pixels, more than 100000000".to_owned())
        );
        assert_eq!(image_size(b"qoif\0\0\0\x01\0\0\0\x01\x04\0"), Err("the format qoi is not supported".to_owned()));
    }
}
