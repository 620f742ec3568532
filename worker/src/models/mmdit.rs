//! Ovis-Image's multimodal diffusion transformer.
//!
//! Source: AIDC-AI/Ovis-Image `ovis_image/model/{model,layers}.py`.

/// Geometry of the transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct MmditConfig {
    /// Latent channels times the 2 x 2 patch: 64.
    pub in_channels: usize,
    /// Width of the text conditioning: 2048.
    pub context_dim: usize,
    /// Width of the transformer: 3072.
    pub hidden_size: usize,
    /// Attention heads: 24.
    pub num_heads: usize,
    /// Inner width of the SwiGLU MLPs: 12288.
    pub mlp_hidden: usize,
    /// Double-stream blocks: 6.
    pub depth_double: usize,
    /// Single-stream blocks: 27.
    pub depth_single: usize,
    /// RoPE dimensions of a head over (index, row, column): (16, 56, 56).
    pub axes_dim: [usize; 3],
    /// RoPE base: 10000.
    pub theta: f64,
}
