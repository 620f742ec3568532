//! What a job was asked to do, as a digest: two submissions under one UUID are compared by it.

use ovis_protocol::{encode, Request, TensorHeader, WireError};
use sha2::{Digest, Sha256};

/// The tensor that a job goes on from. It is no part of what the job is asked to do.
const STATE: &str = "state";

/// A digest of a job's request, the name of its model, its tensors' headers and their bytes. The
/// default is that of no job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content(pub [u8; 32]);

/// Computes a [`Content`] while the tensors' bytes arrive.
#[derive(Clone)]
pub struct ContentHasher {
    hasher: Sha256,
    /// Index of the tensor that does not count.
    state: Option<u32>,
}

impl ContentHasher {
    /// Begins with a request, the model that it names, and the headers of its tensors.
    ///
    /// # Errors
    /// `InvalidRequest` if the request is too long to be sent, which no received one is.
    pub fn new(
        request: &Request,
        model: Option<&str>,
        headers: &[TensorHeader],
    ) -> Result<Self, WireError> {
        let unencodable = |error: ovis_protocol::CodecError| {
            let code = ovis_protocol::ErrorCode::InvalidRequest;
            WireError::new(code, format!("The request cannot be read: {error}."), "")
        };
        let mut hasher = Sha256::new();
        hasher.update(encode(request).map_err(unencodable)?);
        hasher.update(encode(&model).map_err(unencodable)?);
        for header in headers.iter().filter(|header| header.name != STATE) {
            hasher.update(encode(header).map_err(unencodable)?);
        }
        let state = (0..).zip(headers).find(|(_, h)| h.name == STATE);
        Ok(Self {
            hasher,
            state: state.map(|(at, _)| at),
        })
    }

    /// Takes in the next bytes of a tensor, which come in order.
    pub fn update(&mut self, tensor: u32, bytes: &[u8]) {
        if self.state != Some(tensor) {
            self.hasher.update(bytes);
        }
    }

    /// The digest of what was taken in.
    pub fn finish(self) -> Content {
        Content(self.hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovis_protocol::DType;

    fn content(request: &Request, tensors: &[(&str, &[u8])]) -> Content {
        content_for(None, request, tensors)
    }

    fn content_for(model: Option<&str>, request: &Request, tensors: &[(&str, &[u8])]) -> Content {
        let headers: Vec<_> = tensors
            .iter()
            .map(|(name, bytes)| TensorHeader::new(*name, DType::U8, [bytes.len() as u64]))
            .collect();
        let mut hasher = ContentHasher::new(request, model, &headers).unwrap();
        for (at, (_, bytes)) in (0..).zip(tensors) {
            for part in bytes.chunks(2) {
                hasher.update(at, part);
            }
        }
        hasher.finish()
    }

    #[test]
    fn everything_counts_but_the_state() {
        let decode = content(&Request::Decode, &[("latent", b"abc")]);
        assert_eq!(decode, content(&Request::Decode, &[("latent", b"abc")]));
        let resumed = [("latent", &b"abc"[..]), ("state", b"xyz")];
        assert_eq!(decode, content(&Request::Decode, &resumed));
        for other in [
            content(&Request::VaeEncode, &[("latent", b"abc")]),
            content(&Request::Decode, &[("latent", b"abd")]),
            content(&Request::Decode, &[("latent", b"ab")]),
            content(&Request::Decode, &[("image", b"abc")]),
            content(&Request::Decode, &[("latent", b"ab"), ("x", b"c")]),
            content_for(Some("fast"), &Request::Decode, &[("latent", b"abc")]),
        ] {
            assert_ne!(decode, other);
        }
    }
}
