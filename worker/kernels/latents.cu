// Conversions between latents [B, C, H, W] (float32) and the transformer's tokens
// [B, H/2 W/2, 4 C], one per 2 x 2 patch, ordered by channel, row and column; and masks, guidance
// and pixels. One thread per element.
#include "common.cuh"

// Index in the tokens of element `i` of the latents.
__device__ __forceinline__ int64_t token_place(int64_t i, int64_t channels, int64_t height,
                                               int64_t width) {
    const int64_t x = i % width;
    const int64_t y = i / width % height;
    const int64_t c = i / (width * height) % channels;
    const int64_t b = i / (width * height * channels);
    const int64_t token = (b * (height / 2) + y / 2) * (width / 2) + x / 2;
    return (token * channels + c) * 4 + y % 2 * 2 + x % 2;
}

template <typename T, int>
__device__ void patchify(const float *latents, T *tokens, int64_t count, int64_t channels,
                         int64_t height, int64_t width) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) {
        tokens[token_place(i, channels, height, width)] = narrow<T>(latents[i]);
    }
}

// latents = uncond + guidance * (cond - uncond), or cond if uncond is null.
template <typename T, int>
__device__ void guided(const T *cond, const T *uncond, float *latents, int64_t count,
                       int64_t channels, int64_t height, int64_t width, float guidance) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    const int64_t at = token_place(i, channels, height, width);
    const float c = wide(cond[at]);
    if (uncond == nullptr) {
        latents[i] = c;
    } else {
        const float u = wide(uncond[at]);
        latents[i] = u + guidance * (c - u);
    }
}

// Nearest-neighbour upsampling from [planes, H, W] to [planes, 2 H, 2 W]. `count` is the number of
// output elements.
template <typename T, int>
__device__ void upsample(const T *x, T *y, int64_t count, int64_t height, int64_t width) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    const int64_t column = i % (2 * width);
    const int64_t row = i / (2 * width) % (2 * height);
    const int64_t plane = i / (4 * width * height);
    y[i] = x[(plane * height + row / 2) * width + column / 2];
}

// Converts [B, 3, H W] in -1..1 to float32 [B, H W, 3], clamped to 0..1. `count` is the number of
// output elements.
template <typename T, int>
__device__ void to_pixels(const T *x, float *pixels, int64_t count, int64_t plane) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) {
        return;
    }
    const int64_t colour = i % 3;
    const int64_t at = i / 3 % plane;
    const int64_t b = i / (3 * plane);
    const float value = 0.5f * wide(x[(b * 3 + colour) * plane + at]) + 0.5f;
    pixels[i] = fminf(fmaxf(value, 0.0f), 1.0f);
}

// out = mask * inside + (1 - mask) * outside, all float32. A batch entry has `size` elements, the
// mask has `plane` elements per entry, and its entries are `mask_stride` apart.
extern "C" __global__ void blend_f32_v1(const float *inside, const float *outside,
                                        const float *mask, float *out, int64_t count,
                                        int64_t size, int64_t plane, int64_t mask_stride) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) {
        const float m = mask[i / size * mask_stride + i % plane];
        out[i] = m * inside[i] + (1.0f - m) * outside[i];
    }
}

#define SINGLE(NAME, KERNEL, PARAMS, ARGS)                                                        \
    VARIANT(NAME, _bf16_v1, bf16, 1, KERNEL, PARAMS, ARGS)                                        \
    VARIANT(NAME, _f32_v1, float, 1, KERNEL, PARAMS, ARGS)

SINGLE(patchify, ::patchify,
       (const float *latents, T *tokens, int64_t count, int64_t channels, int64_t height,
        int64_t width),
       (latents, tokens, count, channels, height, width))
SINGLE(guided, ::guided,
       (const T *cond, const T *uncond, float *latents, int64_t count, int64_t channels,
        int64_t height, int64_t width, float guidance),
       (cond, uncond, latents, count, channels, height, width, guidance))
SINGLE(upsample, ::upsample, (const T *x, T *y, int64_t count, int64_t height, int64_t width),
       (x, y, count, height, width))
SINGLE(to_pixels, ::to_pixels, (const T *x, float *pixels, int64_t count, int64_t plane),
       (x, pixels, count, plane))
