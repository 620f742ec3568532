// A matrix product for Hopper (sm_90a), fused with the operation that follows it in a transformer
// block, so that the wide projections are never stored in memory:
//
//   projected   head norms and rotation of the columns of q, k and v; SwiGLU of up and gate
//   gated       x + gate * y
//
// y = x W^T + bias, rounded to bf16; x [rows, K] and W [N, K] are bf16, or E4M3 with a float32
// scale per row.
//
// A block computes tiles of 128 rows and 256 columns, one after another, in a pipeline of three
// kinds of warps that communicate through shared memory: one starts TMA copies of x and W, 128
// bytes along K at a time; two groups of four multiply; the others run the epilogue of a finished
// tile while the next one is multiplied. Two blocks form a cluster. Their tiles are stacked
// vertically, and each loads one half of W's tile for both, which halves the traffic from L2.
//
// If the last round of tiles would leave most of the GPU idle, its tiles are split along K into
// parts.
//
// The kernels `updated` also add low-rank updates of W before the bias: y = x W^T + t B^T, with
// t [rows, R] and B [N, R] in bf16. Their products are further steps of the same sums, of those
// columns along R alone that belong to a tile's rows of B.
#include "hopper_epilogues.cuh"
#include "hopper_tiles.cuh"

__device__ __forceinline__ uint32_t both(float a, float b) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    return reinterpret_cast<const uint32_t &>(pair);
}

// The next stage of a ring, and the parity of its barriers' phase.
template <int PLACES>
struct RingIndex {
    int place = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        if (++place == PLACES) {
            place = 0;
            parity ^= 1;
        }
    }
};

// Calls body(unit) for each unit of this cluster.
template <typename End, typename Body>
__device__ __forceinline__ void each_unit(const Product &p, const End &end, Body body) {
    for (int n = blockIdx.x / BLOCKS; n < units(p); n += gridDim.x / BLOCKS) {
        body(unit_of(p, end, n));
    }
}

// Run by one thread: starts the copies of this block's tiles as stages become empty.
template <typename T, bool UPDATED, typename End>
__device__ __forceinline__ void fetch(const CUtensorMap *x, const CUtensorMap *w, const Product &p,
                                      const Update &update, const End &end, Shared &shared) {
    constexpr int K = ROW_BYTES / sizeof(T);
    const uint32_t rank = hopper::cluster_rank();
    RingIndex<STAGES> ring;
    RingIndex<STAGES + 1> unit;
    // Expects the bytes of a unit's first stage and of its columns' biases and scales.
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
            auto &stage = shared.stages[ring.place];
            uint64_t *full = &shared.full[ring.place];
            hopper::barrier_wait(&shared.empty[ring.place], ring.parity ^ 1);
            if (step == u.begin) {
                columns(u, full);
            } else {
                hopper::barrier_expect(full, sizeof(stage));
            }
            hopper::copy_box(stage.x, x, full, step * K, row);
            hopper::copy_box_to(0b11, stage.w + rank * HALF * ROW_BYTES, w, full, step * K, w_row);
            ring.advance();
        }
        if constexpr (UPDATED) {
            constexpr int R = ROW_BYTES / sizeof(bf16);
            const int2 more = update_steps(p, update, u);
            for (int step = more.x; step < more.y; ++step) {
                auto &stage = shared.stages[ring.place];
                uint64_t *full = &shared.full[ring.place];
                hopper::barrier_wait(&shared.empty[ring.place], ring.parity ^ 1);
                hopper::barrier_expect(full, sizeof(stage));
                hopper::copy_box(stage.x, update.inner, full, step * R, row);
                hopper::copy_box_to(0b11, stage.w + rank * HALF * ROW_BYTES, update.up, full,
                                    step * R, w_row);
                ring.advance();
            }
        }
    });
}

// Adds up the parts of a split tile. Returns true in the block that arrives last, which then has
// the total. The order of the additions is always the same.
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

// Multiplies the sums of a group's 64 rows of E4M3 products with the scales of rows and columns.
__device__ __forceinline__ void scale_sums(float (&sums)[128], const Product &p, int row,
                                           const Shared::Columns &columns) {
    const int first = row + threadIdx.x % GROUP / 32 * 16 + threadIdx.x % 32 / 4;
    float x_scales[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int r = first + 8 * i;
        x_scales[i] = r < p.rows ? __ldg(p.x_scales + r) : 0.0f;
    }
#pragma unroll
    for (int c = 0; c < TILE_COLUMNS / 8; ++c) {
        const auto scales = load<float, 2>(columns.scale[0] + c * 8 + threadIdx.x % 4 * 2);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            sums[c * 4 + j] *= x_scales[j / 2] * scales.at[j % 2];
        }
    }
}

