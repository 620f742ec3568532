// Sums, activations and type conversions of contiguous elements. One thread per pack of N.
#include "common.cuh"

__device__ __forceinline__ int64_t first() {
    return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}

// out = x + sign * y.
template <typename T, int N>
__device__ void add(const T *x, const T *y, T *out, int64_t count, float sign) {
    const int64_t i = first() * N;
    if (i >= count) {
        return;
    }
    const auto a = load<T, N>(x + i);
    const auto b = load<T, N>(y + i);
    Pack<T, N> sum;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        sum.at[j] = narrow<T>(wide(a.at[j]) + sign * wide(b.at[j]));
    }
    store<T, N>(out + i, sum);
}

template <typename T, int N>
__device__ void silu_of(const T *x, T *out, int64_t count) {
    const int64_t i = first() * N;
    if (i >= count) {
        return;
    }
    const auto a = load<T, N>(x + i);
    Pack<T, N> y;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        y.at[j] = narrow<T>(silu(wide(a.at[j])));
    }
    store<T, N>(out + i, y);
}

// T to float32.
template <typename T, int N>
__device__ void widen(const T *x, float *out, int64_t count) {
    const int64_t i = first() * N;
    if (i >= count) {
        return;
    }
    const auto a = load<T, N>(x + i);
    Pack<float, N> y;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        y.at[j] = wide(a.at[j]);
    }
    store<float, N>(out + i, y);
}

// float32 to T.
template <typename T, int N>
__device__ void narrow_to(const float *x, T *out, int64_t count) {
    const int64_t i = first() * N;
    if (i >= count) {
        return;
    }
    const auto a = load<float, N>(x + i);
    Pack<T, N> y;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        y.at[j] = narrow<T>(a.at[j]);
    }
    store<T, N>(out + i, y);
}

// out = fa * a + fb * b + fc * c + fd * d in float32; b, c and d may be null.
template <int N>
__device__ void scaled_sum(const float *a, const float *b, const float *c, const float *d,
                           float *out, int64_t count, float fa, float fb, float fc, float fd) {
    const int64_t i = first() * N;
    if (i >= count) {
        return;
    }
    const float *const terms[4] = {a, b, c, d};
    const float factors[4] = {fa, fb, fc, fd};
    Pack<float, N> sum = {};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
        if (terms[t] != nullptr) {
            const auto x = load<float, N>(terms[t] + i);
#pragma unroll
            for (int j = 0; j < N; ++j) {
                sum.at[j] += factors[t] * x.at[j];
            }
        }
    }
    store<float, N>(out + i, sum);
}

#define SUM(NAME, N)                                                                              \
    extern "C" __global__ void NAME(const float *a, const float *b, const float *c,               \
                                    const float *d, float *out, int64_t count, float fa,          \
                                    float fb, float fc, float fd) {                               \
        scaled_sum<N>(a, b, c, d, out, count, fa, fb, fc, fd);                                    \
    }
SUM(scaled_sum_f32_v4, 4)
SUM(scaled_sum_f32_v1, 1)

VARIANTS(add, ::add, (const T *x, const T *y, T *out, int64_t count, float sign),
         (x, y, out, count, sign))
VARIANTS(silu, ::silu_of, (const T *x, T *out, int64_t count), (x, out, count))
VARIANTS(widen, ::widen, (const T *x, float *out, int64_t count), (x, out, count))
VARIANTS(narrow, ::narrow_to, (const float *x, T *out, int64_t count), (x, out, count))
