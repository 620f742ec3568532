// How a Hopper product (hopper_product.cu) is divided into tiles, and where a tile's parts lie in
// shared memory.
#pragma once

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

// Where chunk c (8 columns) of row r of a half lies: no two rows of 8 share banks.
__device__ __forceinline__ bf16 *sums_at(bf16 *half, int r, int c) {
    return half + r * HALF + ((c ^ (r & 7)) << 3);
}
