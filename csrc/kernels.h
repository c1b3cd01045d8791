// The table of kernels: everything that depends on the instruction set, behind function pointers.
//
// Each level (generic, avx2, avx512, amx) fills one table for each dtype in its own translation unit, compiled with
// its own flags. A table also decides how it stores what its products read: `weight` (a packed matrix), `operand`
// (the left side of a product) and `heads` (queries, keys and values on their way to attention) are opaque to
// everybody else. Two kinds of storage are float32 and the same for all: `hidden`, plain rows that lie `stride`
// floats apart, and `floats`, [group of 16 columns][row][16].
//
// This header is seen by every translation unit, so it holds no code and includes nothing of the library's.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace bothways {

enum class Dtype { f32, f16, bf16 };

enum class Activation { none, gelu, gelu_tanh, gelu_fast, quick_gelu, relu, silu, tanh };

// Where a product goes: storage with room for `rows` rows, or added to hidden rows. `inner` is for another product
// to read: floats if the table converts them first, else an operand. `floats` are for `gate`.
enum class Into { inner, floats, heads, hidden };

// Columns are stored in groups of 16; storage always has room for whole groups, and fills the rest with zeros.
constexpr int kGroup = 16;
constexpr int whole_groups(int columns) { return (columns + kGroup - 1) / kGroup * kGroup; }
constexpr size_t floats_bytes(int rows, int columns) { return sizeof(float) * rows * whole_groups(columns); }

// Hidden rows have room for whole groups of rows; what is behind the last row means nothing.
constexpr int kRowGroup = 32;
constexpr int whole_row_groups(int rows) { return (rows + kRowGroup - 1) / kRowGroup * kRowGroup; }

constexpr int kAll = INT32_MAX;

constexpr int kVectorBlock = 32, kVectorMargin = 32;

// out = activation(x * weight^T + bias), or hidden += x * weight^T + bias.
struct Linear {
  const void* x;       // operand (rows, depth)
  const void* weight;  // packed (columns, depth)
  const float* bias;   // whole_groups(columns) floats, or null
  int rows, columns, depth;  // at least 1
  Activation activation;
  Into into;
  void* out;
  int stride;               // of hidden
  void* scratch = nullptr;  // linear_scratch(depth) bytes
  int begin = 0, end = kAll;  // the columns to compute: from one panel's first on to another's, or to the last
};

// Vectors by how far a key is behind its query, for each head: a score gets its query's product with one of `keys`, and its
// key's with one of `queries`.
struct RelativeVectors {
  const void *keys, *queries;  // packed by pack_vectors, head by head, or null for none; those of `queries` in units of score_unit
  size_t head_bytes;           // from one head's to the next one's; 0 where all heads have the same
  int columns;                 // of each head
  const int32_t* column;       // by distance from -reach to reach, 0 in the middle: each is its neighbour's before it, or the next
  int reach;                   // at least the distance of the furthest key
  int near;                    // from -near to near every distance has a column of its own
};

// One sequence's attention: for every head, softmax(queries * keys^T) * values.
struct Attention {
  const void* heads;  // rows of (queries | keys | values), each num_heads * head_size columns
  int rows;           // rows of the storage
  int begin, end;     // the sequence's rows
  int num_heads, head_size;  // head_size is a multiple of the table's head_group
  void* out;                 // (rows, num_heads * head_size): floats if the table converts the context, else an operand
  float* scratch;            // attention_scratch(end - begin, head_size) floats, with vectors vectors_scratch() more
  float* probabilities;      // (num_heads, end - begin, end - begin), or null
  int first_head = 0, last_head = kAll;  // the heads to compute, the last not among them
  // (num_heads, 2 * reach + 1), or null: added to a score by how far its key is behind the query, from -reach to reach, in
  // units of score_unit; keys further away have the outermost.
  const float* bias = nullptr;
  int reach = 0;
  int window = kAll;  // keys further away from a query have no share
  const RelativeVectors* vectors = nullptr;  // or null; only without bias and window
  int keys = kAll;    // only so many of the sequence's rows, its first ones, are keys; a query that sees none comes to zero
};

// hidden = (hidden - mean) / sqrt(variance + eps) * weight + bias, kept and also written as an operand.
struct Norm {
  float* hidden;
  int stride, rows, columns;
  const float* weight;  // whole_groups(columns) floats, as is bias; null for no norm: the operand is hidden as it is
  const float* bias;
  float eps;
  void* operand;
  int begin = 0, end = kAll;  // the rows to compute
  float* room = nullptr;      // whole_groups(columns) floats for a row on its way to the operand: hidden stays as it is
  bool centred = true;        // else the mean counts as 0 (RMS norm)
};

// operand = floats.
struct Convert {
  const float* floats;  // (rows, columns), zeros past the columns
  int rows, columns;
  void* operand;
  int begin = 0, end = kAll;  // the rows to convert
};

