// Level avx512: x86-64-v4 and VNNI, float32.
#include <immintrin.h>
#include "cpu.h"
#include "kernels.h"

namespace bothways::avx512 {
namespace {  // nothing but the table leaves this translation unit
#include "vec_avx512.h"

#include "ops.h"

#include "gemm_f32.h"

#include "attention_f32.h"
}  // namespace

constinit const Kernels kernels{
    .name = "avx512",
    .needs = cpu::kX86V3 | cpu::kX86V4 | cpu::kVnni,
    .weight_bytes = weight_bytes,
    .pack_weight = pack_weight,
    .operand_bytes = operand_bytes,
    .heads_bytes = heads_bytes,
    .store_operand = store_operand,
    .attention_scratch = attention_scratch,
    .embed = embed,
    .norm = norm,
    .linear = linear,
    .attention = attention,
    .mean = mean,
    .to_float = to_float,
};
}  // namespace bothways::avx512
