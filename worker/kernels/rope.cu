// RMSNorm of each head of q and k, then rotation of its pairs: neighbouring elements (FLUX.1), or
// elements of the first and the second half (Qwen3).
#include "common.cuh"

// One block per token, one warp per head at a time. Reads row (batch, token) of the packed
// projection [q | k | v], with `heads` heads for q and `kv_heads` each for k and v, at
// batch * batch_stride + token * row_stride. Writes token `offset + token` of buffers
// [batch, out_tokens, heads, head_dim]. v is copied unless its buffer is null. head_dim is even.
template <typename T, bool HALVES>
__device__ void qk_norm_rope(const T *qkv, const T *query_weight, const T *key_weight,
                             const float *cos, const float *sin, T *q, T *k, T *v, int heads,
                             int kv_heads, int head_dim, int64_t batch_stride, int64_t row_stride,
                             int64_t out_tokens, int64_t offset, float eps) {
    constexpr int KEPT = 4; // pairs per lane: head_dim up to 256
    const int lane = threadIdx.x % 32;
    const int64_t token = blockIdx.x;
    const int64_t out_token = blockIdx.y * out_tokens + offset + token;
    const int pairs = head_dim / 2;
    qkv += blockIdx.y * batch_stride + token * row_stride;
    cos += token * pairs;
    sin += token * pairs;
    const int read_heads = heads + (v == nullptr ? 1 : 2) * kv_heads;

    for (int head = threadIdx.x / 32; head < read_heads; head += blockDim.x / 32) {
        const T *x = qkv + int64_t(head) * head_dim;
        if (head >= heads + kv_heads) {
            T *y = v + (out_token * kv_heads + head - heads - kv_heads) * head_dim;
            for (int p = lane; p < pairs; p += 32) {
                store<T, 2>(y + 2 * p, load<T, 2>(x + 2 * p));
            }
            continue;
        }
        const bool query = head < heads;
        const T *weight = query ? query_weight : key_weight;
        T *y = query ? q + (out_token * heads + head) * head_dim
                     : k + (out_token * kv_heads + head - heads) * head_dim;

        const auto pair_of = [&](const T *from, int p) -> Pack<T, 2> {
            if constexpr (HALVES) {
                return {from[p], from[p + pairs]};
            } else {
                return load<T, 2>(from + 2 * p);
            }
        };
        Pack<T, 2> kept[KEPT];
        float squares = 0.0f;
        const auto add = [&](const Pack<T, 2> &pair) {
            squares += wide(pair.at[0]) * wide(pair.at[0]) + wide(pair.at[1]) * wide(pair.at[1]);
        };
#pragma unroll
        for (int j = 0; j < KEPT; ++j) {
            if (lane + 32 * j < pairs) {
                kept[j] = pair_of(x, lane + 32 * j);
                add(kept[j]);
            }
        }
        for (int p = lane + 32 * KEPT; p < pairs; p += 32) {
            add(pair_of(x, p));
        }
        const float inverse = rsqrtf(warp_sum(squares) / head_dim + eps);

        const auto rotate = [&](const Pack<T, 2> &pair, int p) {
            const auto w = pair_of(weight, p);
            const float x0 = wide(pair.at[0]) * inverse * wide(w.at[0]);
            const float x1 = wide(pair.at[1]) * inverse * wide(w.at[1]);
            const float c = cos[p];
            const float s = sin[p];
            const Pack<T, 2> out = {narrow<T>(x0 * c - x1 * s), narrow<T>(x0 * s + x1 * c)};
            if constexpr (HALVES) {
                y[p] = out.at[0];
                y[p + pairs] = out.at[1];
            } else {
                store<T, 2>(y + 2 * p, out);
            }
        };
#pragma unroll
        for (int j = 0; j < KEPT; ++j) {
            if (lane + 32 * j < pairs) {
                rotate(kept[j], lane + 32 * j);
            }
        }
        for (int p = lane + 32 * KEPT; p < pairs; p += 32) {
            rotate(pair_of(x, p), p);
        }
    }
}

