// Quantization to rows of 8-bit floats with a float32 scale each: x = scale * q. One block per row.
#include "fp8.cuh"

// Packs of a row that a thread keeps in registers between the search for the largest magnitude and
// the write. It computes any further packs twice.
constexpr int HELD = 4;

// Quantizes a row of `width` numbers; make(i, v) computes the pack that begins at i.
template <int N, typename Make>
__device__ void write_row(Make make, fp8 *q, float *scale, int64_t width) {
    const int64_t first = int64_t(threadIdx.x) * N;
    const int64_t step = int64_t(blockDim.x) * N;
    float held[HELD][N];
    float most = 0.0f;
#pragma unroll
    for (int p = 0; p < HELD; ++p) {
        const int64_t i = first + p * step;
        if (i < width) {
            make(i, held[p]);
            most = largest(held[p], most);
        }
    }
    for (int64_t i = first + HELD * step; i < width; i += step) {
        float v[N];
        make(i, v);
        most = largest(v, most);
    }
    most = fmaxf(block_max(most), LEAST);
    if (threadIdx.x == 0) {
        *scale = most / LARGEST;
    }
    const float factor = LARGEST / most;
#pragma unroll
    for (int p = 0; p < HELD; ++p) {
        const int64_t i = first + p * step;
        if (i < width) {
            store<fp8, N>(q + i, to_fp8(held[p], factor));
        }
    }
    for (int64_t i = first + HELD * step; i < width; i += step) {
        float v[N];
        make(i, v);
        store<fp8, N>(q + i, to_fp8(v, factor));
    }
}

// Quantizes the rows of x, which are `stride` elements apart.
template <typename T, int N>
__device__ void quantize_rows(const T *x, fp8 *q, float *scales, int64_t width, int64_t stride) {
    const int64_t row = blockIdx.x;
    x += row * stride;
    const auto make = [&](int64_t i, float (&v)[N]) { widen<T, N>(x + i, v); };
    write_row<N>(make, q + row * width, scales + row, width);
}

// Quantizes the rows of modulated_layer_norm (norm.cu) without rounding in between.
template <typename T, int N>
__device__ void modulated_layer_norm(const T *x, const T *shift, const T *scale, fp8 *q,
                                     float *scales, int64_t width, int64_t tokens,
                                     int64_t x_stride, int64_t shift_stride, int64_t scale_stride,
                                     float eps) {
    const int64_t row = blockIdx.x;
    const int64_t batch = row / tokens;
    x += row * x_stride;
    shift += batch * shift_stride;
    scale += batch * scale_stride;
    const Row<T, N, HELD_BY_BLOCK> in_row(x, width, threadIdx.x, blockDim.x);
    const Moments moments = row_moments(in_row, eps, block_sum);
    const auto make = [&](int64_t i, float (&v)[N]) {
        const auto in = load<T, N>(x + i);
        const auto a = load<T, N>(scale + i);
        const auto b = load<T, N>(shift + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float normed = (wide(in.at[j]) - moments.mean) * moments.inverse;
            v[j] = normed * (1.0f + wide(a.at[j])) + wide(b.at[j]);
        }
    };
    write_row<N>(make, q + row * width, scales + row, width);
}

// y[row, i] = y[row, i] * row_scales[row] * column_scales[i] + bias[i], in place. bias may be null.
template <typename T, int N>
__device__ void rescale(T *y, const float *row_scales, const float *column_scales, const T *bias,
                        int64_t rows, int64_t width) {
    const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i >= width) {
        return;
    }
    float column[N], offset[N] = {};
#pragma unroll
    for (int j = 0; j < N; ++j) {
        column[j] = column_scales[i + j];
    }
    if (bias != nullptr) {
        widen<T, N>(bias + i, offset);
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const float scale = row_scales[row];
        auto v = load<T, N>(y + row * width + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            v.at[j] = narrow<T>(wide(v.at[j]) * scale * column[j] + offset[j]);
        }
        store<T, N>(y + row * width + i, v);
    }
}

VARIANTS(quantize_rows, ::quantize_rows,
         (const T *x, fp8 *q, float *scales, int64_t width, int64_t stride),
         (x, q, scales, width, stride))
VARIANTS(modulated_layer_norm_fp8, ::modulated_layer_norm,
         (const T *x, const T *shift, const T *scale, fp8 *q, float *scales, int64_t width,
          int64_t tokens, int64_t x_stride, int64_t shift_stride, int64_t scale_stride, float eps),
         (x, shift, scale, q, scales, width, tokens, x_stride, shift_stride, scale_stride, eps))
VARIANTS(rescale, ::rescale,
         (T * y, const float *row_scales, const float *column_scales, const T *bias, int64_t rows,
          int64_t width),
         (y, row_scales, column_scales, bias, rows, width))
