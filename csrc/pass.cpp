#include "pass.h"

#include <algorithm>
#include <cstring>

namespace bothways {
namespace {

void copy_rows(const float* from, int stride, int rows, int columns, float* to) {
  for (int row = 0; row < rows; row++)
    std::memcpy(to + (ptrdiff_t)row * columns, from + (ptrdiff_t)row * stride, columns * sizeof(float));
}

}  // namespace

// A group more than a row needs makes the stride of most networks an odd number of cache lines, which spreads rows over the
// cache's sets.
Pass::Pass(const Network& network, const Weights& weights, const Kernels& kernels, const TokenBatch& batch, Chunk chunk,
           Workspace& workspace)
    : network_(network),
      weights_(weights),
      kernels_(kernels),
      batch_(batch),
      chunk_(chunk),
      first_(batch.starts[chunk.begin]),
      tokens_(batch.starts[chunk.end] - first_),
      stride_(whole_groups(network.hidden) + kGroup),
      workspace_(workspace) {
  const int head_size = network.stored_head_size();
  int longest = 0;
  for (int i = chunk.begin; i < chunk.end; i++) longest = std::max(longest, batch.length(i));
  workspace.hidden.reserve(sizeof(float) * tokens_ * stride_);
  workspace.operand.reserve(kernels.operand_bytes(tokens_, std::max(network.hidden, network.heads * head_size)));
  workspace.heads.reserve(kernels.heads_bytes(tokens_, network.heads, head_size));
  workspace.scratch.reserve(sizeof(float) * kernels.attention_scratch(longest, head_size));
  hidden_ = workspace.hidden.floats();
  x_ = workspace.operand.data();
}

void Pass::run(Rows rows, const Output& output) const {
  embed();
  norm(weights_.embeddings_norm);
  write_layer(0, output);
  for (int number = 0; number < network_.layers; number++) {
    const Layer& layer = weights_.layers[number];
    attend(layer, number, output);
    norm(layer.attention_norm);
    feed_forward(layer);
    norm(layer.output_norm);
    write_layer(number + 1, output);
  }
  write_rows(rows, output);
}

void Pass::embed() const {
  kernels_.embed({.word = weights_.word,
                  .position = weights_.position,
                  .token_type = weights_.token_type,
                  .ids = batch_.ids + first_,
                  .positions = batch_.positions + first_,
                  .token_types = batch_.token_types + first_,
                  .rows = tokens_,
                  .columns = network_.hidden,
                  .hidden = hidden_,
                  .stride = stride_});
}

// hidden += output(attention(heads(x)))
void Pass::attend(const Layer& layer, int number, const Output& output) const {
  void* const heads = workspace_.heads.data();  // (T, 3 * N * D)
  linear(x_, layer.heads, Activation::none, Into::heads, heads);
  for (int i = chunk_.begin; i < chunk_.end; i++) {
    const ptrdiff_t scores = (ptrdiff_t)network_.heads * batch_.length(i) * batch_.length(i);
    kernels_.attention({.heads = heads,
                        .rows = tokens_,
                        .begin = batch_.starts[i] - first_,
                        .end = batch_.starts[i + 1] - first_,
                        .num_heads = network_.heads,
                        .head_size = network_.stored_head_size(),
                        .out = x_,
                        .scratch = workspace_.scratch.floats(),
                        .probabilities = output.attentions.empty() ? nullptr : output.attentions[i] + number * scores});
  }
  linear(x_, layer.attention_output, Activation::none, Into::hidden, hidden_);
}

// hidden += output(activation(inner(x))), a block of inner columns at a time
void Pass::feed_forward(const Layer& layer) const {
  for (const FeedForward& block : layer.feed_forward) {
    workspace_.inner.reserve(kernels_.operand_bytes(tokens_, block.inner.columns));
    void* const inner = workspace_.inner.data();  // (T, the block's part of I)
    linear(x_, block.inner, network_.activation, Into::operand, inner);
    linear(inner, block.output, Activation::none, Into::hidden, hidden_);
  }
}

// x = hidden = norm(hidden)
void Pass::norm(const NormWeights& weights) const {
  kernels_.norm({.hidden = hidden_,
                 .stride = stride_,
                 .rows = tokens_,
                 .columns = network_.hidden,
                 .weight = weights.weight.floats(),
                 .bias = weights.bias.floats(),
                 .eps = network_.eps,
                 .operand = x_});
}

void Pass::linear(const void* x, const Matrix& matrix, Activation activation, Into into, void* out) const {
  kernels_.linear({.x = x,
                   .weight = matrix.packed.data(),
                   .bias = matrix.bias.floats(),
                   .rows = tokens_,
                   .columns = matrix.columns,
                   .depth = matrix.depth,
                   .activation = activation,
                   .into = into,
                   .out = out,
                   .stride = stride_});
}

void Pass::write_layer(int number, const Output& output) const {
  if (!output.layers) return;
  const int size = network_.hidden;
  copy_rows(hidden_, stride_, tokens_, size, output.layers + ((ptrdiff_t)number * batch_.tokens() + first_) * size);
}

void Pass::write_rows(Rows rows, const Output& output) const {
  const int size = network_.hidden;
  if (rows == Rows::all) {
    copy_rows(hidden_, stride_, tokens_, size, output.rows + (ptrdiff_t)first_ * size);
    return;
  }
  for (int i = chunk_.begin; i < chunk_.end; i++) {
    const float* sequence = hidden_ + (ptrdiff_t)(batch_.starts[i] - first_) * stride_;
    kernels_.mean(sequence, stride_, rows == Rows::first ? 1 : batch_.length(i), size, output.rows + (ptrdiff_t)i * size);
  }
}

}  // namespace bothways
