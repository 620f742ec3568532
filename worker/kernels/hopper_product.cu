// A matrix product for Hopper (sm_90a) that ends in what follows it in a transformer block, so
// that the wide projections never travel through memory:
//
//   projected   columns of q, k and v: head norms and rotation; columns of up and gate: SwiGLU
//   gated       x + gate * y
//
// y = x W^T + bias, rounded to bf16; x [rows, K] and W [N, K] are bf16, or E4M3 with a float32
// scale a row.
//
// A block works on tiles of 128 rows and 256 columns, one after another, and three kinds of
// warps hand them on through shared memory: one has the TMA fetch x and W, 128 bytes of K at a
// time; two groups of four multiply; the others finish what those have put down, while the next
// tile is multiplied. Two blocks form a cluster; their tiles lie below one another, and each
// fetches one half of W's tile for both, which halves what the L2 cache has to give.
//
// Tiles that would leave most of the GPU idle at the end are cut along K into parts.
#include "fp8.cuh"
#include "hopper.cuh"

using e4m3 = __nv_fp8_e4m3;

constexpr int TILE_ROWS = 128;
constexpr int TILE_COLUMNS = 256;
constexpr int HALF = TILE_COLUMNS / 2; // a head's columns; up's or gate's
constexpr int BLOCKS = 2;              // in a cluster
constexpr int ROW_BYTES = 128;         // of a tile in K: what the TMA swizzles at most
constexpr int STAGES = 3;
constexpr int GROUP = 128; // threads that multiply together
constexpr int MULTIPLIERS = 2 * GROUP;
constexpr int THREADS = 3 * GROUP;
constexpr int FINISHERS = 3; // warps

struct Shared {
    struct Stage {
        uint8_t x[TILE_ROWS * ROW_BYTES];
        uint8_t w[TILE_COLUMNS * ROW_BYTES];
    } stages[STAGES];
    bf16 sums[2][TILE_ROWS * HALF]; // of the last tile
    // What belongs to a tile's columns. The fetcher is ahead by no more tiles than stages.
    struct Columns {
        bf16 bias[2][HALF];
        float scale[2][HALF];
    } columns[STAGES + 1];
    uint64_t full[STAGES];
    uint64_t empty[STAGES];
    uint64_t multiplied;
    uint64_t finished;
    int whole; // whether `sums` holds a whole tile, and not one of several parts
};

static_assert(sizeof(Shared) == 219208, "hopper.rs asks for this much");

// What all products need.
struct Product {
    const bf16 *bias;      // [N]
    const float *x_scales; // [rows], for E4M3
    const float *w_scales; // [N], for E4M3
    float *partial;        // [blocks of the GPU, a tile] for the parts of tiles
    int *arrived;          // [blocks of the GPU], zeros before and after
    int rows;
    int steps;     // of ROW_BYTES along K
    int row_tiles; // of a cluster: 256 rows
    int column_tiles;
    int together; // row tiles whose columns are worked on before the next ones'
    int uncut;    // tiles before those that are cut
    int parts;    // of a tile that is cut
};

// Where rows go that hold `tokens` of each batch entry: behind `offset` others of `all`.
struct Place {
    int tokens;
    int all;
    int offset;
};

