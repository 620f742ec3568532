// Group normalisation of [B, C, H, W], optionally followed by SiLU. Groups are few and can have
// millions of pixels, so each is divided into chunks: one kernel computes the mean and the sum of
// squared deviations of each chunk, the next combines a group's chunks (Chan et al. 1979) and
// normalises.
#include "common.cuh"

// Block (chunk, group). `stats` is [groups, chunks, 2].
template <typename T, int N>
__device__ void group_norm_stats(const T *x, float *stats, int64_t size, int64_t chunk) {
    const int64_t start = blockIdx.x * chunk;
    const int64_t length = min(chunk, size - start);
    x += blockIdx.y * size + start;
    float sum = 0.0f;
    for (int64_t i = threadIdx.x * N; i < length; i += blockDim.x * N) {
        const auto v = load<T, N>(x + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            sum += wide(v.at[j]);
        }
    }
    const float mean = block_sum(sum) / length;
    float squares = 0.0f;
    for (int64_t i = threadIdx.x * N; i < length; i += blockDim.x * N) {
        const auto v = load<T, N>(x + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float d = wide(v.at[j]) - mean;
            squares += d * d;
        }
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        float *out = stats + 2 * (blockIdx.y * int64_t(gridDim.x) + blockIdx.x);
        out[0] = mean;
        out[1] = squares;
    }
}

// Block (chunk, group). `size` is the number of elements per group, `pixels` per plane.
template <typename T, int N>
__device__ void group_norm_apply(const T *x, const float *stats, const T *weight, const T *bias,
                                 T *y, int64_t size, int64_t chunk, int64_t pixels,
                                 int64_t groups, int64_t with_silu, float eps) {
    const int64_t chunks = gridDim.x;
    stats += 2 * blockIdx.y * chunks;
    float sum = 0.0f;
    for (int64_t c = threadIdx.x; c < chunks; c += blockDim.x) {
        sum += stats[2 * c] * min(chunk, size - c * chunk);
    }
    const float mean = block_sum(sum) / size;
    float squares = 0.0f;
    for (int64_t c = threadIdx.x; c < chunks; c += blockDim.x) {
        const float d = stats[2 * c] - mean;
        squares += stats[2 * c + 1] + d * d * min(chunk, size - c * chunk);
    }
    const float inverse = rsqrtf(block_sum(squares) / size + eps);

    const int64_t start = blockIdx.x * chunk;
    const int64_t end = min(size, start + chunk);
    const int64_t first_channel = blockIdx.y % groups * (size / pixels);
    x += blockIdx.y * size;
    y += blockIdx.y * size;
    for (int64_t i = start + threadIdx.x * N; i < end; i += blockDim.x * N) {
        const int64_t channel = first_channel + i / pixels;
        const float scale = wide(weight[channel]) * inverse;
        const float shift = wide(bias[channel]) - mean * scale;
        const auto v = load<T, N>(x + i);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float normed = wide(v.at[j]) * scale + shift;
            out.at[j] = narrow<T>(with_silu ? silu(normed) : normed);
        }
        store<T, N>(y + i, out);
    }
}

VARIANTS(group_norm_stats, ::group_norm_stats,
         (const T *x, float *stats, int64_t size, int64_t chunk), (x, stats, size, chunk))
VARIANTS(group_norm_apply, ::group_norm_apply,
         (const T *x, const float *stats, const T *weight, const T *bias, T *y, int64_t size,
          int64_t chunk, int64_t pixels, int64_t groups, int64_t with_silu, float eps),
         (x, stats, weight, bias, y, size, chunk, pixels, groups, with_silu, eps))
