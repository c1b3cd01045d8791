// Level generic: any CPU, float32.
#include "cpu.h"
#include "kernels.h"

namespace bothways::generic {
namespace {  // nothing but the table leaves this translation unit
#include "vec_generic.h"

#include "ops.h"

#include "gemm_f32.h"

#include "attention_f32.h"
}  // namespace

constinit const Kernels kernels{
    .name = "generic",
    .needs = 0,
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
}  // namespace bothways::generic