// Stages 64 rows of a tile for the epilogue: scaled unless they are already, with bias, in bf16.
// `row` is the group's first row in the product, and `at` in the block's tile; hopper.cuh describes
// which thread holds what.
template <typename T, bool SCALED>
__device__ __forceinline__ void stage_rows(const float (&sums)[128], const Product &p, int row,
                                           int at, const Shared::Columns &columns, Shared &shared) {
    const int lane = threadIdx.x % 32;
    const int warp_row = threadIdx.x % GROUP / 32 * 16;
    constexpr bool TO_SCALE = sizeof(T) == 1 && !SCALED;
    float x_scale[2] = {1.0f, 1.0f};
    if constexpr (TO_SCALE) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int r = row + warp_row + lane / 4 + 8 * i;
            x_scale[i] = r < p.rows ? __ldg(p.x_scales + r) : 0.0f;
        }
    }
    // Scales and biases of this thread's two columns of a chunk of 8.
    struct Pair {
        Pack<bf16, 2> bias;
        Pack<float, 2> scale;
    };
    const auto pair_of = [&](int c) {
        const int column = c * 8 + lane % 4 * 2;
        Pair pair = {load<bf16, 2>(columns.bias[0] + column), {1.0f, 1.0f}};
        if constexpr (TO_SCALE) {
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

// Run by group `group` of four warps: multiplies 64 rows of every tile.
template <typename T, bool UPDATED, typename End>
__device__ __forceinline__ void multiply(const Product &p, const Update &update, const End &end,
                                         Shared &shared, int group) {
    const int first = group * 64;
    const uint64_t x = hopper::tile(shared.stages[0].x + first * ROW_BYTES);
    const uint64_t w = hopper::tile(shared.stages[0].w);
    float sums[128];
    RingIndex<STAGES> ring;
    RingIndex<1> tile;
    RingIndex<STAGES + 1> unit;
    // Both blocks of the cluster write to a stage, so both are told that it is empty.
    const auto release = [&](int stage) {
        if (threadIdx.x % GROUP < BLOCKS) {
            hopper::barrier_arrive(&shared.empty[stage], threadIdx.x % GROUP);
        }
    };
    each_unit(p, end, [&](const Unit &u) {
        int before = 0;
        for (int step = u.begin; step < u.end; ++step) {
            hopper::barrier_wait(&shared.full[ring.place], ring.parity);
            hopper::products_begin();
            const int stage = ring.place * sizeof(Shared::Stage);
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
            before = ring.place;
            ring.advance();
        }
        const auto row = [&] {
            return u.row + int(hopper::cluster_rank()) * TILE_ROWS + first;
        };
        if constexpr (UPDATED) {
            if constexpr (sizeof(T) == 1) {
                hopper::products_wait<0>();
                scale_sums(sums, p, row(), shared.columns[unit.place]);
            }
            const int2 more = update_steps(p, update, u);
            for (int step = more.x; step < more.y; ++step) {
                hopper::barrier_wait(&shared.full[ring.place], ring.parity);
                hopper::products_begin();
                const int stage = ring.place * sizeof(Shared::Stage);
#pragma unroll
                for (int at = 0; at < ROW_BYTES; at += 32) {
                    hopper::multiply<bf16>(sums, hopper::moved(x, stage + at),
                                           hopper::moved(w, stage + at), 1);
                }
                hopper::products_commit();
                hopper::products_wait<1>();
                release(before);
                before = ring.place;
                ring.advance();
            }
        }
        hopper::products_wait<0>();
        release(before);
        hopper::barrier_wait(&shared.finished, tile.parity ^ 1);
        const bool whole = u.cut < 0 || gather(p, u, shared, sums);
        if (whole) {
            stage_rows<T, UPDATED>(sums, p, row(), first, shared.columns[unit.place], shared);
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

template <typename End>
__device__ __forceinline__ void finish_all(const Product &p, const End &end, Shared &shared,
                                           int warp) {
    const int rank = int(hopper::cluster_rank());
    RingIndex<1> tile;
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

template <typename T, bool UPDATED, typename End>
__device__ __forceinline__ void product(const CUtensorMap &x, const CUtensorMap &w,
                                        const Product &p, const Update &update, const End &end) {
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
    // Tells the compiler that the value is the same in all lanes of a warp.
    const int group = __shfl_sync(0xffffffffu, threadIdx.x / GROUP, 0);
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x % GROUP / 32, 0);
    if (group == 2) {
        hopper::fewer_registers<80>();
        if (warp < FINISHERS) {
            finish_all(p, end, shared, warp);
        } else if (threadIdx.x % 32 == 0) {
            fetch<T, UPDATED>(&x, &w, p, update, end, shared);
        }
    } else {
        hopper::more_registers<208>();
        multiply<T, UPDATED>(p, update, end, shared, group);
    }
    // A block must not exit while the other still writes to its memory or its barriers.
    __syncwarp();
    hopper::cluster_sync();
}

#define PRODUCT(NAME, TYPE, END)                                                                  \
    extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS, 1)       \
        NAME(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,        \
             const __grid_constant__ Product p, const __grid_constant__ END end) {                \
        product<TYPE, false>(x, w, p, {}, end);                                                   \
    }                                                                                             \
    extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(THREADS, 1)       \
        updated_##NAME(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w, \
                       const __grid_constant__ Product p, const __grid_constant__ END end,        \
                       const __grid_constant__ CUtensorMap inner,                                 \
                       const __grid_constant__ CUtensorMap up, const int2 *steps) {               \
        product<TYPE, true>(x, w, p, {&inner, &up, steps}, end);                                  \
    }
PRODUCT(projected_bf16, bf16, Projected)
PRODUCT(projected_fp8, e4m3, Projected)
PRODUCT(gated_bf16, bf16, Gated)
PRODUCT(gated_fp8, e4m3, Gated)
