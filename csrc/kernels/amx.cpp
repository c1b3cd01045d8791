// Level amx: tiles of bfloat16 and int8, with AVX-512 for everything between the products.
#include <immintrin.h>
#include "cpu.h"
#include "kernels.h"

namespace bothways::amx {
namespace {  // nothing but the tables leaves this translation unit
#include "vec_avx512.h"

#include "ops.h"

#include "quantize.h"

#include "tiles.h"

#include "operands_amx.h"

#include "gemm_amx.h"

#include "relative.h"

#include "shares_amx.h"

#include "vectors_amx.h"

#include "attention_amx.h"

#include "peak_amx.h"

constexpr unsigned kNeeds = cpu::kX86V3 | cpu::kX86V4 | cpu::kVnni | cpu::kAmx;

// Some machines announce tiles that compute nothing or nonsense: one product of each kind, with known answers.
bool tiles_work() {
  alignas(64) uint16_t ones[kTileBytes / 2];
  alignas(64) int8_t twos[kTileBytes];
  alignas(64) float floats[256];
  alignas(64) int32_t wholes[256];
  for (uint16_t& one : ones) one = 0x3f80;
  for (int8_t& two : twos) two = 2;
  tiles_enter();
  tile_load<4>(ones);
  tile_load<5>(ones);
  tile_load<6>(twos);
  tile_load<7>(twos);
  tile_zero<0>();
  tile_zero<1>();
  tile_dot_bf16<0, 4, 5>();
  tile_dot_int8<1, 6, 7>();
  tile_store<0>(floats);
  tile_store<1>(wholes);
  tiles_leave();
  for (int i = 0; i < 256; i++)
    if (floats[i] != 32 || wholes[i] != 256) return false;
  return true;
}

constexpr Kernels bf16_table(const char* dtype) {
  return {.level = "amx",
          .dtype = dtype,
          .needs = kNeeds,
          .panel = kBlock,
          .head_group = kBlock,
          .weight_bytes = tiles_weight_bytes<Bf16Format<1>>,
          .pack_weight = pack_tiles_weight<Bf16Format<1>>,
          .operand_bytes = Bf16Format<1>::bytes,
          .heads_bytes = TileHeads<1>::bytes,
          .linear_scratch = [](int) -> size_t { return 0; },
          .attention_scratch = tiles_attention_scratch<1>,
          .vectors_bytes = tile_vectors_bytes<1>,
          .pack_vectors = pack_tiles_weight<Bf16Format<1>>,
          .vectors_scratch = tile_vectors_scratch<1>,
          .embed = embed,
          .embed_mean = embed_mean,
          .norm = norm<Bf16Format<1>>,
          .norm_mean = norm_mean,
          .linear = linear_bf16<1>,
          .attention = attention_bf16<1>,
          .to_float = to_float,
          .add = add,
          .convert = convert<Bf16Format<1>>,
          .gate = gate<Bf16Format<1>>,
          .rotate = rotate_tiles<1>,
          .norm_heads = norm_heads<TileHeads<1>>,
          .peak = bf16_tile_peak,
          .enter = tiles_enter,
          .leave = tiles_leave,
          .works = tiles_work,
          .score_unit = Shares<1>::kUnit,
          .plain = avx512::kernels};  // amx needs all that avx512 needs
}

constexpr Kernels float32_table() {
  Kernels table = bf16_table("float32");
  table.weight_bytes = tiles_weight_bytes<Bf16Format<2>>;
  table.pack_weight = pack_tiles_weight<Bf16Format<2>>;
  table.operand_bytes = Bf16Format<2>::bytes;
  table.heads_bytes = TileHeads<2>::bytes;
  table.attention_scratch = tiles_attention_scratch<2>;
  table.vectors_bytes = tile_vectors_bytes<2>;
  table.pack_vectors = pack_tiles_weight<Bf16Format<2>>;
  table.vectors_scratch = tile_vectors_scratch<2>;
  table.norm = norm<Bf16Format<2>>;
  table.linear = linear_bf16<2>;
  table.attention = attention_bf16<2>;
  table.score_unit = Shares<2>::kUnit;
  table.convert = convert<Bf16Format<2>>;
  table.gate = gate<Bf16Format<2>>;
  table.rotate = rotate_tiles<2>;
  table.norm_heads = norm_heads<TileHeads<2>>;
  table.peak = float32_tile_peak;
  return table;
}

constexpr Kernels int8_table() {
  Kernels table = bf16_table("int8");
  table.weight_bytes = tiles_weight_bytes<Int8Format>;
  table.pack_weight = pack_tiles_weight<Int8Format>;
  table.operand_bytes = Int8Format::bytes;
  table.norm = norm<Int8Format>;
  table.linear = linear_tiles_int8;
  table.attention = attention_to_floats;
  table.convert = convert<Int8Format>;
  table.gate = gate<Int8Format>;
  table.converts_inner = table.converts_context = true;
  table.peak = int8_tile_peak;
  return table;
}
}  // namespace

constinit const Kernels kernels[kDtypes] = {float32_table(), bf16_table("bfloat16"), int8_table()};
}  // namespace bothways::amx