// q, k, v, then up and gate; each may be missing. `head_columns` are a multiple of TILE_COLUMNS,
// `inner` is one of HALF.
//
// For an attention in 8-bit floats (fp8_heads.cu), q and k are these, and of v the largest
// magnitude is found.
struct Projected {
    bf16 *heads; // [batch, all, columns of q, k and v], or of v alone
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
    float query_factor; // from q to its 8-bit floats
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

// A cluster's piece of work: a tile, or a part of one along K.
struct Unit {
    int row;    // its first
    int first;  // of W's rows, of either half of the columns
    int second; //
    int begin;  // steps along K
    int end;
    int cut; // number of the tile among those that are cut, or -1
};

__device__ __forceinline__ int units(const Product &p) {
    const int tiles = p.row_tiles * p.column_tiles;
    return p.uncut + (tiles - p.uncut) * p.parts;
}

__device__ __forceinline__ Unit unit_at(const Product &p, int number) {
    Unit u = {0, 0, 0, 0, p.steps, -1};
    int tile = number;
    if (number >= p.uncut) {
        u.cut = (number - p.uncut) / p.parts;
        const int part = (number - p.uncut) % p.parts;
        u.begin = p.steps * part / p.parts;
        u.end = p.steps * (part + 1) / p.parts;
        tile = p.uncut + u.cut;
    }
    const int per_group = p.together * p.column_tiles;
    const int begin = tile / per_group * p.together;
    const int rows = min(p.together, p.row_tiles - begin);
    const int rest = tile % per_group;
    u.row = (begin + rest % rows) * BLOCKS * TILE_ROWS;
    u.first = rest / rows * TILE_COLUMNS;
    u.second = u.first + HALF;
    return u;
}

// Up and gate of the same columns make a tile.
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

// Where chunk c (8 columns) of row r of a half lies: no two rows of 8 share banks.
__device__ __forceinline__ bf16 *sums_at(bf16 *half, int r, int c) {
    return half + r * HALF + ((c ^ (r & 7)) << 3);
}

// 8 elements of what nobody writes while this runs.
__device__ __forceinline__ Pack<bf16, 8> fixed(const bf16 *p) {
    Pack<bf16, 8> v;
    reinterpret_cast<uint4 &>(v) = __ldg(reinterpret_cast<const uint4 *>(p));
    return v;
}

// Stores what is read only after this has run, so that x and W stay in the L2 cache.
__device__ __forceinline__ void store_away(bf16 *p, const Pack<bf16, 8> &v) {
    __stcs(reinterpret_cast<uint4 *>(p), reinterpret_cast<const uint4 &>(v));
}

// silu to float32's last few bits, in five instructions: every one takes power from the products.
__device__ __forceinline__ float short_silu(float x) {
    constexpr float LOG2_E = 1.4426950408889634f;
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(-LOG2_E * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
    return x * inverse;
}

__device__ __forceinline__ uint32_t both(float a, float b) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return reinterpret_cast<const uint32_t &>(pair);
}

// Which of a ring's places is next, and the parity of its barriers' phase.
template <int PLACES>
struct Turn {
    int place = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        if (++place == PLACES) {
            place = 0;
            parity ^= 1;
        }
    }
};

// Calls body(unit) for each of this cluster's.
template <typename End, typename Body>
__device__ __forceinline__ void each_unit(const Product &p, const End &end, Body body) {
    for (int n = blockIdx.x / BLOCKS; n < units(p); n += gridDim.x / BLOCKS) {
        body(unit_of(p, end, n));
    }
}

// One thread: has every tile of this block's fetched, as stages become empty.
template <typename T, typename End>
__device__ __forceinline__ void fetch(const CUtensorMap *x, const CUtensorMap *w, const Product &p,
                                      const End &end, Shared &shared) {
    constexpr int K = ROW_BYTES / sizeof(T);
    const uint32_t rank = hopper::cluster_rank();
    Turn<STAGES> turn;
    Turn<STAGES + 1> unit;
    // Expects the first stage of a unit, and with it what belongs to its columns.
    const auto columns = [&](const Unit &u, uint64_t *full) {
        auto &to = shared.columns[unit.place];
        constexpr bool SCALED = sizeof(T) == 1;
        constexpr uint32_t BYTES = SCALED ? sizeof(to) : sizeof(to.bias);
        hopper::barrier_expect(full, sizeof(Shared::Stage) + BYTES);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int column = half == 0 ? u.first : u.second;
            hopper::copy_bytes(to.bias[half], p.bias + column, full, sizeof(to.bias[half]));
            if constexpr (SCALED) {
                hopper::copy_bytes(to.scale[half], p.w_scales + column, full,
                                   sizeof(to.scale[half]));
            }
        }
        unit.advance();
    };
    each_unit(p, end, [&](const Unit &u) {
        const int row = u.row + int(rank) * TILE_ROWS;
        const int w_row = rank == 0 ? u.first : u.second;
        for (int step = u.begin; step < u.end; ++step) {
            auto &stage = shared.stages[turn.place];
            uint64_t *full = &shared.full[turn.place];
            hopper::barrier_wait(&shared.empty[turn.place], turn.parity ^ 1);
            if (step == u.begin) {
                columns(u, full);
            } else {
                hopper::barrier_expect(full, sizeof(stage));
            }
            hopper::copy_box(stage.x, x, full, step * K, row);
            hopper::copy_box_to(0b11, stage.w + rank * HALF * ROW_BYTES, w, full, step * K, w_row);
            turn.advance();
        }
    });
}

