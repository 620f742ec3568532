//! Picture files: 8-bit RGB in PNG, JPEG or WebP, with the parameters that made the image.

mod exif;

use std::path::Path;

use crate::cli::error::CliError;

/// Keyword of the PNG text chunk that holds the parameters.
const PARAMETERS_KEYWORD: &str = "ovis-worker";

/// JPEG quality, 1 to 100. Chroma is not subsampled, which would blur the edges of red letters.
const JPEG_QUALITY: u8 = 95;

/// A picture file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lossless, with parameters of any length.
    Png,
    /// Lossy, with parameters of up to 64 KiB.
    Jpeg,
    /// Encoded lossless, with parameters of any length.
    WebP,
}

/// An 8-bit RGB image.
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width * 3` bytes, row by row from the top.
    pub rgb: Vec<u8>,
}

/// Why a picture could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A side is longer than the format supports.
    #[error("it is too large")]
    TooLarge,
    /// The PNG encoder failed.
    #[error(transparent)]
    Png(#[from] png::EncodingError),
    /// The JPEG encoder failed.
    #[error(transparent)]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// The WebP encoder failed.
    #[error(transparent)]
    WebP(#[from] image_webp::EncodingError),
}

impl Format {
    /// The format that the suffix of a path selects.
    ///
    /// # Errors
    /// The path is a folder, has no suffix, or has the suffix of another format.
    pub fn of(path: &Path) -> Result<Self, CliError> {
        const HINT: &str = "End the file's name in .png, .jpg, .jpeg or .webp.";
        if path.is_dir() {
            return Err(CliError::new(
                format!("`{}` is a folder, not a file to write", path.display()),
                "Name a file in it.",
            ));
        }
        let Some(suffix) = path.extension() else {
            return Err(CliError::new(
                format!(
                    "`{}` has no suffix that says which format to write",
                    path.display()
                ),
                HINT,
            ));
        };
        match suffix.to_string_lossy().to_ascii_lowercase().as_str() {
            "png" => Ok(Self::Png),
            "jpg" | "jpeg" => Ok(Self::Jpeg),
            "webp" => Ok(Self::WebP),
            other => Err(CliError::new(
                format!(
                    "`{}` would be a .{other} file, which is not written",
                    path.display()
                ),
                HINT,
            )),
        }
    }

    /// Largest width or height in pixels that the format supports.
    pub fn most_pixels(self) -> usize {
        match self {
            Self::Png => i32::MAX as usize,
            Self::Jpeg => u16::MAX as usize,
            Self::WebP => 1 << 14,
        }
    }

    /// Encodes a picture as a file. `parameters` (JSON) become the text chunk `ovis-worker` of
    /// a PNG, or the EXIF ImageDescription of a JPEG or WebP. A JPEG omits parameters that it
    /// cannot hold, see [`holds`](Self::holds).
    ///
    /// # Errors
    /// The picture is larger than [`most_pixels`](Self::most_pixels) allows.
    pub fn encode(self, picture: &Picture, parameters: &str) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Png => Ok(png(picture, parameters)?),
            Self::Jpeg => jpeg(picture, parameters),
            Self::WebP => Ok(webp(picture, parameters)?),
        }
    }

    /// Whether a file of this format has room for these parameters.
    pub fn holds(self, parameters: &str) -> bool {
        self != Self::Jpeg || exif::for_jpeg(parameters).len() <= exif::MOST_IN_JPEG
    }
}

impl Picture {
    /// From `height * width * 3` floats, 0 to 1, row-major RGB. Halves are rounded to even, as
    /// diffusers does.
    pub fn from_floats(width: usize, height: usize, pixels: &[f32]) -> Self {
        let rgb = pixels
            .iter()
            .map(|p| (p * 255.0).round_ties_even() as u8)
            .collect();
        Self { width, height, rgb }
    }
}

fn png(picture: &Picture, parameters: &str) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let (width, height) = (picture.width as u32, picture.height as u32);
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_itxt_chunk(PARAMETERS_KEYWORD.into(), parameters.into())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn jpeg(picture: &Picture, parameters: &str) -> Result<Vec<u8>, EncodeError> {
    let side = |side: usize| u16::try_from(side).map_err(|_| EncodeError::TooLarge);
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, JPEG_QUALITY);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
    if Format::Jpeg.holds(parameters) {
        encoder.add_app_segment(1, &exif::for_jpeg(parameters))?;
    }
    encoder.encode(&picture.rgb, width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(bytes)
}

fn webp(picture: &Picture, parameters: &str) -> Result<Vec<u8>, image_webp::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = image_webp::WebPEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif::description(parameters));
    let (width, height) = (picture.width as u32, picture.height as u32);
    encoder.encode(&picture.rgb, width, height, image_webp::ColorType::Rgb8)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_is_the_format() {
        for (name, expected) in [
            ("a.png", Some(Format::Png)),
            ("a.b.PNG", Some(Format::Png)),
            ("a.jpg", Some(Format::Jpeg)),
            ("a.JpEg", Some(Format::Jpeg)),
            ("a.webp", Some(Format::WebP)),
            ("a", None),
            ("a.", None),
            (".png", None),
            ("a.png ", None),
            ("a.gif", None),
            ("a.png.", None),
            ("", None),
        ] {
            assert_eq!(Format::of(Path::new(name)).ok(), expected, "{name}");
        }
    }

    #[test]
    fn too_long_parameters_do_not_spoil_a_jpeg() {
        let picture = Picture::from_floats(2, 1, &[0.0, 0.5, 1.0, 1.0, 0.5, 0.0]);
        let long = "x".repeat(1 << 16);
        assert!(!Format::Jpeg.holds(&long) && Format::WebP.holds(&long));
        let bytes = Format::Jpeg.encode(&picture, &long).unwrap();
        assert!(bytes.len() < 1 << 16 && bytes.starts_with(&[0xff, 0xd8]));
        assert!(Format::Jpeg.encode(&picture, "short").unwrap().len() < 1 << 16);
    }
}
