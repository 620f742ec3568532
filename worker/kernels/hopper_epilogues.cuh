// Epilogues of a Hopper product (hopper_product.cu): operations on the staged sums of a tile, by
// warps of their own.
#pragma once

#include "hopper_tiles.cuh"

// Maps rows with `tokens` tokens per batch entry to their place among `all` tokens, from `offset`.
struct Place {
    int tokens;
    int all;
    int offset;
};

// Columns of q, k, v, then up and gate; heads or up and gate may be absent. `head_columns` is a
// multiple of TILE_COLUMNS, `inner` of HALF.
//
// For an attention in 8-bit floats (fp8_heads.cu), q and k are converted, and the largest magnitude
// of v is determined.
struct Projected {
    bf16 *heads; // [batch, all, columns of q, k and v], or v alone
    fp8 *queries8; // [batch, all, columns of q], or null
    fp8 *keys8;
    float *largest_value;
    const bf16 *query_weight;
    const bf16 *key_weight;
    const float *cos; // [all, HALF / 2]
    const float *sin;
    bf16 *mlp;          // [rows, inner] at `mlp_stride`
    int64_t mlp_stride; // elements
    Place place;
    int queries;      // columns of q
    int keys;         // columns of k
    int head_columns; // columns of q, k and v
    int inner;        // columns of up
    float query_factor; // factor of q before its conversion
    float key_factor;
    float eps;
};

// N is a multiple of TILE_COLUMNS.
struct Gated {
    bf16 *out;     // [rows, N]
    const bf16 *x; // [rows, N]
    const bf16 *gate;
    int64_t gate_stride; // between batch entries
    int tokens;
    int columns; // N
};

// A tile holds up and gate of the same columns.
__device__ __forceinline__ Unit unit_of(const Product &p, const Projected &e, int number) {
    Unit u = unit_at(p, number);
    if (u.first >= e.head_columns) {
        u.first = e.head_columns + (u.first - e.head_columns) / 2;
        u.second = u.first + e.inner;
    }
    return u;
}

__device__ __forceinline__ Unit unit_of(const Product &p, const Gated &, int number) {
    return unit_at(p, number);
}

// Loads 8 elements that no thread writes while the kernel runs.
__device__ __forceinline__ Pack<bf16, 8> load_constant(const bf16 *p) {
    Pack<bf16, 8> v;
    reinterpret_cast<uint4 &>(v) = __ldg(reinterpret_cast<const uint4 *>(p));
    return v;
}

// Stores elements that this kernel does not read again. They are evicted from the L2 cache first,
// so that x and W stay there.
__device__ __forceinline__ void store_streaming(bf16 *p, const Pack<bf16, 8> &v) {
    __stcs(reinterpret_cast<uint4 *>(p), reinterpret_cast<const uint4 &>(v));
}

// SiLU, accurate to the last few bits of float32, in five instructions: each one takes power from
// the products.
__device__ __forceinline__ float short_silu(float x) {
    constexpr float LOG2_E = 1.4426950408889634f;
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-LOG2_E * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
    return x * inverse;
}

// 8 columns of a row of a tile, and their position.
struct Piece {
    int row;   // of the product
    int entry; // of the batch
    int token; // of the entry
    int r;     // of the tile
    int chunk;
};

// Calls body(piece) for the rows of a tile from `begin` on, 16 lanes per row. All lanes of a warp
// call it equally often, including those beyond the last row.
template <typename Body>
__device__ __forceinline__ void each_piece(int warp, int begin, int tokens, Body body) {
    const int lane = threadIdx.x % 32;
    const int entry = begin / tokens;
    const int token = begin % tokens;
#pragma unroll 2
    for (int r = warp * 2 + lane / 16; r < TILE_ROWS; r += FINISHERS * 2) {
        Piece piece = {begin + r, entry, token + r, r, lane % 16};
        while (piece.token >= tokens) {
            piece.token -= tokens;
            ++piece.entry;
        }
        body(piece);
    }
}

// RMSNorm of a head, of which 16 lanes hold 8 columns each, and rotation of its neighbouring pairs,
// as in rope.cu.
__device__ __forceinline__ void rotate_head(float (&x)[8], const float (&weight)[8], float4 cosines,
                                            float4 sines, float eps) {
    float squares = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        squares += x[j] * x[j];
    }
