// Elementwise operations of a transformer block. One thread per pack of N elements; the grid is
// (columns, rows), so that rows may have any stride.
#include "common.cuh"

__device__ __forceinline__ int64_t column() {
    return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

// out[row, i] = up * silu(gate), where a row of up_gate is [up | gate].
template <typename T, int N>
__device__ void swiglu(const T *up_gate, T *out, int64_t rows, int64_t inner, int64_t in_stride,
                       int64_t out_stride) {
    const int64_t i = column() * N;
    if (i >= inner) {
        return;
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const auto up = load<T, N>(up_gate + row * in_stride + i);
        const auto gate = load<T, N>(up_gate + row * in_stride + inner + i);
        Pack<T, N> y;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            y.at[j] = narrow<T>(wide(up.at[j]) * silu(wide(gate.at[j])));
        }
        store<T, N>(out + row * out_stride + i, y);
    }
}

// out[row, i] = x + gate[batch, i] * y; x, y and out are contiguous.
template <typename T, int N>
__device__ void gated_residual(const T *x, const T *gate, const T *y, T *out, int64_t rows,
                               int64_t width, int64_t tokens, int64_t gate_stride) {
    const int64_t i = column() * N;
    if (i >= width) {
        return;
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const auto a = load<T, N>(x + row * width + i);
        const auto g = load<T, N>(gate + row / tokens * gate_stride + i);
        const auto b = load<T, N>(y + row * width + i);
        Pack<T, N> sum;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            sum.at[j] = narrow<T>(wide(a.at[j]) + wide(g.at[j]) * wide(b.at[j]));
        }
        store<T, N>(out + row * width + i, sum);
    }
}

// y[row, i] += bias[i], in place.
template <typename T, int N>
__device__ void add_bias(T *y, const T *bias, int64_t rows, int64_t width) {
    const int64_t i = column() * N;
    if (i >= width) {
        return;
    }
    const auto b = load<T, N>(bias + i);
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        auto v = load<T, N>(y + row * width + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            v.at[j] = narrow<T>(wide(v.at[j]) + wide(b.at[j]));
        }
        store<T, N>(y + row * width + i, v);
    }
}

// y[plane, i] += bias[plane % channels], in place: a convolution's bias.
template <typename T, int N>
__device__ void add_channel_bias(T *y, const T *bias, int64_t planes, int64_t pixels,
                                 int64_t channels) {
    const int64_t i = column() * N;
    if (i >= pixels) {
        return;
    }
    for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
        const float b = wide(bias[plane % channels]);
        auto v = load<T, N>(y + plane * pixels + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            v.at[j] = narrow<T>(wide(v.at[j]) + b);
        }
        store<T, N>(y + plane * pixels + i, v);
    }
}

VARIANTS(swiglu, ::swiglu,
         (const T *up_gate, T *out, int64_t rows, int64_t inner, int64_t in_stride,
          int64_t out_stride),
         (up_gate, out, rows, inner, in_stride, out_stride))
VARIANTS(gated_residual, ::gated_residual,
         (const T *x, const T *gate, const T *y, T *out, int64_t rows, int64_t width,
          int64_t tokens, int64_t gate_stride),
         (x, gate, y, out, rows, width, tokens, gate_stride))
VARIANTS(add_bias, ::add_bias, (T * y, const T *bias, int64_t rows, int64_t width),
         (y, bias, rows, width))
VARIANTS(add_channel_bias, ::add_channel_bias,
         (T * y, const T *bias, int64_t planes, int64_t pixels, int64_t channels),
         (y, bias, planes, pixels, channels))
