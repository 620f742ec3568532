// RMSNorm of each head of q and k, then rotation of neighbouring pairs.
#include "common.cuh"

// One warp a head; v is copied. Reads row
// (batch, token) of the packed projection [q | k | v] at
// batch * batch_stride + token * row_stride; writes token `offset + token` of
// [batch, out_tokens, heads, head_dim] buffers. Heads have an even width.
template <typename T, int N>
__device__ void qk_norm_rope(const T *qkv, const T *query_weight, const T *key_weight,
                             const float *cos, const float *sin, T *q, T *k, T *v, int64_t batch,
                             int64_t tokens, int64_t heads, int64_t head_dim,
                             int64_t batch_stride, int64_t row_stride, int64_t out_tokens,
                             int64_t offset, float eps) {
    const int64_t warp = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    const int lane = threadIdx.x % 32;
    if (warp >= batch * tokens * 3 * heads) {
        return;
    }
    const int64_t head = warp % heads;
    const int64_t part = warp / heads % 3;
    const int64_t token = warp / (heads * 3) % tokens;
    const int64_t b = warp / (heads * 3 * tokens);

    const T *x = qkv + b * batch_stride + token * row_stride + (part * heads + head) * head_dim;
    T *y = (part == 0 ? q : part == 1 ? k : v) +
           ((b * out_tokens + offset + token) * heads + head) * head_dim;
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
        const auto pair = load<T, 2>(x + 2 * p);
        const auto w = load<T, 2>(weight + 2 * p);
        const float x0 = wide(pair.at[0]) * inverse * wide(w.at[0]);
        const float x1 = wide(pair.at[1]) * inverse * wide(w.at[1]);
        const float c = cos[token * pairs + p];
        const float s = sin[token * pairs + p];
        Pack<T, 2> out;
        out.at[0] = narrow<T>(x0 * c - x1 * s);
        out.at[1] = narrow<T>(x0 * s + x1 * c);
        store<T, 2>(y + 2 * p, out);
    }
}

#define PARAMS                                                                                    \
    (const T *qkv, const T *query_weight, const T *key_weight, const float *cos,                  \
     const float *sin, T *q, T *k, T *v, int64_t batch, int64_t tokens, int64_t heads,            \
     int64_t head_dim, int64_t batch_stride, int64_t row_stride, int64_t out_tokens,              \
     int64_t offset, float eps)
#define ARGS                                                                                      \
    (qkv, query_weight, key_weight, cos, sin, q, k, v, batch, tokens, heads, head_dim,            \
     batch_stride, row_stride, out_tokens, offset, eps)
VARIANT(qk_norm_rope, _bf16_v1, bf16, 1, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope, _f32_v1, float, 1, ::qk_norm_rope, PARAMS, ARGS)