// Adds up the parts of a cut tile. True for the block that is last to come and has the sums of
// all then, always added in the same order.
__device__ __forceinline__ bool gather(const Product &p, const Unit &u, Shared &shared,
                                       float (&sums)[128]) {
    const int part = (u.begin * p.parts + p.parts - 1) / p.steps;
    const int tile = u.cut * BLOCKS + int(hopper::cluster_rank());
    float *mine = p.partial + int64_t(tile) * p.parts * 128 * MULTIPLIERS + threadIdx.x;
    for (int j = 0; j < 128; ++j) {
        __stcg(mine + (part * 128 + j) * MULTIPLIERS, sums[j]);
    }
    __threadfence();
    hopper::group_sync<MULTIPLIERS>(1);
    if (threadIdx.x == 0) {
        shared.whole = atomicAdd(p.arrived + tile, 1) == p.parts - 1;
        if (shared.whole) {
            p.arrived[tile] = 0;
        }
    }
    hopper::group_sync<MULTIPLIERS>(1);
    if (!shared.whole) {
        return false;
    }
    __threadfence();
#pragma unroll
    for (int j = 0; j < 128; ++j) {
        sums[j] = __ldcg(mine + j * MULTIPLIERS);
    }
    for (int other = 1; other < p.parts; ++other) {
#pragma unroll
        for (int j = 0; j < 128; ++j) {
            sums[j] += __ldcg(mine + (other * 128 + j) * MULTIPLIERS);
        }
    }
    return true;
}

// Puts down 64 rows of a tile for the finishers: scaled, with bias, in bf16. `row` is the
// group's first in the product and `at` in the block's tile; hopper.cuh tells who has what.
template <typename T>
__device__ __forceinline__ void put_down(const float (&sums)[128], const Product &p, int row,
                                         int at, const Shared::Columns &columns, Shared &shared) {
    const int lane = threadIdx.x % 32;
    const int warp_row = threadIdx.x % GROUP / 32 * 16;
    float x_scale[2] = {1.0f, 1.0f};
    if constexpr (sizeof(T) == 1) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int r = row + warp_row + lane / 4 + 8 * i;
            x_scale[i] = r < p.rows ? __ldg(p.x_scales + r) : 0.0f;
        }
    }
    // What this thread's two columns of a chunk of 8 are scaled by, and what is added to them.
    struct Pair {
        Pack<bf16, 2> bias;
        Pack<float, 2> scale;
    };
    const auto pair_of = [&](int c) {
        const int column = c * 8 + lane % 4 * 2;
        Pair pair = {load<bf16, 2>(columns.bias[0] + column), {1.0f, 1.0f}};
        if constexpr (sizeof(T) == 1) {
            pair.scale = load<float, 2>(columns.scale[0] + column);
        }
        return pair;
    };
    constexpr int CHUNKS = TILE_COLUMNS / 8;
    Pair next[2] = {pair_of(0), pair_of(1)};
