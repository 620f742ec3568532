// Decodes weights in ggml's blocks. A thread writes eight neighbouring values, so that a warp
// writes whole lines.
#include <cuda_fp16.h>

#include "common.cuh"
#include "ggml_blocks.cuh"

template <typename Block, typename T>
__device__ void decode(const uint8_t *blocks, T *out, int64_t count) {
    const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (i >= count) {
        return;
    }
    float values[8];
    Block::eight(blocks + i / Block::VALUES * Block::BYTES, int(i % Block::VALUES), values);
    Pack<T, 8> pack;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        pack.at[j] = narrow<T>(values[j]);
    }
    store<T, 8>(out + i, pack);
}

// `count` values of whole blocks.
#define DECODE(name, Block)                                                                       \
    extern "C" __global__ void decode_##name##_f32(const uint8_t *blocks, float *out,             \
                                                   int64_t count) {                               \
        decode<Block>(blocks, out, count);                                                        \
    }                                                                                             \
    extern "C" __global__ void decode_##name##_bf16(const uint8_t *blocks, bf16 *out,             \
                                                    int64_t count) {                              \
        decode<Block>(blocks, out, count);                                                        \
    }

DECODE(q8_0, Q8_0)
DECODE(q6_k, Q6K)
DECODE(q5_k, Q5K)
DECODE(q5_1, Q5_1)
DECODE(q5_0, Q5_0)
DECODE(q4_k, Q4K)
DECODE(q4_1, Q4_1)
DECODE(q4_0, Q4_0)
DECODE(q3_k, Q3K)
DECODE(q2_k, Q2K)
DECODE(iq4_nl, Iq4Nl)
DECODE(iq4_xs, Iq4Xs)
