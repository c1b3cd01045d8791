#include "pass.h"

#include <algorithm>
#include <cstring>

namespace bothways {
namespace {

void copy_rows(const float* from, int stride, int rows, int columns, float* to) {
  for (int row = 0; row < rows; row++)
    std::memcpy(to + (ptrdiff_t)row * columns, from + (ptrdiff_t)row * stride, columns * sizeof(float));
}

size_t in_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

const NormWeights kNone;

}  // namespace

// A group more than a row needs makes the stride of most networks an odd number of cache lines, which spreads rows over the
// cache's sets.
Pass::Pass(const Network& network, const Weights& weights, const Kernels& kernels, const TokenBatch& batch, Chunk chunk,
           const Member& member)
    : network_(network),
      weights_(weights),
      kernels_(kernels),
      batch_(batch),
      chunk_(chunk),
      member_(member),
      first_(batch.starts[chunk.begin]),
      tokens_(batch.starts[chunk.end] - first_),
      rows_(member.share(tokens_)),
      stride_(whole_groups(std::max(network.hidden, network.embedding)) + kGroup),
      context_(network.heads * weights.head_size) {}

// A thread alone takes the feed-forward part block by block, so that `inner` stays in its cache. A team keeps all blocks,
// as it would have to wait after each. The sums are the same.
int Pass::blocks_at_once() const { return member_.size == 1 ? 1 : (int)weights_.layers[0].feed_forward.size(); }

size_t Pass::block_bytes() const {
  const int columns = weights_.layers[0].feed_forward[0].inner.columns;
  return in_lines(std::max(kernels_.operand_bytes(tokens_, columns), floats_bytes(tokens_, columns)));
}

Pass::Places Pass::places() const {
  Places at{};
  const auto take = [&](size_t& place, size_t bytes) {
    place = at.end;
    at.end += in_lines(bytes);
  };
  take(at.hidden, sizeof(float) * whole_row_groups(tokens_) * stride_);
  take(at.operand, kernels_.operand_bytes(tokens_, std::max({network_.hidden, network_.embedding, context_})));
  if (network_.layers() == 0) return at;
  take(at.heads, kernels_.heads_bytes(tokens_, network_.heads, weights_.head_size));
  take(at.inner, block_bytes() * blocks_at_once());
  const size_t context = kernels_.converts_context ? floats_bytes(tokens_, context_) : 0;
  const size_t inner = kernels_.converts_inner || network_.gated ? block_bytes() * blocks_at_once() : 0;
  take(at.floats, std::max(context, inner));
  take(at.residual, weights_.layers[0].residual_norm.weight.data() ? sizeof(float) * tokens_ * stride_ : 0);
  take(at.convolution, network_.convolution ? sizeof(float) * whole_row_groups(tokens_) * stride_ : 0);
  take(at.shifted, network_.convolution ? sizeof(float) * tokens_ * stride_ : 0);
  return at;
}

void Pass::reserve_shared(Workspace& workspace) const { workspace.activations.reserve(places().end); }

void Pass::reserve_own(Workspace& own) const {
  int longest = 0, deepest = std::max({network_.hidden, network_.embedding, context_});
  for (int i = chunk_.begin; i < chunk_.end; i++) longest = std::max(longest, batch_.length(i));
  for (const Layer& layer : weights_.layers)
    for (const FeedForward& block : layer.feed_forward) deepest = std::max(deepest, block.output.depth);
  size_t attention = network_.layers() ? kernels_.attention_scratch(longest, weights_.head_size) : 0;
  if (!weights_.vector_columns.empty()) attention += kernels_.vectors_scratch(longest, weights_.head_size);
  const size_t row = stride_ + kernels_.head_group;
  own.scratch.reserve(std::max(sizeof(float) * std::max(attention, row), kernels_.linear_scratch(deepest)));
}

void Pass::run(Workspace& shared, Workspace& own, Rows rows, const Output& output) {
  char* const room = static_cast<char*>(shared.activations.data());
  const Places at = places();
  hidden_ = (float*)(room + at.hidden);
  x_ = room + at.operand;
  heads_ = room + at.heads;
  inner_ = room + at.inner;
  floats_ = (float*)(room + at.floats);
  convolution_ = (float*)(room + at.convolution);
  shifted_ = (float*)(room + at.shifted);
  residual_ = (float*)(room + at.residual);
  scratch_ = own.scratch.data();
  embed();
  const bool pre = network_.pre_norm;
  const NormWeights* ahead = &weights_.embeddings_norm;  // hidden still has to pass it, if any
  if (weights_.projection.columns) {
    project();
    if (!network_.projection_first) ahead = &kNone;
  }
  for (int number = 0; number < network_.layers(); number++) {
    const Layer& layer = weights_.layers[network_.stored_layers[number]];
    if (ahead) norm(*ahead, Keep::yes);
    write_layer(number, output);
    if (number == 0 && network_.convolution) convolve();
    if (pre) norm(layer.attention_norm, Keep::no);
    keep_residual(layer);
    attend(layer, number, output);
    if (pre)
      norm(layer.output_norm, Keep::no);
    else
      norm(layer.attention_norm, Keep::yes);
    add_residual(layer);
    feed_forward(layer);
    ahead = pre ? nullptr : &layer.output_norm;
    if (number == 0 && network_.convolution) {
      norm(*ahead, Keep::yes);
      add_convolution();
      ahead = &weights_.convolution_norm;
    }
  }
  last_norm(pre ? weights_.final_norm : *ahead, rows, output);
}

// Every row is normed by the member that embedded it, so none waits between.
void Pass::embed() {
  const int begin = first_ + rows_.begin;
  kernels_.embed({.word = weights_.word,
                  .position = weights_.position,
                  .token_type = weights_.token_type,
                  .ids = batch_.ids + begin,
                  .positions = batch_.positions + begin,
                  .token_types = batch_.token_types + begin,
                  .rows = rows_.end - rows_.begin,
                  .columns = network_.embedding,
                  .hidden = hidden_ + (ptrdiff_t)rows_.begin * stride_,
                  .stride = stride_});
}

// hidden = projection(norm(hidden)), from (T, E) to (T, H); the norm may be left to stand behind it
void Pass::project() {
  Norm rows = norm_of(network_.projection_first ? kNone : weights_.embeddings_norm);
  rows.columns = network_.embedding;
  rows.begin = rows_.begin;
  rows.end = rows_.end;
  kernels_.norm(rows);
  std::fill(hidden_ + (ptrdiff_t)rows_.begin * stride_, hidden_ + (ptrdiff_t)rows_.end * stride_, 0.0f);
  member_.wait();
  linear(x_, weights_.projection, Activation::none, Into::hidden, hidden_);
  member_.wait();
}

// Computes what the embeddings' convolution adds behind the first layer: a product for each token that it sees.
void Pass::convolve() {
  std::fill(convolution_ + (ptrdiff_t)rows_.begin * stride_, convolution_ + (ptrdiff_t)rows_.end * stride_, 0.0f);
  Norm rows{.hidden = shifted_,
            .stride = stride_,
            .rows = tokens_,
            .columns = network_.hidden,
            .weight = nullptr,
            .bias = nullptr,
            .eps = 0,
            .operand = x_,
            .begin = rows_.begin,
            .end = rows_.end};
  for (int token = 0; token < network_.convolution; token++) {
    shift_rows(token - network_.convolution / 2);
    kernels_.norm(rows);
    member_.wait();
    linear(x_, weights_.convolution[token], Activation::none, Into::hidden, convolution_);
    member_.wait();
  }
  rows.hidden = hidden_;
  kernels_.norm(rows);
  member_.wait();
}

// Each row becomes that of the token so far behind it; past a sequence's ends there are zeros.
void Pass::shift_rows(int distance) {
  for (int i = chunk_.begin; i < chunk_.end; i++) {
    const int begin = batch_.starts[i] - first_, end = batch_.starts[i + 1] - first_;
    for (int row = std::max(begin, rows_.begin); row < std::min(end, rows_.end); row++) {
      float* const to = shifted_ + (ptrdiff_t)row * stride_;
      const int from = row + distance;
      if (from < begin || from >= end)
        std::fill_n(to, stride_, 0.0f);
      else
        std::memcpy(to, hidden_ + (ptrdiff_t)from * stride_, stride_ * sizeof(float));
    }
  }
}

// hidden += activation(convolution)
void Pass::add_convolution() {
  kernels_.add({.x = convolution_,
                .stride = stride_,
                .rows = tokens_,
                .columns = network_.hidden,
                .activation = network_.convolution_activation,
                .hidden = hidden_,
                .begin = rows_.begin,
                .end = rows_.end});
  member_.wait();
}

// hidden += output(attention(heads(x)))
void Pass::attend(const Layer& layer, int number, const Output& output) {
  linear(x_, layer.heads, Activation::none, Into::heads, heads_);
  member_.wait();
  if (layer.query_norm.weight.data()) norm_heads(layer);
  if (network_.rotary[number] >= 0) rotate(number);
  attention(layer, number, output);
  member_.wait();
  if (kernels_.converts_context) {
    convert(floats_, context_, x_);
    member_.wait();
  }
  linear(x_, layer.attention_output, Activation::none, Into::hidden, hidden_);
  member_.wait();
}

void Pass::norm_heads(const Layer& layer) {
  const NormWeights &queries = layer.query_norm, &keys = layer.key_norm;
  kernels_.norm_heads({.heads = heads_,
                       .rows = tokens_,
                       .num_heads = network_.heads,
                       .head_size = weights_.head_size,
                       .size = network_.head_size(),
                       .weight = {queries.weight.floats(), keys.weight.floats()},
                       .bias = {queries.bias.floats(), keys.bias.floats()},
                       .eps = network_.eps,
                       .room = static_cast<float*>(scratch_),
                       .begin = rows_.begin,
                       .end = rows_.end});
  member_.wait();
}

void Pass::rotate(int number) {
  kernels_.rotate({.heads = heads_,
                   .rows = tokens_,
                   .num_heads = network_.heads,
                   .head_size = weights_.head_size,
                   .angles = weights_.angles[network_.rotary[number]].floats(),
                   .positions = batch_.positions + first_,
                   .begin = rows_.begin,
                   .end = rows_.end});
  member_.wait();
}

void Pass::attention(const Layer& layer, int number, const Output& output) {
  const Range heads = member_.share(network_.heads);
  for (int i = chunk_.begin; i < chunk_.end; i++) {
    const ptrdiff_t scores = (ptrdiff_t)network_.heads * batch_.length(i) * batch_.length(i);
    kernels_.attention({.heads = heads_,
                        .rows = tokens_,
                        .begin = batch_.starts[i] - first_,
                        .end = batch_.starts[i + 1] - first_,
                        .num_heads = network_.heads,
                        .head_size = weights_.head_size,
                        .out = kernels_.converts_context ? floats_ : x_,
                        .scratch = static_cast<float*>(scratch_),
                        .probabilities = output.attentions.empty() ? nullptr : output.attentions[i] + number * scores,
                        .first_head = heads.begin,
                        .last_head = heads.end,
                        .bias = weights_.relative_bias.floats(),
                        .reach = network_.reach,
                        .window = network_.windows[number] < 0 ? kAll : network_.windows[number],
                        .vectors = layer.vectors.column ? &layer.vectors : nullptr,
                        .keys = batch_.keys ? batch_.keys[i] : kAll});
  }
}

// Every member keeps the rows that it norms.
void Pass::keep_residual(const Layer& layer) {
  if (!layer.residual_norm.weight.data()) return;
  const ptrdiff_t begin = (ptrdiff_t)rows_.begin * stride_, end = (ptrdiff_t)rows_.end * stride_;
  std::copy(hidden_ + begin, hidden_ + end, residual_ + begin);
}

// hidden = norm(hidden + what it was before attention)
void Pass::add_residual(const Layer& layer) {
  if (!layer.residual_norm.weight.data()) return;
  const ptrdiff_t end = (ptrdiff_t)rows_.end * stride_;
  for (ptrdiff_t i = (ptrdiff_t)rows_.begin * stride_; i < end; i++) hidden_[i] += residual_[i];
  norm(layer.residual_norm, Keep::yes);
}

// hidden += output(activation(inner(x))), some blocks of inner columns at a time
void Pass::feed_forward(const Layer& layer) {
  const int count = (int)layer.feed_forward.size(), step = blocks_at_once();
  const size_t bytes = block_bytes();
  for (int begin = 0; begin < count; begin += step) {
    const int end = std::min(begin + step, count);
    const auto operand = [&](int block) -> void* { return inner_ + (block - begin) * bytes; };
    const auto floats = [&](int block) { return (float*)((char*)floats_ + (block - begin) * bytes); };
    for (int block = begin; block < end; block++) {
      const Matrix& inner = layer.feed_forward[block].inner;
      if (network_.gated)
        linear(x_, inner, Activation::none, Into::floats, floats(block));
      else
        linear(x_, inner, network_.activation, Into::inner, kernels_.converts_inner ? floats(block) : operand(block));
    }
    member_.wait();
    if (network_.gated || kernels_.converts_inner) {
      for (int block = begin; block < end; block++)
        finish_inner(floats(block), layer.feed_forward[block].output.depth, operand(block));
      member_.wait();
    }
    for (int block = begin; block < end; block++)
      linear(operand(block), layer.feed_forward[block].output, Activation::none, Into::hidden, hidden_);
  }
  member_.wait();
}

Norm Pass::norm_of(const NormWeights& weights) const {
  return {.hidden = hidden_,
          .stride = stride_,
          .rows = tokens_,
          .columns = network_.hidden,
          .weight = weights.weight.floats(),
          .bias = weights.bias.floats(),
          .eps = network_.eps,
          .operand = x_,
          .centred = !network_.rms_norm};
}

// x = norm(hidden), and hidden too if it is kept. Without a norm, x = hidden.
void Pass::norm(const NormWeights& weights, Keep keep) {
  Norm rows = norm_of(weights);
  if (keep == Keep::no) rows.room = static_cast<float*>(scratch_);
  rows.begin = rows_.begin;
  rows.end = rows_.end;
  kernels_.norm(rows);
  member_.wait();
}

// Where only vectors are wanted, the rows that they are made of are never written.
void Pass::last_norm(const NormWeights& weights, Rows rows, const Output& output) {
  if (rows != Rows::all) {
    if (network_.layers() == 0) member_.wait();  // for the embedding, after which nobody has waited
    if (member_.number == 0) write_means(weights, rows, output);
    member_.wait();
  }
  if (rows != Rows::all && !output.layers) return;
  norm(weights, Keep::yes);
  write_layer(network_.layers(), output);
  if (rows == Rows::all && member_.number == 0)
    copy_rows(hidden_, stride_, tokens_, network_.hidden, output.rows + (ptrdiff_t)first_ * network_.hidden);
}

void Pass::linear(const void* x, const Matrix& matrix, Activation activation, Into into, void* out) {
  const Range columns = member_.share(matrix.columns, kernels_.panel);
  kernels_.linear({.x = x,
                   .weight = matrix.packed,
                   .bias = matrix.bias.floats(),
                   .rows = tokens_,
                   .columns = matrix.columns,
                   .depth = matrix.depth,
                   .activation = activation,
                   .into = into,
                   .out = out,
                   .stride = stride_,
                   .scratch = scratch_,
                   .begin = columns.begin,
                   .end = columns.end});
}

void Pass::finish_inner(float* floats, int columns, void* operand) {
  if (!network_.gated) return convert(floats, columns, operand);
  kernels_.gate({.floats = floats,
                 .rows = tokens_,
                 .columns = columns,
                 .activation = network_.activation,
                 .operand = operand,
                 .begin = rows_.begin,
                 .end = rows_.end});
}

void Pass::convert(const float* floats, int columns, void* operand) {
  kernels_.convert(
      {.floats = floats, .rows = tokens_, .columns = columns, .operand = operand, .begin = rows_.begin, .end = rows_.end});
}

// Called right after norm, whose rows no member changes before it has read them.
void Pass::write_layer(int number, const Output& output) const {
  if (!output.layers) return;
  const int size = network_.hidden;
  copy_rows(hidden_ + (ptrdiff_t)rows_.begin * stride_, stride_, rows_.end - rows_.begin, size,
            output.layers + ((ptrdiff_t)number * batch_.tokens() + first_ + rows_.begin) * size);
}

// Of every sequence's rows, or of its first alone.
void Pass::write_means(const NormWeights& weights, Rows rows, const Output& output) const {
  for (int i = chunk_.begin; i < chunk_.end; i++) {
    Norm sequence = norm_of(weights);
    sequence.begin = batch_.starts[i] - first_;
    sequence.end = sequence.begin + (rows == Rows::first ? 1 : batch_.length(i));
    kernels_.norm_mean(sequence, static_cast<float*>(scratch_), output.rows + (ptrdiff_t)i * network_.hidden);
  }
}

}  // namespace bothways
