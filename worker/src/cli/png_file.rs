//! PNG files that remember how they were made.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::CliError;

/// Keyword of the text chunk that holds the parameters.
pub const PARAMETERS_KEYWORD: &str = "ovis-worker";

/// Writes `width` x `height` RGB pixels, 0 to 1, row-major, and the parameters
/// (JSON) in an iTXt chunk. Values round half to even, as diffusers does.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    path: &Path,
    width: usize,
    height: usize,
    pixels: &[f32],
    parameters: &str,
) -> Result<(), CliError> {
    let bytes: Vec<u8> = pixels
        .iter()
        .map(|p| (p * 255.0).round_ties_even() as u8)
        .collect();
    let cannot = |e: &dyn std::fmt::Display| {
        CliError::new(
            format!("{} cannot be written: {e}", path.display()),
            "Check that the folder exists and has room.",
        )
    };
    let file = File::create(path).map_err(|e| cannot(&e))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .add_itxt_chunk(PARAMETERS_KEYWORD.into(), parameters.into())
        .map_err(|e| cannot(&e))?;
    let mut writer = encoder.write_header().map_err(|e| cannot(&e))?;
    writer.write_image_data(&bytes).map_err(|e| cannot(&e))?;
    writer.finish().map_err(|e| cannot(&e))
}
