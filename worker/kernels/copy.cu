// Copies between tensors of different strides, in units of 1 to 16 bytes. One thread per unit.
#include <cstdint>

// Lengths of the last three of four dimensions, and the strides of all four, outermost first, in
// units.
template <typename Unit>
__device__ __forceinline__ void copy(const Unit *from, Unit *to, uint32_t count, uint32_t n1,
                                     uint32_t n2, uint32_t n3, const int64_t (&from_strides)[4],
                                     const int64_t (&to_strides)[4]) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    const uint32_t at[4] = {i / n3 / n2 / n1, i / n3 / n2 % n1, i / n3 % n2, i % n3};
    int64_t source = 0;
    int64_t target = 0;
#pragma unroll
    for (int d = 0; d < 4; ++d) {
        source += at[d] * from_strides[d];
        target += at[d] * to_strides[d];
    }
    to[target] = from[source];
}

#define COPY(BYTES, UNIT)                                                                         \
    extern "C" __global__ void copy_##BYTES(                                                      \
        const UNIT *from, UNIT *to, int64_t count, int64_t n1, int64_t n2, int64_t n3,            \
        int64_t f0, int64_t f1, int64_t f2, int64_t f3, int64_t t0, int64_t t1, int64_t t2,       \
        int64_t t3) {                                                                             \
        copy<UNIT>(from, to, count, n1, n2, n3, {f0, f1, f2, f3}, {t0, t1, t2, t3});              \
    }
COPY(1, uint8_t)
COPY(2, uint16_t)
COPY(4, uint32_t)
COPY(8, uint2)
COPY(16, uint4)