// operand = activation(gates) * values, which are the first and the second half of floats' whole groups. Floats are
// written to.
struct Gate {
  float* floats;  // (rows, 2 * whole_groups(columns)), zeros past the columns of either half
  int rows, columns;
  Activation activation;
  void* operand;              // (rows, columns)
  int begin = 0, end = kAll;  // the rows to compute
};

// hidden += activation(x), whose rows are as hidden's and are written to.
struct Add {
  float* x;
  int stride, rows, columns;
  Activation activation;
  float* hidden;
  int begin = 0, end = kAll;  // the rows to add
};

// Turns each pair of a query's or a key's numbers by an angle of its position's: x, y = x cos - y sin, y cos + x sin. Of every
// 32 columns the first 16 are pairs' x, the others their y.
struct Rotate {
  void* heads;  // rows of (queries | keys | values)
  int rows, num_heads, head_size;  // head_size is a multiple of 32
  const float* angles;             // by position: for every 32 columns 16 cosines, then 16 sines
  const int32_t* positions;        // (rows)
  int begin = 0, end = kAll;       // the rows to turn
};

// Norms each row's queries, those of all heads as one vector, and its keys as another.
struct NormHeads {
  void* heads;  // rows of (queries | keys | values)
  int rows, num_heads, head_size;
  int size;  // a head's numbers: what is stored behind them is zero and stays so
  const float *weight[2], *bias[2];  // of queries and of keys, whole_groups(num_heads * size) floats each
  float eps;
  float* room;                // whole_groups(num_heads * size) + head_group floats
  int begin = 0, end = kAll;  // the rows to norm
};

// A table of the checkpoint, as it is stored.
struct Table {
  const void* data;  // (rows, columns), aligned to its element, or null for no table
  Dtype dtype;
};

// hidden = word[id] + position[position] + token_type[token_type], of the last two what is there.
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
  const char* level;
  const char* dtype;
  unsigned needs;  // the cpu features (cpu.h) that its code may use
  int panel;       // the columns that a product computes at once: threads share its columns by whole panels
  int head_group;  // heads are stored in whole groups of so many columns, a multiple of kGroup

  // A packed weight is its panels one after the other, so panels can be packed one by one:
  // weight_bytes(n * panel, depth) is where panel n begins.
  size_t (*weight_bytes)(int columns, int depth);
  void (*pack_weight)(const float* weight, int columns, int depth, void* packed);
  size_t (*operand_bytes)(int rows, int columns);
  size_t (*heads_bytes)(int rows, int num_heads, int head_size);
  size_t (*linear_scratch)(int depth);
  size_t (*attention_scratch)(int tokens, int head_size);

  // RelativeVectors of one head, from (columns, head_size). The columns are whole kVectorBlocks, distance 0's begins one, and
  // kVectorMargin columns before the first distance's and behind the last one's are zero.
  size_t (*vectors_bytes)(int columns, int head_size);
  void (*pack_vectors)(const float* vectors, int columns, int head_size, void* packed);
  size_t (*vectors_scratch)(int tokens, int head_size);  // floats

  void (*embed)(const Embed&);
  // The mean of what embed gives: one row of hidden, zeros where there are no rows.
  void (*embed_mean)(const Embed&);
  void (*norm)(const Norm&);
  // out = the mean of the normed rows, which are not kept; `sum` is room for whole_groups(columns) floats.
  void (*norm_mean)(const Norm&, float* sum, float* out);
  void (*linear)(const Linear&);
  void (*attention)(const Attention&);
  void (*to_float)(const void* data, Dtype dtype, size_t count, float* out);

  void (*add)(const Add&);
  void (*convert)(const Convert&);
  void (*gate)(const Gate&);
  void (*rotate)(const Rotate&);
  void (*norm_heads)(const NormHeads&);

  // Set where products (inner) or attention (context) can't write an operand, as it needs a whole row's numbers at once:
  // then they write floats, to be converted.
  bool converts_inner = false, converts_context = false;

  // Does `rounds` rounds of the arithmetic's multiply-adds on registers alone; returns how many operations these are.
  double (*peak)(long rounds);

  // What a thread does before its first and after its last kernel; null for nothing.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;

  // Tells whether the instructions do what they should; null where nobody has seen them fail. May be called without enter.
  bool (*works)() = nullptr;

  // Attention takes e^(score / score_unit): queries are packed multiplied by it.
  float score_unit = 1;

  // The table for rows that must be float32 throughout, such as a head's, where it isn't the level's own.
  const Kernels* plain = nullptr;
};

// Every level has as many tables: float32, bfloat16, int8.
constexpr int kDtypes = 3;

namespace generic { extern const Kernels kernels[kDtypes]; }
namespace avx2 { extern const Kernels kernels[kDtypes]; }
namespace avx512 { extern const Kernels kernels[kDtypes]; }
namespace amx { extern const Kernels kernels[kDtypes]; }

}  // namespace bothways
