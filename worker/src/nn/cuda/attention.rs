//! cuDNN's fused attention.

use candle_core::{bail, DType, Result, Tensor};

use super::address::{address, output, shared_gpu};
use super::copy::dense;
use super::cudnn::AttentionShape;
use super::libraries::cudnn;
use super::mlp::swiglu_into;

/// Attention of `q` `[B, S, H, D]` over `k` and `v` `[B, T, G, D]`, scaled by `D^-1/2`:
/// `[B, S, H D]`. The tensors may have any strides as long as heads are dense.
///
/// Returns `None` also for f32, without cuDNN, and for shapes that it does not support.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Option<Tensor>> {
    if shared_gpu(&[q, k, v]).is_none() || q.dtype() != DType::BF16 {
        return Ok(None);
    }
    let (batch, tokens, heads, head_dim) = q.dims4()?;
    let out = output(&[batch, tokens, heads * head_dim], q)?;
    Ok(attention_into(q, k, v, causal, &out)?.then_some(out))
}

/// [`attention`] and the SwiGLU of `up_gate` `[B, S, 2 I]`, each written into its columns of
/// `[B, S, H D + I]`.
pub fn attention_and_swiglu(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    up_gate: &Tensor,
) -> Result<Option<Tensor>> {
    if shared_gpu(&[q, k, v, up_gate]).is_none() || q.dtype() != DType::BF16 {
        return Ok(None);
    }
    let (batch, tokens, heads, head_dim) = q.dims4()?;
    let (width, inner) = (heads * head_dim, up_gate.dim(2)? / 2);
    let out = output(&[batch, tokens, width + inner], q)?;
    if !attention_into(q, k, v, false, &out.narrow(2, 0, width)?)? {
        return Ok(None);
    }
    swiglu_into(up_gate, &out.narrow(2, width, inner)?)?;
    Ok(Some(out))
}

/// Number of key heads, after a check that the shapes of an attention over `keys` keys fit.
pub(super) fn key_heads(q: &Tensor, k: &Tensor, v: &Tensor, keys: usize) -> Result<usize> {
    let (batch, _, heads, head_dim) = q.dims4()?;
    let key_heads = k.dim(2)?;
    let fits = k.dims() == v.dims()
        && k.dims() == [batch, keys, key_heads, head_dim]
        && key_heads > 0
        && heads % key_heads == 0;
    if !fits {
        bail!(
            "attention of {:?} over {:?} and {:?} does not fit",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    Ok(key_heads)
}

/// Strides in the order batch, heads, tokens, head dimension.
fn strides(tensor: &Tensor) -> [i64; 4] {
    let s = tensor.stride();
    [s[0] as i64, s[2] as i64, s[1] as i64, s[3] as i64]
}

/// Whether a tensor is aligned for cuDNN, which reads 16 bytes at a time.
fn aligned(tensor: &Tensor) -> Result<bool> {
    let elements = 16 / tensor.dtype().size_in_bytes();
    Ok(address(tensor)? % 16 == 0
        && tensor.stride().last() == Some(&1)
        && tensor.stride()[..3].iter().all(|s| s % elements == 0))
}

/// Writes [`attention`] into `out` `[B, S, H D]`, whose rows may lie in a wider tensor. Returns
/// `false` if cuDNN cannot.
pub fn attention_into(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    causal: bool,
    out: &Tensor,
) -> Result<bool> {
    let Some(device) = shared_gpu(&[q, k, v, out]) else {
        return Ok(false);
    };
    let Some(cudnn) = cudnn(&device)? else {
        return Ok(false);
    };
    let (batch, tokens, heads, head_dim) = q.dims4()?;
    let keys = k.dim(1)?;
    let key_heads = key_heads(q, k, v, keys)?;
    let readable = |t: &Tensor| match aligned(t)? {
        true => Ok(t.clone()),
        false => dense(t),
    };
    let (q, k, v) = (readable(q)?, readable(k)?, readable(v)?);
    let row = out.stride();
    let dims = |tokens, heads: usize| [batch as i64, heads as i64, tokens as i64, head_dim as i64];
    let shape = AttentionShape {
        q: dims(tokens, heads),
        kv: dims(keys, key_heads),
        q_strides: strides(&q),
        k_strides: strides(&k),
        v_strides: strides(&v),
        o_strides: [row[0] as i64, head_dim as i64, row[1] as i64, 1],
        causal,
    };
    cudnn.attention(&device, shape, [&q, &k, &v, out])
}
