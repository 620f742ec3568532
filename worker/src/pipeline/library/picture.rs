//! The preview of an adapter, small enough to be listed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ovis_protocol::limits::MAX_ADAPTER_PICTURE_BYTES;

use crate::checkpoint::Preview;

/// First bytes of JPEG and PNG files.
const MAGIC: [&[u8]; 2] = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"];

/// The picture's bytes, if it is a JPEG or PNG file that may be listed.
pub fn picture(preview: &Preview) -> Option<Vec<u8>> {
    let bytes = match preview {
        Preview::Inside(address) => decode(address.split_once("base64,")?.1)?,
        Preview::Beside(path) => read(path)?,
    };
    let is_picture = MAGIC.iter().any(|magic| bytes.starts_with(magic));
    (is_picture && bytes.len() <= MAX_ADAPTER_PICTURE_BYTES).then_some(bytes)
}

/// A file's bytes, if there are few enough.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_ADAPTER_PICTURE_BYTES as u64;
    let file = File::open(path).ok()?;
    file.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

/// Bytes from base64 (RFC 4648), with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * MAX_ADAPTER_PICTURE_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_decoded() {
        // The vectors of RFC 4648, section 10.
        let cases = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in cases {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode("Zm9v!"), None);
    }

    #[test]
    fn only_small_pictures_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let beside = |bytes: &[u8]| {
            let path = folder.path().join("x.png");
            std::fs::write(&path, bytes).unwrap();
            picture(&Preview::Beside(path))
        };
        let small = b"\x89PNG\r\n\x1a\nsmall".to_vec();
        assert_eq!(beside(&small), Some(small.clone()));
        let mut large = small.clone();
        large.resize(MAX_ADAPTER_PICTURE_BYTES + 1, 0);
        assert_eq!(beside(&large), None);
        assert_eq!(beside(b"RIFF....WEBP"), None);
        let inside = Preview::Inside("data:image/png;base64,iVBORw0KGgo=".into());
        assert_eq!(picture(&inside).unwrap(), b"\x89PNG\r\n\x1a\n");
    }
}
