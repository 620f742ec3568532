//! The Qwen3 language model as a text encoder: last hidden state after the
//! final norm.
//!
//! Source: transformers `models/qwen3/modeling_qwen3.py`.

/// Geometry of the text encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Qwen3Config {
    /// Rows of the embedding table: 151936.
    pub vocab_size: usize,
    /// Width: 2048.
    pub hidden_size: usize,
    /// Inner width of the SwiGLU MLPs: 6144.
    pub intermediate_size: usize,
    /// Decoder layers: 28.
    pub num_layers: usize,
    /// Query heads: 16.
    pub num_heads: usize,
    /// Key and value heads: 8.
    pub num_kv_heads: usize,
    /// Width of a head: 128.
    pub head_dim: usize,
    /// RoPE base: 1e6.
    pub rope_theta: f64,
    /// Epsilon of the RMS norms: 1e-6.
    pub rms_norm_eps: f64,
}
