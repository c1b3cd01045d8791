// Level generic: any CPU.
#include "cpu.h"
#include "kernels.h"

namespace bothways::generic {
namespace {  // nothing but the tables leaves this translation unit
#include "vec_generic.h"

#include "ops.h"

#include "gemm_f32.h"

#include "quantize.h"

#include "gemm_int8.h"

#include "relative.h"

#include "vectors_f32.h"

#include "attention_f32.h"

#include "peak.h"

#include "tables.h"

constexpr unsigned kNeeds = 0;
}  // namespace

constinit const Kernels kernels[kDtypes] = {
    float32_table("generic", kNeeds), bfloat16_table("generic", kNeeds), int8_table("generic", kNeeds)};
}  // namespace bothways::generic
