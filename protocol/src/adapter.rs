//! Adapters (LoRA and its relatives): how a job names them, and how a worker lists them.

use bincode::{Decode, Encode};

use crate::limits::{MAX_ADAPTER_LIST_BYTES, MAX_ADAPTER_NAME_BYTES};

/// The range of noise levels at which something applies, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct SigmaInterval {
    /// The highest sigma, at most 1.
    pub start: f64,
    /// The lowest sigma, not above `start`.
    pub end: f64,
}

/// An adapter that a job applies.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct AdapterUse {
    /// The adapter's name, as the worker lists it; see [`is_adapter_name`].
    pub name: String,
    /// SHA-256 of the adapter's file. The worker refuses the job if its file of this name has
    /// another one.
    pub hash: Option<[u8; 32]>,
    /// Strength for the transformer, at most
    /// [`MAX_ADAPTER_STRENGTH`](crate::limits::MAX_ADAPTER_STRENGTH) away from 0.
    pub transformer: f64,
    /// Strength for the text encoder, within the same bounds.
    pub text_encoder: f64,
    /// Noise levels at which the adapter applies to the transformer; `None` is all of them.
    pub interval: Option<SigmaInterval>,
    /// A weight for each transformer block, by which the strength is multiplied; empty for 1
    /// everywhere.
    pub blocks: Vec<f64>,
}

impl AdapterUse {
    /// An adapter at a strength, for the transformer and the text encoder alike, at all noise
    /// levels and in all blocks.
    pub fn new(name: impl Into<String>, strength: f64) -> Self {
        Self {
            name: name.into(),
            hash: None,
            transformer: strength,
            text_encoder: strength,
            interval: None,
            blocks: Vec::new(),
        }
    }
}

/// An adapter that a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AdapterInfo {
    /// The name that a job gives: the path of the file below one of the worker's folders of
    /// adapters.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub hash: [u8; 32],
    /// What the adapter is made of: `lora`, `lokr` and so on.
    pub kind: String,
    /// The highest rank among its modules; 0 where there is none.
    pub rank: u32,
    /// The title in the file's metadata.
    pub title: Option<String>,
    /// Words that prompts should contain, from the file's metadata.
    pub triggers: Vec<String>,
    /// The networks that it changes: `transformer`, `text_encoder`.
    pub parts: Vec<String>,
    /// A picture in JPEG or PNG.
    pub preview: Option<Vec<u8>>,
}

/// A part of a worker's list of adapters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AdapterList {
    /// Adapters by name.
    pub adapters: Vec<AdapterInfo>,
    /// Whether another part follows.
    pub more: bool,
}

impl AdapterList {
    /// A whole list in parts that each fit one message: at least one, which may be empty. The
    /// adapters must keep the limits on them.
    pub fn parts(adapters: Vec<AdapterInfo>) -> Vec<Self> {
        let mut parts = vec![Self::default()];
        let mut held = 0;
        for adapter in adapters {
            let size = adapter.encoded_bytes();
            if held > 0 && held + size > MAX_ADAPTER_LIST_BYTES {
                parts.push(Self::default());
                held = 0;
            }
            held += size;
            if let Some(part) = parts.last_mut() {
                part.adapters.push(adapter);
            }
        }
        let last = parts.len() - 1;
        for part in &mut parts[..last] {
            part.more = true;
        }
        parts
    }
}

impl AdapterInfo {
    /// Bytes that the adapter takes in a message.
    fn encoded_bytes(&self) -> usize {
        let string = |text: &String| 8 + text.len();
        let strings = |list: &[String]| 8 + list.iter().map(string).sum::<usize>();
        let option = |bytes: Option<usize>| 1 + bytes.map_or(0, |bytes| 8 + bytes);
        string(&self.name)
            + size_of::<u64>()
            + self.hash.len()
            + string(&self.kind)
            + size_of::<u32>()
            + option(self.title.as_ref().map(String::len))
            + strings(&self.triggers)
            + strings(&self.parts)
            + option(self.preview.as_ref().map(Vec::len))
    }
}

/// Whether a text may name an adapter: 1 to [`MAX_ADAPTER_NAME_BYTES`] bytes, parts that `/`
/// separates, none of them empty, `.` or `..`, without backslashes and control characters. So
/// it never leads out of the folder that it is looked up in.
pub fn is_adapter_name(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    name.len() <= MAX_ADAPTER_NAME_BYTES
        && name.split('/').all(is_part)
        && !name.contains(|c: char| c == '\\' || c == ':' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_ADAPTER_PICTURE_BYTES, MAX_MESSAGE_BYTES};
    use crate::{encode, WorkerMessage};

    fn adapter(at: usize, picture: usize) -> AdapterInfo {
        AdapterInfo {
            name: format!("styles/{at}.safetensors"),
            bytes: 1 << 20,
            hash: [at as u8; 32],
            kind: "lora".into(),
            rank: 16,
            title: at.is_multiple_of(2).then(|| format!("Style {at}")),
            triggers: vec!["neon".into(), "glow".into()],
            parts: vec!["transformer".into()],
            preview: (picture > 0).then(|| vec![7; picture]),
        }
    }

    #[test]
    fn a_list_is_cut_into_parts_that_fit_a_message() {
        assert_eq!(AdapterList::parts(vec![]), [AdapterList::default()]);
        for (count, picture) in [(1, 0), (40, MAX_ADAPTER_PICTURE_BYTES), (3000, 100)] {
            let all: Vec<_> = (0..count).map(|at| adapter(at, picture)).collect();
            let parts = AdapterList::parts(all.clone());
            let more: Vec<_> = parts.iter().map(|part| part.more).collect();
            assert!(more[..more.len() - 1].iter().all(|more| *more) && !more[more.len() - 1]);
            for part in &parts {
                let bytes = encode(&WorkerMessage::Adapters(part.clone())).unwrap();
                let told: usize = part.adapters.iter().map(AdapterInfo::encoded_bytes).sum();
                assert_eq!(bytes.len(), 4 + 8 + told + 1);
                assert!(bytes.len() <= MAX_MESSAGE_BYTES);
            }
            let joined: Vec<_> = parts.into_iter().flat_map(|part| part.adapters).collect();
            assert_eq!(joined, all);
        }
    }

    #[test]
    fn a_name_never_leads_out_of_its_folder() {
        for name in [
            "a",
            "styles/neon v2.safetensors",
            "霓虹.safetensors",
            "..a/b..",
        ] {
            assert!(is_adapter_name(name), "{name}");
        }
        let long = "x".repeat(MAX_ADAPTER_NAME_BYTES + 1);
        for name in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "C:a", "a\nb", "a\0", &long,
        ] {
            assert!(!is_adapter_name(name), "{name:?}");
        }
        assert!(is_adapter_name(&long[1..]));
    }
}
