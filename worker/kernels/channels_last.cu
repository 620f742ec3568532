// Images in channels-last layout, [B, pixels, C], which tensor cores need: group normalisation in
// three kernels (moments of each chunk, moments of each group, the result), and upsampling.
//
// In the group norm, each thread handles N neighbouring channels, and the threads of a block share
// the pixels of a chunk. C / N must not exceed the number of threads.
#include "common.cuh"

// Threads per block.
constexpr int THREADS = 256;

// A thread's pack of channels, and its index among the pixels handled at once.
struct Place {
    int packs; // packs per pixel
    int lanes; // pixels handled at once
    int pack;
    int lane;
};

template <int N>
__device__ __forceinline__ Place place_of(int64_t channels) {
    const int packs = int(channels / N);
    return {packs, THREADS / packs, int(threadIdx.x) % packs, int(threadIdx.x) / packs};
}

// Block (chunk, image). `stats` is [B, groups, chunks, 2]: mean and sum of squared deviations. The
// sums are of differences to the chunk's first pixel, which avoids cancellation.
template <typename T, int N>
__device__ void group_norm_stats(const T *x, float *stats, int64_t pixels, int64_t channels,
                                 int64_t groups, int64_t chunk) {
    __shared__ float sums[THREADS * N];
    __shared__ float squares[THREADS * N];
    const Place at = place_of<N>(channels);
    const int64_t first = blockIdx.x * chunk;
    const int64_t last = min(pixels, first + chunk);
    x += (blockIdx.y * pixels + first) * channels;
    float sum[N] = {}, square[N] = {};
    if (at.lane < at.lanes) {
        const auto origin = load<T, N>(x + at.pack * N);
        for (int64_t p = at.lane; p < last - first; p += at.lanes) {
            const auto v = load<T, N>(x + p * channels + at.pack * N);
#pragma unroll
            for (int j = 0; j < N; ++j) {
                const float d = wide(v.at[j]) - wide(origin.at[j]);
                sum[j] += d;
                square[j] += d * d;
            }
        }
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
        sums[threadIdx.x * N + j] = sum[j];
        squares[threadIdx.x * N + j] = square[j];
    }
    __syncthreads();

    const int64_t width = channels / groups;
    const float count = float(last - first);
    for (int64_t group = threadIdx.x; group < groups; group += THREADS) {
        // All channels have the same number of pixels, so a group's mean is the mean of its
        // channels' means (Chan et al. 1979).
        float mean = 0.0f, within = 0.0f, between = 0.0f;
        for (int64_t k = 0; k < width; ++k) {
            const int64_t channel = group * width + k;
            float s = 0.0f, q = 0.0f;
            for (int lane = 0; lane < at.lanes; ++lane) {
                s += sums[lane * channels + channel];
                q += squares[lane * channels + channel];
            }
            within += q - s * s / count;
            const float d = wide(x[channel]) + s / count - mean;
            mean += d / float(k + 1);
            between += d * d * float(k) / float(k + 1);
        }
        float *out = stats + 2 * ((blockIdx.y * groups + group) * int64_t(gridDim.x) + blockIdx.x);
        out[0] = mean;
        out[1] = within + count * between;
    }
}

// Block (image * groups + group). `moments` is [B, groups, 2]: mean and reciprocal standard
// deviation. `width` is the number of channels per group.
template <typename T, int N>
__device__ void group_norm_moments(const float *stats, float *moments, int64_t pixels,
                                   int64_t width, int64_t chunk, int64_t chunks, float eps) {
    stats += 2 * blockIdx.x * chunks;
    const float size = float(pixels) * width;
    float sum = 0.0f;
    for (int64_t c = threadIdx.x; c < chunks; c += blockDim.x) {
        sum += stats[2 * c] * (min(chunk, pixels - c * chunk) * width);
    }
    const float mean = block_sum(sum) / size;
    float squares = 0.0f;
    for (int64_t c = threadIdx.x; c < chunks; c += blockDim.x) {
        const float d = stats[2 * c] - mean;
        squares += stats[2 * c + 1] + d * d * (min(chunk, pixels - c * chunk) * width);
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        moments[2 * blockIdx.x] = mean;
        moments[2 * blockIdx.x + 1] = rsqrtf(squares / size + eps);
    }
}

// Block (chunk, image). Normalises with `moments`, then applies the affine and optionally SiLU.
template <typename T, int N>
__device__ void group_norm_apply(const T *x, const float *moments, const T *weight, const T *bias,
                                 T *y, int64_t pixels, int64_t channels, int64_t groups,
                                 int64_t chunk, int64_t with_silu) {
    const Place at = place_of<N>(channels);
    if (at.lane >= at.lanes) {
        return;
    }
    const int64_t width = channels / groups;
    float scale[N], shift[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const int64_t channel = at.pack * N + j;
        const float *of = moments + 2 * (blockIdx.y * groups + channel / width);
        scale[j] = wide(weight[channel]) * of[1];
        shift[j] = wide(bias[channel]) - of[0] * scale[j];
    }
    const int64_t first = blockIdx.x * chunk;
    const int64_t last = min(pixels, first + chunk);
    for (int64_t p = first + at.lane; p < last; p += at.lanes) {
        const int64_t i = (blockIdx.y * pixels + p) * channels + at.pack * N;
        const auto v = load<T, N>(x + i);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float normed = wide(v.at[j]) * scale[j] + shift[j];
            out.at[j] = narrow<T>(with_silu ? silu(normed) : normed);
        }
        store<T, N>(y + i, out);
    }
}

// Nearest-neighbour upsampling from [B, H, W, C] to [B, 2 H, 2 W, C]. One thread per pack of the
// output; there are `count` packs.
template <typename T, int N>
__device__ void upsample(const T *x, T *y, int64_t count, int64_t height, int64_t width,
                         int64_t channels) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    const int64_t packs = channels / N;
    const int64_t pixel = i / packs;
    const int64_t column = pixel % (2 * width);
    const int64_t row = pixel / (2 * width) % (2 * height);
    const int64_t image = pixel / (4 * width * height);
    const int64_t from = ((image * height + row / 2) * width + column / 2) * packs + i % packs;
    store<T, N>(y + i * N, load<T, N>(x + from * N));
}

VARIANTS(group_norm_stats_last, ::group_norm_stats,
         (const T *x, float *stats, int64_t pixels, int64_t channels, int64_t groups,
          int64_t chunk),
         (x, stats, pixels, channels, groups, chunk))
VARIANTS(group_norm_moments_last, ::group_norm_moments,
         (const float *stats, float *moments, int64_t pixels, int64_t width, int64_t chunk,
          int64_t chunks, float eps),
         (stats, moments, pixels, width, chunk, chunks, eps))
VARIANTS(group_norm_apply_last, ::group_norm_apply,
         (const T *x, const float *moments, const T *weight, const T *bias, T *y, int64_t pixels,
          int64_t channels, int64_t groups, int64_t chunk, int64_t with_silu),
         (x, moments, weight, bias, y, pixels, channels, groups, chunk, with_silu))
VARIANTS(upsample_last, ::upsample,
         (const T *x, T *y, int64_t count, int64_t height, int64_t width, int64_t channels),
         (x, y, count, height, width, channels))
