//! EXIF with one field: the description.

/// Most bytes that a JPEG's segment takes.
pub const MOST_IN_JPEG: usize = u16::MAX as usize - 2;

/// EXIF's ImageDescription.
const DESCRIPTION: u16 = 0x010e;

/// EXIF's type of text.
const ASCII: u16 = 2;

/// Where the text stands: after the header and a directory of one entry.
const TEXT_AT: u32 = 8 + 2 + 12 + 4;

/// An EXIF block whose description is this JSON. EXIF's text is ASCII, so other characters
/// are written as JSON's `\u` escapes.
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

/// The same as the segment of a JPEG.
pub fn for_jpeg(json: &str) -> Vec<u8> {
    [b"Exif\0\0".as_slice(), &description(json)].concat()
}

fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
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
