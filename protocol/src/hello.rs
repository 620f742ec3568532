//! The hellos that open a connection, and the capabilities a worker announces in its own.

use std::fmt;

use bincode::{Decode, Encode};

use crate::limits::SECRET_BYTES;
use crate::model::ModelInfo;

/// First message of a client. Its `Debug` form omits the token and the secret, so that a log
/// cannot show them.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClientHello {
    /// [`MAGIC`](crate::limits::MAGIC).
    pub magic: u32,
    /// [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).
    pub protocol: u32,
    /// Name and version of the client, for logs.
    pub client: String,
    /// The token, when the worker requires one.
    pub token: Option<String>,
    /// The secret by which the client owns its jobs: random bytes that it keeps and shows to
    /// nobody else. Every connection with the same secret may claim the same jobs. Without one,
    /// the client's jobs end with its connection.
    pub secret: Option<[u8; SECRET_BYTES]>,
}

impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("magic", &self.magic)
            .field("protocol", &self.protocol)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// First message of a worker that accepts the client's hello.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct WorkerHello {
    /// [`MAGIC`](crate::limits::MAGIC).
    pub magic: u32,
    /// [`PROTOCOL_VERSION`](crate::limits::PROTOCOL_VERSION).
    pub protocol: u32,
    /// Name and version of the worker.
    pub worker: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How it keeps jobs whose client is away.
    pub keeping: Keeping,
}

/// How a worker keeps the jobs of a client that sent a secret.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub struct Keeping {
    /// Seconds for which an unfinished job is kept after its client has left, and an ended one
    /// after its end.
    pub seconds: f64,
    /// Bytes of results that are kept for all clients together.
    pub bytes: u64,
    /// Whether jobs outlive the worker's process.
    pub is_durable: bool,
}

/// What a worker can do. Fields that differ from model to model are those of the default one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Capabilities {
    /// Supported operations by [`Request::name`](crate::Request::name), and `claim` when jobs
    /// can be claimed.
    pub operations: Vec<String>,
    /// Solvers a denoise job may name.
    pub samplers: Vec<String>,
    /// Display name of the default model's checkpoint.
    pub model: String,
    /// Display name of the device: `cpu`, `cuda:0 NVIDIA H200`.
    pub device: String,
    /// Display name of the precision of weights and arithmetic: `f32`, `bf16`, `fp8`.
    pub precision: String,
    /// Number of channels of a latent.
    pub latent_channels: u32,
    /// D of a conditioning.
    pub conditioning_width: u32,
    /// Width and height of an image must be multiples of this many pixels.
    pub size_multiple: u32,
    /// Most pixels (width times height times batch) one job may have.
    pub max_pixels: u64,
    /// Sigma schedules a denoise job may name.
    pub schedulers: Vec<String>,
    /// Kinds of preview a denoise job may ask for, by
    /// [`PreviewKind::name`](crate::PreviewKind::name).
    pub previews: Vec<String>,
    /// The models that a job may name, at most [`MAX_MODELS`](crate::limits::MAX_MODELS); the
    /// first is the default.
    pub models: Vec<ModelInfo>,
}