#pragma unroll
    for (int step = 8; step > 0; step /= 2) {
        squares += __shfl_xor_sync(0xffffffffu, squares, step);
    }
    const float inverse = rsqrtf(squares / HALF + eps);
    const float c[4] = {cosines.x, cosines.y, cosines.z, cosines.w};
    const float s[4] = {sines.x, sines.y, sines.z, sines.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const float x0 = x[2 * j] * inverse * weight[2 * j];
        const float x1 = x[2 * j + 1] * inverse * weight[2 * j + 1];
        x[2 * j] = x0 * c[j] - x1 * s[j];
        x[2 * j + 1] = x0 * s[j] + x1 * c[j];
    }
}

__device__ __forceinline__ void finish_heads(const Product &p, const Projected &e, const Unit &u,
                                             int begin, int warp, Shared &shared) {
    const int place = threadIdx.x % 16 * 8;
    const int rotated_columns = e.queries + e.keys;
    const bool eight = e.queries8 != nullptr;
    float weight[2][8];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const bool query = u.first + half * HALF < e.queries;
        const auto w = load_constant((query ? e.query_weight : e.key_weight) + place);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            weight[half][j] = wide(w.at[j]);
        }
    }
    float most = 0.0f;
    each_piece(warp, begin, e.place.tokens, [&](const Piece &at) {
        const int64_t token = e.place.offset + at.token;
        const int64_t row = int64_t(at.entry) * e.place.all + token;
        const bool there = at.row < p.rows;
        float4 c = {}, s = {};
        if (u.first < rotated_columns && there) {
            const int64_t angle = (token * HALF + place) / 2;
            c = __ldg(reinterpret_cast<const float4 *>(e.cos + angle));
            s = __ldg(reinterpret_cast<const float4 *>(e.sin + angle));
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int column = u.first + half * HALF;
            float x[8];
            widen<bf16, 8>(sums_at(shared.sums[half], at.r, at.chunk), x);
            if (column < rotated_columns) {
                rotate_head(x, weight[half], c, s, e.eps);
                if (eight) {
                    if (there && column < e.queries) {
                        store<fp8, 8>(e.queries8 + row * e.queries + column + place,
                                      to_fp8(x, e.query_factor));
                    } else if (there) {
                        store<fp8, 8>(e.keys8 + row * e.keys + column - e.queries + place,
                                      to_fp8(x, e.key_factor));
                    }
                    continue;
                }
            }
            if (there) {
                if (eight) {
                    most = largest(x, most);
                }
                Pack<bf16, 8> y;
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    y.at[j] = narrow<bf16>(x[j]);
                }
                const int before = eight ? rotated_columns : 0;
                store_streaming(e.heads + row * (e.head_columns - before) + column - before + place, y);
            }
        }
    });
    if (eight && u.second >= rotated_columns) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
        }
        if (threadIdx.x % 32 == 0) {
            // Non-negative floats compare like their bits as integers.
            atomicMax(reinterpret_cast<int *>(e.largest_value), __float_as_int(most));
        }
    }
}

__device__ __forceinline__ void finish_swiglu(const Product &p, const Projected &e, const Unit &u,
                                              int begin, int warp, Shared &shared) {
    bf16 *to = e.mlp + u.first - e.head_columns;
    each_piece(warp, begin, p.rows, [&](const Piece &at) {
        auto up = load<bf16, 8>(sums_at(shared.sums[0], at.r, at.chunk));
        const auto gate = load<bf16, 8>(sums_at(shared.sums[1], at.r, at.chunk));
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            up.at[j] = narrow<bf16>(wide(up.at[j]) * short_silu(wide(gate.at[j])));
        }
        if (at.row < p.rows) {
            store_streaming(to + at.row * e.mlp_stride + at.chunk * 8, up);
        }
    });
}

__device__ __forceinline__ void finish(const Product &p, const Projected &e, const Unit &u,
                                       int begin, int warp, Shared &shared) {
    if (u.first < e.head_columns) {
        finish_heads(p, e, u, begin, warp, shared);
    } else {
        finish_swiglu(p, e, u, begin, warp, shared);
    }
}

__device__ __forceinline__ void finish(const Product &p, const Gated &e, const Unit &u, int begin,
                                       int warp, Shared &shared) {
    each_piece(warp, begin, e.tokens, [&](const Piece &at) {
        if (at.row >= p.rows) {
            return;
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int column = u.first + half * HALF + at.chunk * 8;
            const int64_t to = int64_t(at.row) * e.columns + column;
            const auto x = load_constant(e.x + to);
            const auto gate = load_constant(e.gate + at.entry * e.gate_stride + column);
            auto y = load<bf16, 8>(sums_at(shared.sums[half], at.r, at.chunk));
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                y.at[j] = narrow<bf16>(wide(x.at[j]) + wide(gate.at[j]) * wide(y.at[j]));
            }
            store_streaming(e.out + to, y);
        }
    });
}
