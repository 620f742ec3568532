// Hopper's instructions: matrix products of shared memory by a group of four warps, copies of tiles
// by the tensor memory accelerator (TMA), and the barriers that order them.
//
// Source: NVIDIA, "Parallel Thread Execution ISA", 8.5: wgmma, cp.async.bulk.tensor, mbarrier.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cstdint>

namespace hopper {

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// --- barriers ---

__device__ __forceinline__ void barrier_init(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals));
}

// Makes initialised barriers visible to the other blocks of the cluster and to the TMA.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_wait(uint64_t *barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}\n" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// Arrives, and makes the barrier also wait for so many bytes of copies.
__device__ __forceinline__ void barrier_expect(uint64_t *barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}

// Arrives at the same barrier of block `rank` of the cluster. It hands back memory that wgmma has
// read, and waiting for the products already orders those reads, so it needs no release to the
// whole cluster, which would stall the threads for a memory fence of the GPU.
__device__ __forceinline__ void barrier_arrive(uint64_t *barrier, uint32_t rank) {
    asm volatile(
        "{\n.reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(
            shared_address(barrier)),
        "r"(rank)
        : "memory");
}

// Waits for N threads of the block that use this barrier number.
template <int N>
__device__ __forceinline__ void group_sync(int number) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(N) : "memory");
}

__device__ __forceinline__ uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

// --- copies ---

// Copies the box at (column, row) of a matrix into shared memory, of this block or (with a mask) at
// the same address in several blocks of the cluster. Its bytes are counted at each one's `barrier`.
__device__ __forceinline__ void copy_box(void *to, const CUtensorMap *from, uint64_t *barrier,
                                         int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
                 "l"(from), "r"(shared_address(barrier)), "r"(column), "r"(row)
                 : "memory");
}

__device__ __forceinline__ void copy_box_to(uint16_t blocks, void *to, const CUtensorMap *from,
                                            uint64_t *barrier, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
                 "l"(from), "r"(shared_address(barrier)), "r"(column), "r"(row), "h"(blocks)
                 : "memory");
}

// Copies a multiple of 16 bytes between addresses that are multiples of 16.
__device__ __forceinline__ void copy_bytes(void *to, const void *from, uint64_t *barrier,
                                           uint32_t bytes) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))
                 : "memory");
}

// --- products ---

// Describes a tile of rows of 128 bytes in the TMA's swizzle, whose pattern of 1024 bytes covers 8
// rows.
__device__ __forceinline__ uint64_t tile(const void *p) {
    constexpr uint64_t SWIZZLE_128 = 1ull << 62;
    constexpr uint64_t PATTERN = uint64_t(1024 >> 4) << 32;
    constexpr uint64_t UNUSED = 1ull << 16; // the leading offset, which swizzled rows do not use
    return SWIZZLE_128 | PATTERN | UNUSED | ((shared_address(p) & 0x3ffff) >> 4);
}

// The descriptor of a tile moved by a multiple of 16 bytes: to other rows, or 32 along the row.
__device__ __forceinline__ uint64_t moved(uint64_t tile, int bytes) { return tile + (bytes >> 4); }

__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most N committed groups are in progress.
template <int N>
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

template <int N>
__device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N>
__device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// Stores four 8 x 8 matrices of 16 bits to shared memory; lane l gives the address of row l % 8 of
// matrix l / 8. The compiler may move the thread's own reads across it: they are of other
// addresses.
__device__ __forceinline__ void store_matrices(void *row, const uint32_t (&v)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     shared_address(row)),
                 "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]));
}

// Enqueues d = a b^T (+ d if `add`) for tiles of 64 and of 256 rows and 32 bytes of T. The thread
// at lane l of warp w holds, for each 8 columns c, d[4 c + 2 i + j] at row
// 16 w + l / 4 + 8 i and column 8 c + 2 (l % 4) + j.
template <typename T>
__device__ __forceinline__ void multiply(float (&d)[128], uint64_t a, uint64_t b, int add);

// The 128 sums, as the instruction's register list and as its operands.
#define SUM_REGISTERS                                                                             \
    "{"                                                                                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, "                                                            \
    "%8, %9, %10, %11, %12, %13, %14, %15, "                                                      \
    "%16, %17, %18, %19, %20, %21, %22, %23, "                                                    \
    "%24, %25, %26, %27, %28, %29, %30, %31, "                                                    \
    "%32, %33, %34, %35, %36, %37, %38, %39, "                                                    \
    "%40, %41, %42, %43, %44, %45, %46, %47, "                                                    \
    "%48, %49, %50, %51, %52, %53, %54, %55, "                                                    \
    "%56, %57, %58, %59, %60, %61, %62, %63, "                                                    \
    "%64, %65, %66, %67, %68, %69, %70, %71, "                                                    \
    "%72, %73, %74, %75, %76, %77, %78, %79, "                                                    \
    "%80, %81, %82, %83, %84, %85, %86, %87, "                                                    \
    "%88, %89, %90, %91, %92, %93, %94, %95, "                                                    \
    "%96, %97, %98, %99, %100, %101, %102, %103, "                                                \
    "%104, %105, %106, %107, %108, %109, %110, %111, "                                            \
    "%112, %113, %114, %115, %116, %117, %118, %119, "                                            \
    "%120, %121, %122, %123, %124, %125, %126, %127}"                                             
#define SUMS_8(i)                                                                                 \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),   \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS_32(i) SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24)

// SHAPE and TYPES name the instruction; TRANSPOSED holds its transposition operands, if it has any.
#define MULTIPLY(TYPE, SHAPE, TYPES, TRANSPOSED)                                                  \
    template <>                                                                                   \
    __device__ __forceinline__ void multiply<TYPE>(float(&d)[128], uint64_t a, uint64_t b,        \
                                                   int add) {                                     \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                \
                     "wgmma.mma_async.sync.aligned." SHAPE "." TYPES " " SUM_REGISTERS            \
                     ", %128, %129, p, 1, 1" TRANSPOSED ";\n}\n"                                  \
                     : SUMS_32(0), SUMS_32(32), SUMS_32(64), SUMS_32(96)                          \
                     : "l"(a), "l"(b), "r"(add));                                                 \
    }
MULTIPLY(__nv_bfloat16, "m64n256k16", "f32.bf16.bf16", ", 0, 0")
MULTIPLY(__nv_fp8_e4m3, "m64n256k32", "f32.e4m3.e4m3", "")
#undef MULTIPLY
#undef SUMS_32
#undef SUMS_8
#undef SUM_REGISTERS

} // namespace hopper