#pragma unroll
    for (int c = 0; c < CHUNKS; c += 2) {
        const Pair pairs[2] = {next[0], next[1]};
        if (c + 2 < CHUNKS) {
            next[0] = pair_of(c + 2);
            next[1] = pair_of(c + 3);
        }
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float *v = sums + (c + i) * 4;
            float w[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                w[j] = fmaf(v[j] * x_scale[j / 2], pairs[i].scale.at[j % 2],
                            wide(pairs[i].bias.at[j % 2]));
            }
            packed[2 * i] = both(w[0], w[1]);
            packed[2 * i + 1] = both(w[2], w[3]);
        }
        const int matrix = lane / 8;
        const int r = at + warp_row + lane % 8 + matrix % 2 * 8;
        const int half = c / (HALF / 8);
        const int chunk = c % (HALF / 8) + matrix / 2;
        hopper::store_matrices(sums_at(shared.sums[half], r, chunk), packed);
    }
}

// Group `group` of four warps: multiplies 64 rows of every tile.
template <typename T, typename End>
__device__ __forceinline__ void multiply(const Product &p, const End &end, Shared &shared,
                                         int group) {
    const int first = group * 64;
    const uint64_t x = hopper::tile(shared.stages[0].x + first * ROW_BYTES);
    const uint64_t w = hopper::tile(shared.stages[0].w);
    float sums[128];
    Turn<STAGES> turn;
    Turn<1> tile;
    Turn<STAGES + 1> unit;
    // Both blocks of the cluster write into a stage, so both hear that it is empty.
    const auto release = [&](int stage) {
        if (threadIdx.x % GROUP < BLOCKS) {
            hopper::barrier_arrive(&shared.empty[stage], threadIdx.x % GROUP);
        }
    };
    each_unit(p, end, [&](const Unit &u) {
        int before = 0;
        for (int step = u.begin; step < u.end; ++step) {
            hopper::barrier_wait(&shared.full[turn.place], turn.parity);
            hopper::products_begin();
            const int stage = turn.place * sizeof(Shared::Stage);
#pragma unroll
            for (int at = 0; at < ROW_BYTES; at += 32) {
                hopper::multiply<T>(sums, hopper::moved(x, stage + at),
                                    hopper::moved(w, stage + at), step > u.begin || at > 0);
            }
            hopper::products_commit();
            if (step > u.begin) {
                hopper::products_wait<1>();
                release(before);
            }
            before = turn.place;
            turn.advance();
        }
        hopper::products_wait<0>();
        release(before);
        hopper::barrier_wait(&shared.finished, tile.parity ^ 1);
        const bool whole = u.cut < 0 || gather(p, u, shared, sums);
        if (whole) {
            const int row = u.row + int(hopper::cluster_rank()) * TILE_ROWS + first;
            put_down<T>(sums, p, row, first, shared.columns[unit.place], shared);
        }
        unit.advance();
        if (u.cut < 0 && threadIdx.x == 0) {
            shared.whole = 1;
        }
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            hopper::barrier_arrive(&shared.multiplied);
        }
        tile.advance();
    });
}

// 8 columns of a row of a tile and who they are.
struct Piece {
    int row;   // of the product
    int entry; // of the batch
    int token; // of the entry
    int r;     // of the tile
    int chunk;
};

// Calls body(piece) for rows of a tile from `begin` on, 16 lanes a row. All lanes of a warp call
// it equally often, those beyond the last row too.
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

