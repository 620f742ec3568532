// RMSNorm of each head of q and k, then rotation of its pairs: of neighbours
// (FLUX.1), or of the first half with the second (Qwen3).
#include "common.cuh"

// One warp a head; v is copied. Reads row (batch, token) of the packed projection
// [q | k | v], of `heads` heads for q and `kv_heads` each for k and v, at
// batch * batch_stride + token * row_stride; writes token `offset + token` of
// [batch, out_tokens, heads, head_dim] buffers. Heads have an even width.
template <typename T, bool HALVES>
__device__ void qk_norm_rope(const T *qkv, const T *query_weight, const T *key_weight,
                             const float *cos, const float *sin, T *q, T *k, T *v, int64_t batch,
                             int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             int64_t batch_stride, int64_t row_stride, int64_t out_tokens,
                             int64_t offset, float eps) {
    const int64_t all_heads = heads + 2 * kv_heads;
    const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (warp >= batch * tokens * all_heads) {
        return;
    }
    const int64_t packed_head = warp % all_heads;
    const int64_t token = warp / all_heads % tokens;
    const int64_t b = warp / (all_heads * tokens);
    const int part = packed_head < heads ? 0 : packed_head < heads + kv_heads ? 1 : 2;
    const int64_t part_heads = part == 0 ? heads : kv_heads;
    const int64_t head = packed_head - (part == 0 ? 0 : heads + (part - 1) * kv_heads);

    const T *x = qkv + b * batch_stride + token * row_stride + packed_head * head_dim;
    T *y = (part == 0 ? q : part == 1 ? k : v) +
           ((b * out_tokens + offset + token) * part_heads + head) * head_dim;
    const int64_t pairs = head_dim / 2;
    if (part == 2) {
        for (int64_t p = lane; p < pairs; p += 32) {
            store<T, 2>(y + 2 * p, load<T, 2>(x + 2 * p));
        }
        return;
    }

    float squares = 0.0f;
    for (int64_t p = lane; p < pairs; p += 32) {
        const auto pair = load<T, 2>(x + 2 * p);
        squares += wide(pair.at[0]) * wide(pair.at[0]) + wide(pair.at[1]) * wide(pair.at[1]);
    }
    const float inverse = rsqrtf(warp_sum(squares) / head_dim + eps);
    const T *weight = part == 0 ? query_weight : key_weight;
    for (int64_t p = lane; p < pairs; p += 32) {
        const int64_t i0 = HALVES ? p : 2 * p;
        const int64_t i1 = HALVES ? p + pairs : 2 * p + 1;
        Pack<T, 2> pair, w;
        if constexpr (HALVES) {
            pair = {x[i0], x[i1]};
            w = {weight[i0], weight[i1]};
        } else {
            pair = load<T, 2>(x + i0);
            w = load<T, 2>(weight + i0);
        }
        const float x0 = wide(pair.at[0]) * inverse * wide(w.at[0]);
        const float x1 = wide(pair.at[1]) * inverse * wide(w.at[1]);
        const float c = cos[token * pairs + p];
        const float s = sin[token * pairs + p];
        Pack<T, 2> out;
        out.at[0] = narrow<T>(x0 * c - x1 * s);
        out.at[1] = narrow<T>(x0 * s + x1 * c);
        if constexpr (HALVES) {
            y[i0] = out.at[0];
            y[i1] = out.at[1];
        } else {
            store<T, 2>(y + i0, out);
        }
    }
}

#define PARAMS                                                                                    \
    (const T *qkv, const T *query_weight, const T *key_weight, const float *cos,                  \
     const float *sin, T *q, T *k, T *v, int64_t batch, int64_t tokens, int64_t heads,            \
     int64_t kv_heads, int64_t head_dim, int64_t batch_stride, int64_t row_stride,                \
     int64_t out_tokens, int64_t offset, float eps)
#define ARGS                                                                                      \
    (qkv, query_weight, key_weight, cos, sin, q, k, v, batch, tokens, heads, kv_heads, head_dim,  \
     batch_stride, row_stride, out_tokens, offset, eps)
VARIANT(qk_norm_rope_neighbours, _bf16_v1, bf16, false, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_neighbours, _f32_v1, float, false, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_halves, _bf16_v1, bf16, true, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_halves, _f32_v1, float, true, ::qk_norm_rope, PARAMS, ARGS)
