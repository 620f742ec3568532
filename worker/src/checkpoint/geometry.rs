//! Geometry of each part: the sizes of its network, which the shapes of its tensors and the
//! config beside them determine.

/// Width of the sinusoidal time embedding, the same for all models of the family.
///
/// Source: AIDC-AI/Ovis-Image `ovis_image/model/model.py` (`MLPEmbedder(in_dim=256, ...)`).
pub const TIME_EMBEDDING_WIDTH: usize = 256;

/// Scale of FLUX.1's latents, which Ovis-Image uses too.
///
/// Source: AIDC-AI/Ovis-Image `ovis_image/__init__.py` (`AutoEncoderParams`).
pub const FLUX_SCALING_FACTOR: f64 = 0.3611;

/// Shift of FLUX.1's latents, from the same source as [`FLUX_SCALING_FACTOR`].
pub const FLUX_SHIFT_FACTOR: f64 = 0.1159;

/// Side of the square images that the released model was trained on, in pixels.
pub const NATIVE_SIZE: usize = 1024;

/// Geometry of the transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct MmditConfig {
    /// Latent channels times the 4 pixels of a patch: 64 in Ovis-Image-7B.
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

impl MmditConfig {
    /// Width of a head: 128.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Number of parameters: 7.37 billion for Ovis-Image-7B.
    pub fn parameters(&self) -> u64 {
        let [hidden, inner] = [self.hidden_size, self.mlp_hidden];
        let linear = |inputs: usize, outputs: usize| (inputs + 1) * outputs;
        let norms = 2 * self.head_dim();
        let stream = linear(hidden, 6 * hidden)
            + linear(hidden, 3 * hidden)
            + linear(hidden, hidden)
            + linear(hidden, 2 * inner)
            + linear(inner, hidden)
            + norms;
        let single = linear(hidden, 3 * hidden)
            + linear(hidden, 3 * hidden + 2 * inner)
            + linear(hidden + inner, hidden)
            + norms;
        let ends = linear(self.in_channels, hidden)
            + self.context_dim
            + linear(self.context_dim, hidden)
            + linear(TIME_EMBEDDING_WIDTH, hidden)
            + linear(hidden, hidden)
            + linear(hidden, 2 * hidden)
            + linear(hidden, self.in_channels);
        (2 * self.depth_double * stream + self.depth_single * single + ends) as u64
    }

    /// Number of parameters in the weights of the blocks' large matrix products, without
    /// biases.
    pub fn large_parameters(&self) -> u64 {
        let [hidden, inner] = [self.hidden_size, self.mlp_hidden];
        let stream = 4 * hidden * hidden + 3 * hidden * inner;
        let single = 4 * hidden * hidden + 3 * hidden * inner;
        (2 * self.depth_double * stream + self.depth_single * single) as u64
    }
}

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

impl Qwen3Config {
    /// Number of parameters: 1.72 billion for Ovis2.5-2B's language model.
    pub fn parameters(&self) -> u64 {
        let (hidden, head) = (self.hidden_size, self.head_dim);
        let attention = (2 * self.num_heads + 2 * self.num_kv_heads) * head * hidden + 2 * head;
        let layer = attention + 3 * hidden * self.intermediate_size + 2 * hidden;
        (self.vocab_size * hidden + self.num_layers * layer + hidden) as u64
    }
}

/// Geometry of the autoencoder, and the normalisation of its latents.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels at each level, from full resolution to the lowest: (128, 256, 512, 512).
    pub block_channels: Vec<usize>,
    /// Residual blocks per level of the encoder, one fewer than in the decoder: 2.
    pub layers_per_block: usize,
    /// Latent channels: 16.
    pub latent_channels: usize,
    /// Groups of the group norms: 32.
    pub norm_groups: usize,
    /// The transformer works on `(latent - shift_factor) * scaling_factor`: 0.3611.
    pub scaling_factor: f64,
    /// Shift of the latents before they are scaled: 0.1159.
    pub shift_factor: f64,
    /// Side in pixels of the square images that the model was trained on: 1024.
    pub native_size: usize,
}
