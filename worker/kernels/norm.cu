// Normalisations over the last dimension, with float32 statistics.
#include "common.cuh"

// LayerNorm(x) * (1 + scale) + shift. Rows are [batch, tokens]; shift and scale have one row per
// batch entry, `modulation_stride` elements apart. One warp per row, so that no warp waits for
// another.
template <typename T, int N>
__device__ void modulated_layer_norm(const T *x, const T *shift, const T *scale, T *y,
                                     int64_t rows, int64_t width, int64_t tokens,
                                     int64_t x_stride, int64_t shift_stride,
                                     int64_t scale_stride, float eps) {
    const int64_t number = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
    if (number >= rows) {
        return;
    }
    const int64_t batch = number / tokens;
    y += number * width;
    shift += batch * shift_stride;
    scale += batch * scale_stride;

    const Row<T, N, HELD_BY_WARP> row(x + number * x_stride, width, threadIdx.x % 32, 32);
    const Moments moments = row_moments(row, eps, warp_sum);
    row.each([&](int64_t i, const Pack<T, N> &v) {
        const auto a = load<T, N>(scale + i);
        const auto b = load<T, N>(shift + i);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float normed = (wide(v.at[j]) - moments.mean) * moments.inverse;
            out.at[j] = narrow<T>(normed * (1.0f + wide(a.at[j])) + wide(b.at[j]));
        }
        store<T, N>(y + i, out);
    });
}

// x / rms(x) * weight. One block per row.
template <typename T, int N>
__device__ void rms_norm(const T *x, const T *weight, T *y, int64_t width, float eps) {
    y += blockIdx.x * width;
    const Row<T, N, HELD_BY_BLOCK> row(x + blockIdx.x * width, width, threadIdx.x, blockDim.x);
    float squares = 0.0f;
    row.each([&](int64_t, const Pack<T, N> &v) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            squares += wide(v.at[j]) * wide(v.at[j]);
        }
    });
    const float inverse = rsqrtf(block_sum(squares) / width + eps);
    row.each([&](int64_t i, const Pack<T, N> &v) {
        const auto w = load<T, N>(weight + i);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            out.at[j] = narrow<T>(wide(v.at[j]) * inverse * wide(w.at[j]));
        }
        store<T, N>(y + i, out);
    });
}

VARIANTS(modulated_layer_norm, ::modulated_layer_norm,
         (const T *x, const T *shift, const T *scale, T *y, int64_t rows, int64_t width,
          int64_t tokens, int64_t x_stride, int64_t shift_stride, int64_t scale_stride, float eps),
         (x, shift, scale, y, rows, width, tokens, x_stride, shift_stride, scale_stride, eps))
VARIANTS(rms_norm, ::rms_norm, (const T *x, const T *weight, T *y, int64_t width, float eps),
         (x, weight, y, width, eps))
