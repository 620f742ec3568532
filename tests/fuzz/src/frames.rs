//! Frames in an input, each after its length as a `u16`.

use ovis_protocol::{chunks, encode, ClientMessage, DType, JobOptions, Request, TensorHeader};

/// Takes the first frame off an input. A frame whose length goes beyond the input ends with it.
pub fn take<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [low, high, rest @ ..] = *data else {
        return None;
    };
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (frame, after) = rest.split_at(length);
    *data = after;
    Some(frame)
}

/// A message as a frame with its length.
///
/// # Panics
/// If the message has no encoding of less than 64 KiB.
pub fn frame(message: &ClientMessage) -> Vec<u8> {
    let bytes = encode(message).expect("a seed's message encodes");
    let length = u16::try_from(bytes.len()).expect("a seed's message is short");
    [&length.to_le_bytes()[..], &bytes].concat()
}

/// The `Submit` and the chunks of a job with float32 tensors of zeros.
pub fn job(
    job: [u8; 16],
    request: Request,
    tensors: &[(&str, &[u64])],
    options: JobOptions,
) -> Vec<ClientMessage> {
    let header = |(name, shape): &(&str, &[u64])| TensorHeader {
        name: (*name).into(),
        dtype: DType::F32,
        shape: shape.to_vec(),
    };
    let headers: Vec<_> = tensors.iter().map(header).collect();
    let length = |header: &TensorHeader| header.byte_len().expect("a seed's shape is small");
    let bytes: Vec<_> = headers
        .iter()
        .map(|h| vec![0; length(h) as usize])
        .collect();
    let parts: Vec<_> = chunks(job, bytes.iter().map(|bytes| &bytes[..]))
        .map(ClientMessage::Chunk)
        .collect();
    let submit = ClientMessage::Submit {
        job,
        request,
        tensors: headers,
        options,
    };
    std::iter::once(submit).chain(parts).collect()
}
