//! An EXIF block with one field, ImageDescription.

use crate::text::escape_json_into;

/// Most bytes of payload in a JPEG segment: its length is a `u16` that includes itself.
pub const MOST_IN_JPEG: usize = u16::MAX as usize - 2;

/// Tag of ImageDescription.
const DESCRIPTION: u16 = 0x010e;

/// Field type of NUL-terminated ASCII text.
const ASCII: u16 = 2;

/// Offset of the text: after the header and a directory of one entry.
const TEXT_AT: u32 = 8 + 2 + 12 + 4;

/// An EXIF block (little-endian TIFF) whose ImageDescription is this JSON. EXIF text is ASCII,
/// so other characters become JSON's `\u` escapes.
pub fn description(json: &str) -> Vec<u8> {
    let text = ascii(json);
    let mut bytes = b"II*\0".to_vec();
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(DESCRIPTION.to_le_bytes());
    bytes.extend(ASCII.to_le_bytes());
    bytes.extend((text.len() as u32 + 1).to_le_bytes());
    bytes.extend(TEXT_AT.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The same block as the payload of a JPEG's APP1 segment.
pub fn for_jpeg(json: &str) -> Vec<u8> {
    [b"Exif\0\0".as_slice(), &description(json)].concat()
}

/// The same JSON in ASCII.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => escape_json_into(&mut text, c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_json() {
        let json = r#"{"prompt":"zürich 雪 🎨 \u0007"}"#;
        let text = ascii(json);
        assert!(text.is_ascii());
        let (a, b): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(json).unwrap(),
            serde_json::from_str(&text).unwrap(),
        );
        assert_eq!(a, b);
    }

    #[test]
    fn the_text_stands_where_the_directory_says() {
        let block = description("{}");
        assert_eq!(&block[TEXT_AT as usize..], b"{}\0");
        assert_eq!(block.len(), TEXT_AT as usize + 3);
    }
}