// RMSNorm of a head, of which 16 lanes have 8 columns each, and its rotation by neighbouring
// pairs, as rope.cu does it.
__device__ __forceinline__ void turn(float (&x)[8], const float (&weight)[8], float4 cosines,
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
    const int turned_columns = e.queries + e.keys;
    const bool eight = e.queries8 != nullptr;
    float weight[2][8];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const bool query = u.first + half * HALF < e.queries;
        const auto w = fixed((query ? e.query_weight : e.key_weight) + place);
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
        if (u.first < turned_columns && there) {
            const int64_t angle = (token * HALF + place) / 2;
            c = __ldg(reinterpret_cast<const float4 *>(e.cos + angle));
            s = __ldg(reinterpret_cast<const float4 *>(e.sin + angle));
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int column = u.first + half * HALF;
            float x[8];
            widen<bf16, 8>(sums_at(shared.sums[half], at.r, at.chunk), x);
            if (column < turned_columns) {
                turn(x, weight[half], c, s, e.eps);
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
                const int before = eight ? turned_columns : 0;
                store_away(e.heads + row * (e.head_columns - before) + column - before + place, y);
            }
        }
    });
    if (eight && u.second >= turned_columns) {
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
        }
        if (threadIdx.x % 32 == 0) {
            // Floats that are not negative are in the order of their bits.
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
            store_away(to + at.row * e.mlp_stride + at.chunk * 8, up);
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
            const auto x = fixed(e.x + to);
            const auto gate = fixed(e.gate + at.entry * e.gate_stride + column);
            auto y = load<bf16, 8>(sums_at(shared.sums[half], at.r, at.chunk));
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                y.at[j] = narrow<bf16>(wide(x.at[j]) + wide(gate.at[j]) * wide(y.at[j]));
            }
            store_away(e.out + to, y);
        }
    });
}

template <typename End>
__device__ __forceinline__ void finish_all(const Product &p, const End &end, Shared &shared,
                                           int warp) {
    const int rank = int(hopper::cluster_rank());
    Turn<1> tile;
    each_unit(p, end, [&](const Unit &u) {
        hopper::barrier_wait(&shared.multiplied, tile.parity);
        if (shared.whole) {
            finish(p, end, u, u.row + rank * TILE_ROWS, warp, shared);
        }
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            hopper::barrier_arrive(&shared.finished);
        }
        tile.advance();
    });
}

template <typename T, typename End>
__device__ __forceinline__ void product(const CUtensorMap &x, const CUtensorMap &w,
                                        const Product &p, const End &end) {
    extern __shared__ __align__(1024) uint8_t memory[];
    auto &shared = *reinterpret_cast<Shared *>(memory);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; ++stage) {
            hopper::barrier_init(&shared.full[stage], 1);
            hopper::barrier_init(&shared.empty[stage], BLOCKS * MULTIPLIERS / GROUP);
        }
        hopper::barrier_init(&shared.multiplied, MULTIPLIERS / 32);
        hopper::barrier_init(&shared.finished, FINISHERS);
        hopper::barrier_init_fence();
    }
    hopper::cluster_sync();
    // The compiler cannot know that they are the same in a warp.
    const int group = __shfl_sync(0xffffffffu, threadIdx.x / GROUP, 0);
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x % GROUP / 32, 0);
    if (group == 2) {
        hopper::fewer_registers<80>();
        if (warp < FINISHERS) {
            finish_all(p, end, shared, warp);
        } else if (threadIdx.x % 32 == 0) {
            fetch<T>(&x, &w, p, end, shared);
        }
    } else {
        hopper::more_registers<208>();
        multiply<T>(p, end, shared, group);
    }
    // A block that is gone could not be written to, nor hear that a stage is empty.
    __syncwarp();
    hopper::cluster_sync();
}

#define PRODUCT(NAME, TYPE, END)                                                                  \
    extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS, 1)       \
        NAME(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,        \
             const __grid_constant__ Product p, const __grid_constant__ END end) {                \
        product<TYPE>(x, w, p, end);                                                              \
    }
PRODUCT(projected_bf16, bf16, Projected)
PRODUCT(projected_fp8, e4m3, Projected)
PRODUCT(gated_bf16, bf16, Gated)
PRODUCT(gated_fp8, e4m3, Gated)
