//! Bytes that a transformer block holds while it runs, from its shapes.
//!
//! The counts follow [`project_jointly`](super::project_jointly) and its neighbours: what is alive
//! at the same time at the widest place of a block, and the network's own tensors around it.

/// How a device computes a transformer block, which decides what it holds beside its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPath {
    /// Plain expressions in float32 on a CPU.
    Cpu,
    /// A GPU without fused attention: float32, or cuDNN is missing. Scores are held in pieces,
    /// which are not counted here.
    Plain,
    /// A GPU with products by cuBLASLt and attention by cuDNN.
    Library {
        /// Whether the products' factors are fp8.
        fp8: bool,
    },
    /// A GPU with products of our own, which never store the wide projections.
    Own {
        /// Whether the products' factors are fp8.
        fp8: bool,
    },
}

/// Most bytes that are alive at a time while blocks of width `hidden` and MLP width `inner` run on
/// `rows` rows of `value` bytes a value. It includes the embedded image and the double-stream
/// blocks' results, which the network keeps until the last block has run, and leaves out the scores
/// of [`BlockPath::Cpu`] and [`BlockPath::Plain`].
///
/// In units of a row's hidden width h and MLP width I:
/// - around every block: the embedded image h and the double-stream blocks' result h
/// - own products: input h, norm h, heads 3 h, joint h + I (single block)
/// - own products in fp8, also: in a double block, input, attention, its two parts, the sum and the
///   result 5 h, MLP I, and MLP again in fp8
/// - by cuBLASLt: input h, projection 3 h + 2 I, heads 3 h, joint h + I; in fp8 attention h and
///   MLP I in addition, before they are concatenated
/// - on a CPU: the norm in float32 with its intermediate values, and parts beside concatenations
pub fn block_bytes(rows: u64, hidden: u64, inner: u64, value: u64, path: BlockPath) -> u64 {
    let values = |hiddens: u64, inners: u64| {
        let width = hiddens
            .saturating_mul(hidden)
            .saturating_add(inners.saturating_mul(inner));
        rows.saturating_mul(width)
    };
    let stored = |hiddens, inners| values(hiddens, inners).saturating_mul(value);
    match path {
        BlockPath::Cpu => stored(13, 5),
        BlockPath::Plain | BlockPath::Library { fp8: true } => stored(11, 4),
        BlockPath::Library { fp8: false } => stored(10, 3),
        BlockPath::Own { fp8: false } => stored(8, 1),
        BlockPath::Own { fp8: true } => stored(8, 1).max(stored(6, 1).saturating_add(values(0, 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ovis-Image-7B at 1024 x 1024, both branches: 2 (4096 + 256) rows of bf16.
    fn at_1024(path: BlockPath) -> f64 {
        block_bytes(8704, 3072, 12_288, 2, path) as f64 / f64::from(1 << 30)
    }

    #[test]
    fn fused_paths_hold_less() {
        let own = at_1024(BlockPath::Own { fp8: false });
        let library = at_1024(BlockPath::Library { fp8: false });
        assert!((own - 0.598).abs() < 0.001, "{own}");
        assert!((library - 1.096).abs() < 0.001, "{library}");
        assert!(library < at_1024(BlockPath::Library { fp8: true }));
        assert!(at_1024(BlockPath::Library { fp8: true }) < at_1024(BlockPath::Cpu));
    }

    /// With an MLP of four times the width, a joint row in fp8 is as large as what bf16 holds more.
    #[test]
    fn own_products_in_fp8_hold_as_much_as_in_bf16() {
        let [bf16, fp8] = [false, true].map(|fp8| at_1024(BlockPath::Own { fp8 }));
        assert!(fp8 >= bf16 && fp8 < 1.05 * bf16, "{fp8} {bf16}");
    }

    #[test]
    fn nothing_overflows() {
        let most = block_bytes(u64::MAX, 3072, 12_288, 2, BlockPath::Plain);
        assert_eq!(most, u64::MAX);
        assert_eq!(block_bytes(0, 3072, 12_288, 2, BlockPath::Plain), 0);
    }
}
