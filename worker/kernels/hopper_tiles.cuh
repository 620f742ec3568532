// How a Hopper product (hopper_product.cu) is divided into tiles, and the layout of shared memory.
#pragma once

#include "fp8.cuh"
#include "hopper.cuh"

using e4m3 = __nv_fp8_e4m3;

constexpr int TILE_ROWS = 128;
constexpr int TILE_COLUMNS = 256;
constexpr int HALF = TILE_COLUMNS / 2; // columns of a head, or of up or gate in a tile
constexpr int BLOCKS = 2;              // per cluster
constexpr int ROW_BYTES = 128;         // of a tile along K: the TMA's largest swizzle
constexpr int STAGES = 3;
constexpr int GROUP = 128; // threads that issue one product
constexpr int MULTIPLIERS = 2 * GROUP;
constexpr int THREADS = 3 * GROUP;
constexpr int FINISHERS = 3; // warps

struct Shared {
    struct Stage {
        uint8_t x[TILE_ROWS * ROW_BYTES];
        uint8_t w[TILE_COLUMNS * ROW_BYTES];
    } stages[STAGES];
    bf16 sums[2][TILE_ROWS * HALF]; // of the last finished tile
    // Biases and scales of a tile's columns. Copies are ahead by at most as many tiles as stages.
    struct Columns {
        bf16 bias[2][HALF];
        float scale[2][HALF];
    } columns[STAGES + 1];
    uint64_t full[STAGES];
    uint64_t empty[STAGES];
    uint64_t multiplied;
    uint64_t finished;
    int whole; // whether `sums` holds a complete tile, not one of several parts
};

static_assert(sizeof(Shared) == 219208, "hopper.rs asks for this much");

// Parameters that all epilogues share.
struct Product {
    const bf16 *bias;      // [N]
    const float *x_scales; // [rows], for E4M3
    const float *w_scales; // [N], for E4M3
    float *partial;        // [blocks of the GPU, tile]: sums of the parts of split tiles
    int *arrived;          // [blocks of the GPU]: zeros before and after a launch
    int rows;
    int steps;     // steps of ROW_BYTES along K
    int row_tiles; // tiles of a cluster, 256 rows each
    int column_tiles;
    int group_row_tiles; // row tiles per group; groups are computed one after another
    int uncut;           // number of tiles that are not split, which come first
    int parts;           // parts per split tile
};

// A cluster's unit of work: a tile, or a part of one along K.
struct Unit {
    int row;    // first row
    int first;  // first row of W for the first half of the columns
    int second; // and for the second half
    int begin;  // first step along K
    int end;
    int cut; // index of the tile among the split ones, or -1
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
    const int per_group = p.group_row_tiles * p.column_tiles;
    const int begin = tile / per_group * p.group_row_tiles;
    const int rows = min(p.group_row_tiles, p.row_tiles - begin);
    const int rest = tile % per_group;
    u.row = (begin + rest % rows) * BLOCKS * TILE_ROWS;
    u.first = rest / rows * TILE_COLUMNS;
    u.second = u.first + HALF;
    return u;
}

// Low-rank updates: t [rows, R] and B [N, R] in bf16. R consists of steps of ROW_BYTES; the first
// of those that HALF columns of the result need, and the end of them, follow one another in `steps`
// [N / HALF].
struct Update {
    const CUtensorMap *inner;
    const CUtensorMap *up;
    const int2 *steps;
};

// The steps along R of a unit: those of both halves of its columns. B is zero where a half does not
// need a step. Of a split tile's parts, the last has them.
__device__ __forceinline__ int2 update_steps(const Product &p, const Update &update,
                                             const Unit &u) {
    if (u.end < p.steps) {
        return {0, 0};
    }
    const int2 a = __ldg(update.steps + u.first / HALF);
    const int2 b = __ldg(update.steps + u.second / HALF);
    if (a.x == a.y) {
        return b;
    }
    if (b.x == b.y) {
        return a;
    }
    return {min(a.x, b.x), max(a.y, b.y)};
}

// Address of chunk c (8 columns) of row r of a half. 8 neighbouring rows use different banks.
__device__ __forceinline__ bf16 *sums_at(bf16 *half, int r, int c) {
    return half + r * HALF + ((c ^ (r & 7)) << 3);
}
