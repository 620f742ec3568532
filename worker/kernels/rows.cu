// Operations on whole rows: softmax, embedding lookup, sums of magnitudes. One block per row.
#include "common.cuh"

// softmax(scale * x) over rows of `width`, in place.
template <typename T, int N>
__device__ void softmax(T *x, int64_t width, float scale) {
    x += int64_t(blockIdx.x) * width;
    float most = -INFINITY;
    for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        const auto v = load<T, N>(x + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            most = fmaxf(most, wide(v.at[j]));
        }
    }
    most = block_max(most);
    float sum = 0.0f;
    for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        const auto v = load<T, N>(x + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            sum += expf(scale * (wide(v.at[j]) - most));
        }
    }
    const float inverse = 1.0f / block_sum(sum);
    for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        auto v = load<T, N>(x + i);
#pragma unroll
        for (int j = 0; j < N; ++j) {
            v.at[j] = narrow<T>(expf(scale * (wide(v.at[j]) - most)) * inverse);
        }
        store<T, N>(x + i, v);
    }
}

// out[row] = table[ids[row]].
template <typename T, int N>
__device__ void gather(const T *table, const uint32_t *ids, T *out, int64_t width) {
    table += int64_t(ids[blockIdx.x]) * width;
    out += int64_t(blockIdx.x) * width;
    for (int64_t i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        store<T, N>(out + i, load<T, N>(table + i));
    }
}

// out[row] = factor * sum |x - y| over the row's `width` elements; the last row has what remains of
// `count`. y may be null.
template <typename T, int N>
__device__ void magnitudes(const T *x, const T *y, float *out, int64_t count, int64_t width,
                           float factor) {
    const int64_t start = int64_t(blockIdx.x) * width;
    const int64_t end = min(count, start + width);
    float sum = 0.0f;
    for (int64_t i = start + threadIdx.x * N; i < end; i += blockDim.x * N) {
        const auto a = load<T, N>(x + i);
        Pack<T, N> b = {};
        if (y != nullptr) {
            b = load<T, N>(y + i);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            sum += fabsf(wide(a.at[j]) - wide(b.at[j]));
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        out[blockIdx.x] = factor * sum;
    }
}

VARIANTS(softmax, ::softmax, (T * x, int64_t width, float scale), (x, width, scale))
VARIANTS(gather, ::gather, (const T *table, const uint32_t *ids, T *out, int64_t width),
         (table, ids, out, width))
VARIANTS(magnitudes, ::magnitudes,
         (const T *x, const T *y, float *out, int64_t count, int64_t width, float factor),
         (x, y, out, count, width, factor))
