//! The numbers both sides agree on.

/// Version of this protocol. Peers with different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 3;

/// First field of both hellos: the ASCII letters `OVIS`, read as a
/// little-endian `u32`. Its place and width never change, so that a peer of any
/// version is recognised before its version is judged.
pub const MAGIC: u32 = u32::from_le_bytes(*b"OVIS");

/// Most tensor bytes in one chunk, so that a cancel or a progress message can
/// pass between two chunks of a large tensor.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Most bytes in one encoded message: a full chunk and generous room for its
/// envelope, or any other message.
pub const MAX_MESSAGE_BYTES: usize = MAX_CHUNK_BYTES + (64 << 10);

/// Most tensors one message may announce.
pub const MAX_TENSORS: usize = 8;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Most bytes of all tensors of one message together (1 GiB: a batch of 16
/// float32 images at 2048 x 2048 is 0.75 GiB).
pub const MAX_TENSOR_BYTES: u64 = 1 << 30;

/// Most bytes of UTF-8 in one prompt.
pub const MAX_PROMPT_BYTES: usize = 48 << 10;

/// Most prompts in one encode job; a batch larger than this fits no size.
pub const MAX_PROMPTS: usize = 64;

/// Most jobs one connection may have unfinished at a time.
pub const MAX_JOBS_PER_CONNECTION: usize = 64;

/// Most pixels along the longer side of a preview. Its three bytes a pixel fit
/// one message.
pub const MAX_PREVIEW_SIDE: u32 = 512;
