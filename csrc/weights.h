// A checkpoint's tensors, packed once for the kernels that will read them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "pool.h"

namespace bothways {

// What a network is (the C++ side of Python's Spec).
struct Network {
  int vocabulary = 0, positions = 0, token_types = 0, embedding = 0, hidden = 0, heads = 0, key_heads = 0, inner = 0;
  Activation activation = Activation::none;
  float eps = 0;
  int reach = 0;  // of the relative bias: keys further away have what the outermost have
  // Of the vectors by distance: for every distance of a key behind its query, from the furthest before it on, the row of the
  // tables, or none; how many rows those have; and whether queries meet position keys, and keys position queries.
  std::vector<int> vector_rows;
  int vector_table_rows = 0;
  bool position_keys = false, position_queries = false;
  int score_terms = 1;           // scores are divided by the root of head size * terms
  bool projection_first = false;  // stands before the embeddings' norm
  int convolution = 0, convolution_groups = 1;  // tokens of the convolution beside the first layer, or 0 for none
  Activation convolution_activation = Activation::none;
  bool pre_norm = false;          // norms stand before attention and the feed-forward part, not behind them
  bool rms_norm = false;
  bool gated = false;        // inner columns are activation(gate) * inner
  bool interleaved = false;  // which columns a rotary pair is: 2 i and 2 i + 1, else i and i + head size / 2
  // For every layer: the stored one whose weights it uses, the rotary frequencies it turns heads by, or -1, and how far away
  // the furthest key is that a query sees, or -1 for all.
  std::vector<int> stored_layers, rotary, windows;

  int layers() const { return (int)stored_layers.size(); }
  int head_size() const { return hidden / heads; }
};

// Gives the tensor with a canonical name (spec.py), row-major and aligned, with exactly `count` elements; without data if
// there is none.
using Tensors = std::function<Table(const std::string& name, size_t count)>;

// A product's right side: packed (columns, depth) and its bias.
struct Matrix {
  int columns = 0, depth = 0;
  void* packed = nullptr;  // in the storage of all weights, or in its own
  Buffer bias, own;
};

// Without numbers where the network has no such norm.
struct NormWeights {
  Buffer weight, bias;
};

// A range of the feed-forward part's inner columns: computing it block by block keeps `inner` in the cache.
struct FeedForward {
  Matrix inner, output;  // a gated one's inner columns: whole groups of gates, then of values
};

struct Layer {
  // Queries, keys and values of all heads. Queries are scaled by score_unit / sqrt(head size * terms): here, or in their norm.
  Matrix heads;
  NormWeights query_norm, key_norm;
  Buffer position_keys, position_queries;  // packed for attention, or none
  RelativeVectors vectors{};               // of these two
  Matrix attention_output;
  NormWeights attention_norm, residual_norm;
  std::vector<FeedForward> feed_forward;
  NormWeights output_norm;
};

struct Weights {
  Table word, position, token_type;  // where the checkpoint has them; the last two if it does
  std::vector<Buffer> angles;        // for each of the network's rotary frequencies (Rotate::angles)
  NormWeights embeddings_norm;
  Buffer relative_bias;  // (N, 2 * reach + 1) in units of score_unit, or none
  std::vector<int32_t> vector_columns;  // RelativeVectors::column, from the first
  Matrix projection;  // of embeddings to hidden; without columns if they are hidden already
  std::vector<Matrix> convolution;  // for each of its tokens, in order; the first one's bias is that of all
  NormWeights convolution_norm;
  int head_size;  // as heads are stored: in whole groups of columns, the ones past the network's own are zero
  std::vector<Layer> layers;  // by stored number
  NormWeights final_norm;     // of a network with norms before
  Buffer storage;  // of all matrices: one piece, so that it has huge pages

  // Whether hidden is what the tables have, as it is.
  bool are_tables() const { return layers.empty() && !projection.columns && !embeddings_norm.weight.data(); }
};

// Packs panel by panel on the pool's threads, straight from the checkpoint: no tensor is ever copied as a whole.
Weights pack_weights(const Network&, const Tensors&, const Kernels&, Pool&);

// Packs float32 (columns, depth) and bias (columns), which may be null.
Matrix pack_matrix(const float* weight, const float* bias, int columns, int depth, const Kernels&);

}  // namespace bothways
