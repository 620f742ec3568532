// Conversions between 8-bit floats (E4M3: 4 bits of exponent, 3 of mantissa, at most 448) and wider
// ones.
#pragma once

#include "common.cuh"

#include <cuda_fp8.h>

using fp8 = __nv_fp8_storage_t;

// The largest E4M3 number.
constexpr float LARGEST = 448.0f;

// Lower bound on the magnitude that a scale is computed from, so that zeros do not lead to a
// division by zero.
constexpr float LEAST = 1e-30f;

template <int N>
__device__ __forceinline__ float largest(const float (&v)[N], float most) {
#pragma unroll
    for (int j = 0; j < N; ++j) {
        most = fmaxf(most, fabsf(v[j]));
    }
    return most;
}

// v * factor, rounded to the nearest (even on a tie) and saturated.
template <int N>
__device__ __forceinline__ Pack<fp8, N> to_fp8(const float (&v)[N], float factor) {
    Pack<fp8, N> out;
    if constexpr (N % 2 == 0) {
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            const float2 pair = make_float2(v[j] * factor, v[j + 1] * factor);
            const auto both = __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, __NV_E4M3);
            out.at[j] = fp8(both & 0xff);
            out.at[j + 1] = fp8(both >> 8);
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            out.at[j] = __nv_cvt_float_to_fp8(v[j] * factor, __NV_SATFINITE, __NV_E4M3);
        }
    }
    return out;
}

// packed * factor.
template <int N>
__device__ __forceinline__ void from_fp8(const Pack<fp8, N> &packed, float factor, float (&v)[N]) {
    if constexpr (N % 2 == 0) {
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            const auto both = __nv_fp8x2_storage_t(packed.at[j] | packed.at[j + 1] << 8);
            const float2 pair = __half22float2(__nv_cvt_fp8x2_to_halfraw2(both, __NV_E4M3));
            v[j] = pair.x * factor;
            v[j + 1] = pair.y * factor;
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const __half one = __nv_cvt_fp8_to_halfraw(packed.at[j], __NV_E4M3);
            v[j] = __half2float(one) * factor;
        }
    }
}

template <typename T, int N>
__device__ __forceinline__ void widen(const T *x, float (&v)[N]) {
    const auto packed = load<T, N>(x);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        v[j] = wide(packed.at[j]);
    }
}
