// Shared by all kernel families: element types, packed loads, reductions.
#pragma once

#include <cuda_bf16.h>
#include <cstdint>

using bf16 = __nv_bfloat16;

// N neighbouring elements moved by one memory instruction. The caller ensures the alignment.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <typename T, int N>
__device__ __forceinline__ Pack<T, N> load(const T *p) {
    return *reinterpret_cast<const Pack<T, N> *>(p);
}

template <typename T, int N>
__device__ __forceinline__ void store(T *p, const Pack<T, N> &v) {
    *reinterpret_cast<Pack<T, N> *>(p) = v;
}

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

// Sum over the 32 lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, step);
    }
    return x;
}

// Sum over a block of whole warps, in every thread.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float partial[32];
    x = warp_sum(x);
    __syncthreads(); // all threads have read the previous call's result
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = x;
    }
    __syncthreads();
    const int warps = blockDim.x / 32;
    return warp_sum(threadIdx.x % 32 < warps ? partial[threadIdx.x % 32] : 0.0f);
}

// Maximum over a block of whole warps, in every thread.
__device__ __forceinline__ float block_max(float x) {
    __shared__ float partial[32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    __syncthreads(); // all threads have read the previous call's result
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = x;
    }
    __syncthreads();
    const int warps = blockDim.x / 32;
    x = threadIdx.x % 32 < warps ? partial[threadIdx.x % 32] : -INFINITY;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    }
    return x;
}

// Packs of a row that a thread keeps in registers, if a block or a warp reads the row.
constexpr int HELD_BY_BLOCK = 4;
constexpr int HELD_BY_WARP = 12;

// A row of `width` elements that `readers` threads, this one among them, read cooperatively. Each
// keeps its first packs in registers and reads any further ones from memory every time.
template <typename T, int N, int HELD>
struct Row {
    const T *x;
    int64_t width;
    int reader;
    int readers;
    Pack<T, N> held[HELD];

    __device__ __forceinline__ Row(const T *x, int64_t width, int reader, int readers)
        : x(x), width(width), reader(reader), readers(readers) {
#pragma unroll
        for (int p = 0; p < HELD; ++p) {
            const int64_t i = (int64_t(p) * readers + reader) * N;
            if (i < width) {
                held[p] = load<T, N>(x + i);
            }
        }
    }

    // Calls body(i, pack) for each of this thread's packs, where i is its first element.
    template <typename Body>
    __device__ __forceinline__ void each(Body body) const {
#pragma unroll
        for (int p = 0; p < HELD; ++p) {
            const int64_t i = (int64_t(p) * readers + reader) * N;
            if (i < width) {
                body(i, held[p]);
            }
        }
        for (int64_t i = (int64_t(HELD) * readers + reader) * N; i < width; i += readers * N) {
            body(i, load<T, N>(x + i));
        }
    }
};

// Mean and reciprocal standard deviation of a row.
struct Moments {
    float mean;
    float inverse;
};

// `sum_up` returns the sum over all readers of the row to each of them.
template <typename T, int N, int HELD, typename SumUp>
__device__ __forceinline__ Moments row_moments(const Row<T, N, HELD> &row, float eps,
                                               SumUp sum_up) {
    float sum = 0.0f;
    row.each([&](int64_t, const Pack<T, N> &v) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            sum += wide(v.at[j]);
        }
    });
    const float mean = sum_up(sum) / row.width;

    // A second pass, because E[x^2] - E[x]^2 suffers from cancellation.
    float squares = 0.0f;
    row.each([&](int64_t, const Pack<T, N> &v) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float d = wide(v.at[j]) - mean;
            squares += d * d;
        }
    });
    return {mean, rsqrtf(sum_up(squares) / row.width + eps)};
}

// Instantiates KERNEL under C names for both element types, with packed
// (16-byte) and single accesses: NAME_bf16_v8, NAME_bf16_v1, NAME_f32_v4 and
// NAME_f32_v1. PARAMS and ARGS are parenthesised lists; T is the element type.
#define VARIANT(NAME, SUFFIX, TYPE, N, KERNEL, PARAMS, ARGS)                                      \
    namespace variant_##NAME##SUFFIX {                                                            \
        using T = TYPE;                                                                           \
        extern "C" __global__ void NAME##SUFFIX PARAMS { KERNEL<TYPE, N> ARGS; }                  \
    }
#define VARIANTS(NAME, KERNEL, PARAMS, ARGS)                                                      \
    VARIANT(NAME, _bf16_v8, bf16, 8, KERNEL, PARAMS, ARGS)                                        \
    VARIANT(NAME, _bf16_v1, bf16, 1, KERNEL, PARAMS, ARGS)                                        \
    VARIANT(NAME, _f32_v4, float, 4, KERNEL, PARAMS, ARGS)                                        \
    VARIANT(NAME, _f32_v1, float, 1, KERNEL, PARAMS, ARGS)
