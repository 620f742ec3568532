//! Recognises files of other formats by their first bytes.

/// Number of bytes from a file's start that are looked at.
pub(super) const START: usize = 512;

/// Format of a file that was opened as weights and is neither safetensors nor GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A file of 0 bytes.
    Empty,
    /// Space that a download reserved and has not filled.
    Zeros,
    /// Python's pickle format, which `torch.save` writes.
    Pickle,
    /// A ZIP archive other than `torch.save`'s.
    Zip,
    /// The text file that Git LFS stores in place of a large file.
    LfsPointer,
    /// HTML or XML, which a server sent instead of the file.
    WebPage,
    /// JSON, such as a server's error or a config.
    Json,
    /// AppleDouble: metadata that macOS stores beside a file on other systems' disks.
    AppleDouble,
    /// Anything else.
    Other,
}

impl Foreign {
    /// Recognises a format by the first bytes of a file that is not safetensors.
    pub(super) fn of(start: &[u8]) -> Self {
        let start = &start[..start.len().min(START)];
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let text = text.trim_ascii_start();
        let begins = |word: &[u8]| {
            text.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        };
        if start.is_empty() {
            Self::Empty
        } else if start.iter().all(|&byte| byte == 0) {
            Self::Zeros
        } else if start.starts_with(b"PK\x03\x04") {
            // The first entry of what torch.save writes is `NAME/data.pkl`.
            match start.windows(4).any(|bytes| bytes == b".pkl") {
                true => Self::Pickle,
                false => Self::Zip,
            }
        } else if matches!(start, [0x80, 2..=5, ..]) {
            Self::Pickle
        } else if start.starts_with(b"version https://git-lfs") {
            Self::LfsPointer
        } else if start.starts_with(b"\x00\x05\x16\x07") {
            Self::AppleDouble
        } else if [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<error"]
            .into_iter()
            .any(begins)
        {
            Self::WebPage
        } else if begins(b"{") || begins(b"[") {
            Self::Json
        } else {
            Self::Other
        }
    }

    /// Name of the format with its article, for a sentence.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Empty => "an empty file",
            Self::Zeros => "a file of zeros (room that a download has not filled)",
            Self::Pickle => "a PyTorch pickle",
            Self::Zip => "a ZIP archive",
            Self::LfsPointer => "a Git LFS pointer (the real file was not downloaded)",
            Self::WebPage => "a web page (a server sent it instead of the file)",
            Self::Json => "a JSON file",
            Self::AppleDouble => "what macOS keeps beside a file (AppleDouble)",
            Self::Other => "a file of some other kind",
        }
    }

    /// Advice for the person who named the file.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Pickle => {
                "Use the .safetensors or .gguf release of the weights; pickles can run code and are never opened."
            }
            Self::LfsPointer => "Run `git lfs pull` in the repository, or download the file itself.",
            Self::Empty | Self::Zeros => "Download the file again.",
            Self::WebPage => {
                "Download the file again; where a site asks for a login or a licence, accept it first."
            }
            Self::AppleDouble => "Name the file without `._` in front.",
            Self::Zip => "Unpack it, and name the .safetensors file in it.",
            Self::Json | Self::Other => "Use the .safetensors release of the weights.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is() {
        let cases: [(&[u8], Foreign); 15] = [
            (b"", Foreign::Empty),
            (&[0; 64], Foreign::Zeros),
            (b"PK\x03\x04..archive/data.pkl", Foreign::Pickle),
            (b"PK\x03\x04..readme.txt", Foreign::Zip),
            (b"\x80\x02}q\x00.", Foreign::Pickle),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                Foreign::LfsPointer,
            ),
            (
                b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X",
                Foreign::AppleDouble,
            ),
            (b"<!DOCTYPE html><html>", Foreign::WebPage),
            (b"\xef\xbb\xbf\r\n<html lang=en>", Foreign::WebPage),
            (b"<?xml version='1.0'?><Error>", Foreign::WebPage),
            (b"{\"error\":\"not found\"}", Foreign::Json),
            (b"[1]", Foreign::Json),
            (b"Invalid username or password.", Foreign::Other),
            (b"\x80", Foreign::Other),
            (b"\xef\xbb\xbf", Foreign::Other),
        ];
        for (start, kind) in cases {
            assert_eq!(Foreign::of(start), kind, "{start:?}");
        }
    }
}
