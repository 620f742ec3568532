//! The protocol version, and the limits that both sides keep.

/// Version of this protocol. A client and a worker of different versions refuse each other.
pub const PROTOCOL_VERSION: u32 = 5;

/// First field of both hellos: the ASCII letters `OVIS` as a little-endian `u32`. Its
/// position and width never change, so that each side recognises the other before it
/// compares versions.
pub const MAGIC: u32 = u32::from_le_bytes(*b"OVIS");

/// Most tensor bytes in one chunk. Small enough for a cancel or a progress message to pass
/// between two chunks of a large tensor without delay.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Most bytes in one encoded message: a full chunk and 64 KiB for its other fields. Every
/// other message is smaller.
pub const MAX_MESSAGE_BYTES: usize = MAX_CHUNK_BYTES + (64 << 10);

/// Most tensors one message may announce.
pub const MAX_TENSORS: usize = 8;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Most bytes of all tensors of one message in total. 1 GiB is enough for a batch of 16
/// float32 images of 2048 x 2048 pixels (0.75 GiB).
pub const MAX_TENSOR_BYTES: u64 = 1 << 30;

/// Most bytes of one prompt in UTF-8.
pub const MAX_PROMPT_BYTES: usize = 48 << 10;

/// Most prompts in one encode job. No image size allows a larger batch.
pub const MAX_PROMPTS: usize = 64;

/// Most unfinished jobs that one owner may have.
pub const MAX_JOBS_PER_OWNER: usize = 64;

/// Most pixels along the longer side of a preview. At three bytes a pixel it fits one
/// message.
pub const MAX_PREVIEW_SIDE: u32 = 512;

/// Bytes of the secret by which a client owns its jobs.
pub const SECRET_BYTES: usize = 32;

/// Most bytes of a trace context: the W3C header `traceparent` has 55.
pub const MAX_TRACE_BYTES: usize = 128;

/// Most bytes of a model's name.
pub const MAX_MODEL_NAME_BYTES: usize = 64;

/// Most models that one worker may have.
pub const MAX_MODELS: usize = 64;

/// Most adapters that one job may apply.
pub const MAX_ADAPTERS: usize = 16;

/// Most bytes of an adapter's name in UTF-8.
pub const MAX_ADAPTER_NAME_BYTES: usize = 255;

/// How far an adapter's strength, or the weight of a block, may be from 0.
pub const MAX_ADAPTER_STRENGTH: f64 = 100.0;

/// Most block weights of one adapter. No model has as many blocks.
pub const MAX_BLOCK_WEIGHTS: usize = 256;

/// Most bytes of an adapter's kind, title, trigger words and parts, each in UTF-8.
pub const MAX_ADAPTER_TEXT_BYTES: usize = 256;

/// Most trigger words of one adapter.
pub const MAX_TRIGGERS: usize = 32;

/// Most bytes of an adapter's picture.
pub const MAX_ADAPTER_PICTURE_BYTES: usize = 64 << 10;

/// Most bytes of the adapters in one message; a longer list takes several.
pub const MAX_ADAPTER_LIST_BYTES: usize = 1 << 20;