// The same for neighbouring pairs, with N elements per lane and several heads per warp: head_dim /
// N is a power of two.
template <typename T, int N>
__device__ void qk_norm_rope_packed(const T *qkv, const T *query_weight, const T *key_weight,
                                    const float *cos, const float *sin, T *q, T *k, T *v,
                                    int heads, int kv_heads, int head_dim, int64_t batch_stride,
                                    int64_t row_stride, int64_t out_tokens, int64_t offset,
                                    float eps) {
    const int lanes = head_dim / N;
    const int slot = threadIdx.x / lanes;
    const int slots = blockDim.x / lanes;
    const int place = threadIdx.x % lanes * N;
    const int64_t token = blockIdx.x;
    const int64_t out_token = blockIdx.y * out_tokens + offset + token;
    qkv += blockIdx.y * batch_stride + token * row_stride;
    const auto c = load<float, N / 2>(cos + (token * head_dim + place) / 2);
    const auto s = load<float, N / 2>(sin + (token * head_dim + place) / 2);
    const auto query_w = load<T, N>(query_weight + place);
    const auto key_w = load<T, N>(key_weight + place);
    const int read_heads = heads + (v == nullptr ? 1 : 2) * kv_heads;

    // All lanes of a warp take part in the sums, including those past the last head.
    for (int first = 0; first < read_heads; first += slots) {
        const int head = first + slot;
        const bool within = head < read_heads;
        Pack<T, N> x = {};
        if (within) {
            x = load<T, N>(qkv + int64_t(head) * head_dim + place);
        }
        float squares = 0.0f;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            squares += wide(x.at[j]) * wide(x.at[j]);
        }
        for (int step = lanes / 2; step > 0; step /= 2) {
            squares += __shfl_xor_sync(0xffffffffu, squares, step);
        }
        if (!within) {
            continue;
        }
        if (head >= heads + kv_heads) {
            const int64_t row = out_token * kv_heads + head - heads - kv_heads;
            store<T, N>(v + row * head_dim + place, x);
            continue;
        }
        const bool query = head < heads;
        T *y = query ? q + (out_token * heads + head) * head_dim
                     : k + (out_token * kv_heads + head - heads) * head_dim;
        const auto &w = query ? query_w : key_w;
        const float inverse = rsqrtf(squares / head_dim + eps);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N / 2; ++j) {
            const float x0 = wide(x.at[2 * j]) * inverse * wide(w.at[2 * j]);
            const float x1 = wide(x.at[2 * j + 1]) * inverse * wide(w.at[2 * j + 1]);
            out.at[2 * j] = narrow<T>(x0 * c.at[j] - x1 * s.at[j]);
            out.at[2 * j + 1] = narrow<T>(x0 * s.at[j] + x1 * c.at[j]);
        }
        store<T, N>(y + place, out);
    }
}

#define PARAMS                                                                                    \
    (const T *qkv, const T *query_weight, const T *key_weight, const float *cos,                  \
     const float *sin, T *q, T *k, T *v, int64_t heads, int64_t kv_heads, int64_t head_dim,       \
     int64_t batch_stride, int64_t row_stride, int64_t out_tokens, int64_t offset, float eps)
#define ARGS                                                                                      \
    (qkv, query_weight, key_weight, cos, sin, q, k, v, int(heads), int(kv_heads), int(head_dim),  \
     batch_stride, row_stride, out_tokens, offset, eps)
VARIANT(qk_norm_rope_neighbours, _bf16_v1, bf16, false, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_neighbours, _f32_v1, float, false, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_halves, _bf16_v1, bf16, true, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_halves, _f32_v1, float, true, ::qk_norm_rope, PARAMS, ARGS)
VARIANT(qk_norm_rope_neighbours, _bf16_v8, bf16, 8, ::qk_norm_rope_packed, PARAMS, ARGS)
