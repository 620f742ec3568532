// Conversion of an attention's queries, keys and values to 8-bit floats, with one scale per tensor,
// and of its output back.
//
// Floats have the same relative precision over most of their range, so a scale may be too large by
// a few powers of two: only numbers 2^15 below the largest lose bits.
#include "fp8.cuh"

// Factor of the softmax weights (0 to 1) before their conversion to E4M3: the largest power of two
// that E4M3 holds.
constexpr float WEIGHT_SCALE = 256.0f;

// The largest E4M3 magnitude that the output is scaled to. The output is a weighted mean of values
// and exceeds the largest value only by rounding of the weights, so a factor of two is spare.
constexpr float LARGEST_OUTPUT = LARGEST / 2.0f;

// The scalar inputs and outputs of an attention in 8-bit floats, each in a slot of 16 bytes.
enum Slot {
    DESCALE_Q,
    DESCALE_K,
    DESCALE_V,
    DESCALE_WEIGHTS,
    SCALE_WEIGHTS,
    SCALE_OUTPUT,
    LARGEST_WEIGHT_FOUND, // written by cuDNN, like the next
    LARGEST_OUTPUT_FOUND,
    DESCALE_OUTPUT,
    LARGEST_VALUE,
};

__device__ __forceinline__ float &at(float *slots, Slot slot) { return slots[4 * slot]; }

// Raises LARGEST_VALUE, initially zero, to the largest magnitude of v, which has [batch, tokens]
// rows of `width` elements. Blocks share the tokens of a batch entry.
template <typename T, int N>
__device__ void largest_value(const T *v, float *slots, int64_t tokens, int64_t width,
                              int64_t batch_stride, int64_t row_stride) {
    v += blockIdx.y * batch_stride;
    float most = 0.0f;
    for (int64_t i = int64_t(threadIdx.x) * N; i < width; i += int64_t(blockDim.x) * N) {
        // Keeps several loads in flight.
#pragma unroll 4
        for (int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
            float wider[N];
            widen<T, N>(v + token * row_stride + i, wider);
            most = largest(wider, most);
        }
    }
    most = block_max(most);
    if (threadIdx.x == 0) {
        // Non-negative floats compare like their bits as integers.
        atomicMax(reinterpret_cast<int *>(&at(slots, LARGEST_VALUE)), __float_as_int(most));
    }
}

// Converts [batch, tokens] rows of q, k and v, of the given widths, to contiguous 8-bit floats, and
// fills the slots. A width of zero means that q or k is already converted. q_bound and k_bound
// bound the magnitudes of q and k; LARGEST_VALUE bounds v. One block per row.
template <typename T, int N>
__device__ void heads_to_fp8(const T *q, const T *k, const T *v, fp8 *q_out, fp8 *k_out,
                             fp8 *v_out, float *slots, int64_t q_width, int64_t k_width,
                             int64_t v_width,
                             int64_t q_batch_stride, int64_t q_row_stride, int64_t k_batch_stride,
                             int64_t k_row_stride, int64_t v_batch_stride, int64_t v_row_stride,
                             float q_bound, float k_bound) {
    const int64_t token = blockIdx.x;
    const int64_t batch = blockIdx.y;
    const int64_t row = batch * gridDim.x + token;
    q += batch * q_batch_stride + token * q_row_stride;
    k += batch * k_batch_stride + token * k_row_stride;
    v += batch * v_batch_stride + token * v_row_stride;
    q_out += row * q_width;
    k_out += row * k_width;
    v_out += row * v_width;
    const float q_largest = fmaxf(q_bound, LEAST);
    const float k_largest = fmaxf(k_bound, LEAST);
    const float v_largest = fmaxf(at(slots, LARGEST_VALUE), LEAST);

    const auto convert = [](const Pack<T, N> &x, float largest_of_all) {
        float wider[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
            wider[j] = wide(x.at[j]);
        }
        return to_fp8(wider, LARGEST / largest_of_all);
    };
    for (int64_t i = int64_t(threadIdx.x) * N; i < max(q_width, v_width);
         i += int64_t(blockDim.x) * N) {
        // Issues all loads before the first use.
        Pack<T, N> query = {}, key = {}, value = {};
        if (i < q_width) {
            query = load<T, N>(q + i);
        }
        if (i < k_width) {
            key = load<T, N>(k + i);
        }
        if (i < v_width) {
            value = load<T, N>(v + i);
        }
        if (i < q_width) {
            store<fp8, N>(q_out + i, convert(query, q_largest));
        }
        if (i < k_width) {
            store<fp8, N>(k_out + i, convert(key, k_largest));
        }
        if (i < v_width) {
            store<fp8, N>(v_out + i, convert(value, v_largest));
        }
    }
    if (row == 0 && threadIdx.x == 0) {
        at(slots, DESCALE_Q) = q_largest / LARGEST;
        at(slots, DESCALE_K) = k_largest / LARGEST;
        at(slots, DESCALE_V) = v_largest / LARGEST;
        at(slots, DESCALE_WEIGHTS) = 1.0f / WEIGHT_SCALE;
        at(slots, SCALE_WEIGHTS) = WEIGHT_SCALE;
        at(slots, SCALE_OUTPUT) = LARGEST_OUTPUT / v_largest;
        at(slots, DESCALE_OUTPUT) = v_largest / LARGEST_OUTPUT;
    }
}

// y = x * scale; rows of y are `stride` elements apart.
template <typename T, int N>
__device__ void widen_fp8(const fp8 *x, const float *scale, T *y, int64_t rows, int64_t width,
                          int64_t stride) {
    const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i >= width) {
        return;
    }
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        float wider[N];
        from_fp8(load<fp8, N>(x + row * width + i), *scale, wider);
        Pack<T, N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            out.at[j] = narrow<T>(wider[j]);
        }
        store<T, N>(y + row * stride + i, out);
    }
}

// Heads are aligned to 16 bytes of 8-bit floats, so bf16 needs no other access width.
VARIANT(largest_value, _bf16_v8, bf16, 8, ::largest_value,
        (const T *v, float *slots, int64_t tokens, int64_t width, int64_t batch_stride,
         int64_t row_stride),
        (v, slots, tokens, width, batch_stride, row_stride))
VARIANT(heads_to_fp8, _bf16_v8, bf16, 8, ::heads_to_fp8,
        (const T *q, const T *k, const T *v, fp8 *q_out, fp8 *k_out, fp8 *v_out, float *slots,
         int64_t q_width, int64_t k_width, int64_t v_width, int64_t q_batch_stride,
         int64_t q_row_stride, int64_t k_batch_stride, int64_t k_row_stride, int64_t v_batch_stride,
         int64_t v_row_stride, float q_bound, float k_bound),
        (q, k, v, q_out, k_out, v_out, slots, q_width, k_width, v_width, q_batch_stride, q_row_stride,
         k_batch_stride, k_row_stride, v_batch_stride, v_row_stride, q_bound, k_bound))
VARIANT(widen_fp8, _bf16_v8, bf16, 8, ::widen_fp8,
        (const fp8 *x, const float *scale, T *y, int64_t rows, int64_t width, int64_t stride),
        (x, scale, y, rows, width, stride))
