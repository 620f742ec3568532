// ggml's block types: eight neighbouring values of a block, from a multiple of eight on.
//
// Products and sums are rounded one by one, as the worker's own decoders on a CPU (src/quants) and
// the `gguf` package do it; src/quants describes where a type has its bits.
#pragma once

#include <cstdint>

__device__ __forceinline__ float half_at(const uint8_t *p) {
    return __half2float(__ushort_as_half(uint16_t(p[0] | p[1] << 8)));
}

// scale * q + min, rounded twice.
__device__ __forceinline__ float above(float scale, float q, float min) {
    return __fadd_rn(__fmul_rn(scale, q), min);
}

__device__ __forceinline__ float below(float scale, float q, float min) {
    return __fsub_rn(__fmul_rn(scale, q), min);
}

// The 4 bits of value `i` of 32 whose upper half shares the lower half's bytes.
__device__ __forceinline__ int four(const uint8_t *q, int i) {
    return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}

// The fifth bit of value `i` of 32.
__device__ __forceinline__ int fifth(const uint8_t *high, int i) {
    return (high[i / 8] >> (i % 8) & 1) << 4;
}

struct Q8_0 {
    static constexpr int VALUES = 32, BYTES = 34;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            out[i] = __fmul_rn(float(int8_t(b[2 + first + i])), d);
        }
    }
};

struct Q4_0 {
    static constexpr int VALUES = 32, BYTES = 18;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            out[i] = __fmul_rn(d, float(four(b + 2, first + i) - 8));
        }
    }
};

struct Q4_1 {
    static constexpr int VALUES = 32, BYTES = 20;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b), min = half_at(b + 2);
        for (int i = 0; i < 8; ++i) {
            out[i] = above(d, float(four(b + 4, first + i)), min);
        }
    }
};

struct Q5_0 {
    static constexpr int VALUES = 32, BYTES = 22;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            const int q = four(b + 6, first + i) | fifth(b + 2, first + i);
            out[i] = __fmul_rn(d, float(q - 16));
        }
    }
};

struct Q5_1 {
    static constexpr int VALUES = 32, BYTES = 24;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b), min = half_at(b + 2);
        for (int i = 0; i < 8; ++i) {
            const int q = four(b + 8, first + i) | fifth(b + 4, first + i);
            out[i] = above(d, float(q), min);
        }
    }
};

__device__ __constant__ int8_t LEVELS[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                             1,    13,   25,  38,  53,  69,  89,  113};

struct Iq4Nl {
    static constexpr int VALUES = 32, BYTES = 18;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const float d = half_at(b);
        for (int i = 0; i < 8; ++i) {
            out[i] = __fmul_rn(d, float(LEVELS[four(b + 2, first + i)]));
        }
    }
};

struct Iq4Xs {
    static constexpr int VALUES = 256, BYTES = 136;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 32, high = b[2] | b[3] << 8;
        const int low = b[4 + group / 2] >> (group % 2 * 4) & 15;
        const int bits = low | (high >> (2 * group) & 3) << 4;
        const float scale = __fmul_rn(half_at(b), float(bits - 32));
        for (int i = 0; i < 8; ++i) {
            out[i] = __fmul_rn(scale, float(LEVELS[four(b + 8 + group * 16, first % 32 + i)]));
        }
    }
};

// First byte and bit of a group of 16 among 2-bit values.
__device__ __forceinline__ int quarter_byte(int group) { return group / 8 * 32 + group % 2 * 16; }
__device__ __forceinline__ int quarter_bit(int group) { return group % 8 / 2 * 2; }

struct Q2K {
    static constexpr int VALUES = 256, BYTES = 84;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 16, bit = quarter_bit(group);
        const float scale = __fmul_rn(half_at(b + 80), float(b[group] & 15));
        const float min = __fmul_rn(half_at(b + 82), float(b[group] >> 4));
        const uint8_t *q = b + 16 + quarter_byte(group) + first % 16;
        for (int i = 0; i < 8; ++i) {
            out[i] = below(scale, float(q[i] >> bit & 3), min);
        }
    }
};

struct Q3K {
    static constexpr int VALUES = 256, BYTES = 110;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 16, bit = quarter_bit(group);
        const uint8_t *packed = b + 96;
        const int low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
        const int high = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
        const float scale = __fmul_rn(half_at(b + 108), float((low | high << 4) - 32));
        const uint8_t *q = b + 32 + quarter_byte(group) + first % 16;
        const uint8_t *third = b + group % 2 * 16 + first % 16;
        for (int i = 0; i < 8; ++i) {
            const int offset = third[i] >> (group / 2) & 1 ? 0 : 4;
            out[i] = __fmul_rn(scale, float((q[i] >> bit & 3) - offset));
        }
    }
};

// Scale and minimum of a group of 32 in Q4_K and Q5_K, of 6 bits each in 12 bytes.
__device__ __forceinline__ int six_scale(const uint8_t *p, int j) {
    return j < 4 ? p[j] & 63 : (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
}
__device__ __forceinline__ int six_min(const uint8_t *p, int j) {
    return j < 4 ? p[j + 4] & 63 : p[j + 4] >> 4 | p[j] >> 6 << 4;
}

struct Q4K {
    static constexpr int VALUES = 256, BYTES = 144;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 32, shift = group % 2 * 4;
        const float scale = __fmul_rn(half_at(b), float(six_scale(b + 4, group)));
        const float min = __fmul_rn(half_at(b + 2), float(six_min(b + 4, group)));
        const uint8_t *q = b + 16 + group / 2 * 32 + first % 32;
        for (int i = 0; i < 8; ++i) {
            out[i] = below(scale, float(q[i] >> shift & 15), min);
        }
    }
};

struct Q5K {
    static constexpr int VALUES = 256, BYTES = 176;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 32, shift = group % 2 * 4;
        const float scale = __fmul_rn(half_at(b), float(six_scale(b + 4, group)));
        const float min = __fmul_rn(half_at(b + 2), float(six_min(b + 4, group)));
        const uint8_t *high = b + 16 + first % 32;
        const uint8_t *q = b + 48 + group / 2 * 32 + first % 32;
        for (int i = 0; i < 8; ++i) {
            const int value = (q[i] >> shift & 15) | (high[i] >> group & 1) << 4;
            out[i] = below(scale, float(value), min);
        }
    }
};

struct Q6K {
    static constexpr int VALUES = 256, BYTES = 210;
    static __device__ void eight(const uint8_t *b, int first, float *out) {
        const int group = first / 16, half = group / 8, within = group % 8;
        const int row = within / 2, start = within % 2 * 16 + first % 16;
        const float scale = __fmul_rn(half_at(b + 208), float(int8_t(b[192 + group])));
        const uint8_t *low = b + half * 64 + row % 2 * 32 + start;
        const uint8_t *high = b + 128 + half * 32 + start;
        for (int i = 0; i < 8; ++i) {
            const int q = (low[i] >> (row / 2 * 4) & 15) | (high[i] >> (row * 2) & 3) << 4;
            out[i] = __fmul_rn(scale, float(q - 32));
        }
    }
};
