// The table of kernels: everything that depends on the instruction set, behind function pointers.
//
// Each level (generic, avx2, avx512) fills one table in its own translation unit, compiled with its own
// flags. A level also decides how it stores what its products read: `weight` (a packed matrix), `operand`
// (the left side of a product) and `heads` (queries, keys and values on their way to attention) are opaque to
// everybody else. `hidden` is plain float32 rows for all levels, `stride` floats apart.
//
// This header is seen by every translation unit, so it holds no code and includes nothing of the library's.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace bothways {

enum class Dtype { f32, f16, bf16 };

enum class Activation { none, gelu, gelu_tanh, gelu_fast, quick_gelu, relu, silu, tanh };

// Where a product goes: an operand or heads storage with room for `rows` rows, or added to hidden rows.
enum class Into { operand, heads, hidden };

// Columns are stored in groups of 16; storage always has room for whole groups, and fills the rest with zeros.
constexpr int kGroup = 16;
constexpr int whole_groups(int columns) { return (columns + kGroup - 1) / kGroup * kGroup; }

// out = activation(x * weight^T + bias), or hidden += x * weight^T + bias.
struct Linear {
  const void* x;       // operand (rows, depth)
  const void* weight;  // packed (columns, depth)
  const float* bias;   // whole_groups(columns) floats, or null
  int rows, columns, depth;
  Activation activation;
  Into into;
  void* out;
  int stride;  // of hidden
};

// One sequence's attention: for every head, softmax(queries * keys^T) * values.
struct Attention {
  const void* heads;  // rows of (queries | keys | values), each num_heads * head_size columns
  int rows;           // rows of the storage
  int begin, end;     // the sequence's rows
  int num_heads, head_size;  // head_size is a multiple of kGroup
  void* out;                 // operand (rows, num_heads * head_size)
  float* scratch;            // attention_scratch(end - begin, head_size) floats
  float* probabilities;      // (num_heads, end - begin, end - begin), or null
};

// hidden = (hidden - mean) / sqrt(variance + eps) * weight + bias, kept and also written as an operand.
struct Norm {
  float* hidden;
  int stride, rows, columns;
  const float* weight;  // whole_groups(columns) floats, as is bias
  const float* bias;
  float eps;
  void* operand;
};

// A table of the checkpoint, as it is stored.
struct Table {
  const void* data;  // (rows, columns), aligned to its element, or null for no table
  Dtype dtype;
};

// hidden = word[id] + position[position] + token_type[token_type].
struct Embed {
  Table word, position, token_type;
  const int32_t* ids;
  const int32_t* positions;
  const int32_t* token_types;
  int rows, columns;
  float* hidden;
  int stride;
};

struct Kernels {
  const char* name;
  unsigned needs;  // the cpu features (cpu.h) that its code may use

  size_t (*weight_bytes)(int columns, int depth);
  void (*pack_weight)(const float* weight, int columns, int depth, void* packed);
  size_t (*operand_bytes)(int rows, int columns);
  size_t (*heads_bytes)(int rows, int num_heads, int head_size);
  void (*store_operand)(const float* x, int stride, int rows, int columns, void* operand);
  size_t (*attention_scratch)(int tokens, int head_size);

  void (*embed)(const Embed&);
  void (*norm)(const Norm&);
  void (*linear)(const Linear&);
  void (*attention)(const Attention&);
  void (*mean)(const float* hidden, int stride, int rows, int columns, float* out);
  void (*to_float)(const void* data, Dtype dtype, size_t count, float* out);
};

namespace generic { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }

}  // namespace bothways
