#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "float_mode.h"
#include "vectors.h"

namespace bothways {
namespace {

constexpr int kInnerBlock = 512;  // of a gated one half as many, as there are two numbers to each

int rounded(int count, int step) { return (count + step - 1) / step * step; }

// Where tiles and vectors may be loaded from.
size_t in_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Writes one column of a weight: its `depth` numbers, which are zero before.
using Fetch = std::function<void(int column, float* out)>;

// Plans a network's matrices first, then packs all their panels side by side.
class Packer {
 public:
  Packer(const Network& network, const Tensors& tensors, const Kernels& kernels)
      : network_(network),
        tensors_(tensors),
        kernels_(kernels),
        head_size_(turns() ? 2 * rounded(network.head_size() / 2, kGroup) : rounded(network.head_size(), kernels.head_group)) {}

  int head_size() const { return head_size_; }

  Table table(const std::string& name, size_t count) const {
    const Table found = tensors_(name, count);
    if (!found.data) throw std::invalid_argument("tensor '" + name + "' is missing");
    return found;
  }

  NormWeights norm(const std::string& name, int size) const {
    if (!tensors_(name + ".weight", size).data) return {};
    Buffer bias = optional_vector(name + ".bias", size);
    if (!bias.data()) bias = Buffer(whole_groups(size) * sizeof(float));
    return {vector(name + ".weight", size), std::move(bias)};
  }

  void plan(Layer& layer, int number) {
    const std::string prefix = "layers." + std::to_string(number) + ".";
    plan_head_norms(layer, prefix);
    plan_heads(layer, prefix);
    plan_attention_output(layer.attention_output, prefix + "attention_output");
    layer.attention_norm = norm(prefix + "attention_norm", network_.hidden);
    layer.residual_norm = norm(prefix + "residual_norm", network_.hidden);
    plan_feed_forward(layer.feed_forward, prefix);
    layer.output_norm = norm(prefix + "output_norm", network_.hidden);
  }

  // By head and distance; (N, 2 * reach + 1).
  Buffer relative_bias() const {
    const size_t count = (size_t)network_.heads * (2 * network_.reach + 1);
    if (!network_.reach) return {};
    Buffer bias(count * sizeof(float));
    copy(table("relative_bias", count), 0, count, bias.floats());
    for (size_t i = 0; i < count; i++) bias.floats()[i] *= kernels_.score_unit;
    return bias;
  }

  // Cosines and sines of position * frequency, in float32 as transformers has them: their rounding is far from nothing at high
  // positions, and networks were trained with it.
  std::vector<Buffer> angles() const {
    std::vector<Buffer> sets;
    const int pairs = network_.head_size() / 2;
    for (int set = 0; set <= *std::max_element(network_.rotary.begin(), network_.rotary.end()); set++) {
      const Buffer frequencies = vector("rotary." + std::to_string(set), pairs);
      Buffer& result = sets.emplace_back(sizeof(float) * network_.positions * head_size_);
      for (int position = 0; position < network_.positions; position++)
        for (int pair = 0; pair < pairs; pair++) {
          const double angle = (float)position * frequencies.floats()[pair];
          float* out = result.floats() + (ptrdiff_t)position * head_size_ + pair / kGroup * 2 * kGroup + pair % kGroup;
          out[0] = (float)std::cos(angle);
          out[kGroup] = (float)std::sin(angle);
        }
    }
    return sets;
  }

  void plan_projection(Matrix& matrix) {
    const int columns = network_.hidden, depth = network_.embedding;
    const Table from = tensors_("embeddings.projection.weight", (size_t)columns * depth);
    if (!from.data) return;
    add(matrix, columns, depth, [=, this](int column, float* out) { copy(from, (size_t)column * depth, depth, out); });
    matrix.bias = optional_vector("embeddings.projection.bias", columns);
  }

  // A matrix for each token: a column's numbers of its group of columns, which lie a token apart.
  void plan_convolution(std::vector<Matrix>& matrices) {
    const int hidden = network_.hidden, tokens = network_.convolution, group = hidden / network_.convolution_groups;
    if (!tokens) return;
    const Table from = table("convolution.weight", (size_t)hidden * group * tokens);
    matrices.resize(tokens);
    for (int token = 0; token < tokens; token++)
      add(matrices[token], hidden, hidden, [=, this](int column, float* out) {
        std::vector<float> numbers((size_t)group * tokens);
        copy(from, column * numbers.size(), (int)numbers.size(), numbers.data());
        for (int i = 0; i < group; i++) out[column / group * group + i] = numbers[(size_t)i * tokens + token];
      });
    matrices[0].bias = vector("convolution.bias", hidden);
  }

  // Packs everything planned, and returns where it lies.
  Buffer pack(Pool& pool) const {
    Buffer storage = Buffer::uncleared(bytes_);
    for (const Plan& plan : plans_) plan.matrix->packed = (char*)storage.data() + plan.begin;
    pool.run((int)panels_.size(), [&](int number, Workspace& workspace) {
      const FloatMode mode;
      pack_panel(panels_[number], workspace);
    });
    return storage;
  }

 private:
  struct Plan {
    Matrix* matrix;
    size_t begin;  // of its packed form in the storage
    Fetch fetch;
  };
  struct Panel {
    int plan, column;
  };

  void copy(const Table& from, size_t begin, int count, float* out) const {
    const size_t size = from.dtype == Dtype::f32 ? sizeof(float) : sizeof(uint16_t);
    kernels_.to_float((const char*)from.data + begin * size, from.dtype, count, out);
  }

  // A vector filled up with zeros to whole groups.
  Buffer vector(const std::string& name, int count) const {
    Buffer result(whole_groups(count) * sizeof(float));
    copy(table(name, count), 0, count, result.floats());
    return result;
  }

  // Empty if there is none.
  Buffer optional_vector(const std::string& name, int count) const {
    return tensors_(name, count).data ? vector(name, count) : Buffer();
  }

  bool turns() const { return std::any_of(network_.rotary.begin(), network_.rotary.end(), [](int set) { return set >= 0; }); }

  // Which of a head's columns stands in a stored one, or -1 for none. Pairs that are turned stand 16 columns apart (Rotate).
  int source(int part, int stored) const {
    const int size = network_.head_size();
    if (part == 2 || !turns()) return stored < size ? stored : -1;
    const int pair = stored / (2 * kGroup) * kGroup + stored % kGroup, second = stored / kGroup % 2;
    if (pair >= size / 2) return -1;
    return network_.interleaved ? 2 * pair + second : pair + second * (size / 2);
  }

  void add(Matrix& matrix, int columns, int depth, Fetch fetch) {
    matrix.columns = columns;
    matrix.depth = depth;
    for (int column = 0; column < columns; column += kernels_.panel) panels_.push_back({(int)plans_.size(), column});
    plans_.push_back({&matrix, bytes_, std::move(fetch)});
    bytes_ += in_lines(kernels_.weight_bytes(columns, depth));
  }

  void plan_head_norms(Layer& layer, const std::string& prefix) {
    layer.query_norm = norm(prefix + "query_norm", network_.hidden);
    layer.key_norm = norm(prefix + "key_norm", network_.hidden);
    if (!layer.query_norm.weight.data()) return;
    if (turns() || network_.key_heads != network_.heads)
      throw std::invalid_argument("queries and keys that are normed can't be turned or shared by heads");
    for (Buffer* numbers : {&layer.query_norm.weight, &layer.query_norm.bias})
      for (int i = 0; i < network_.hidden; i++) numbers->floats()[i] *= score_scale();
  }

  void plan_heads(Layer& layer, const std::string& prefix) {
    Matrix& matrix = layer.heads;
    const float query_scale = layer.query_norm.weight.data() ? 1 : score_scale();
    const int hidden = network_.hidden, size = network_.head_size(), stored = head_size_;
    const int part_columns = network_.heads * stored;
    const char* const names[] = {"query", "key", "value"};
    std::vector<Table> parts;
    Buffer bias(sizeof(float) * 3 * part_columns);
    // The row of a part's weight that makes a column: a few key heads may serve more query heads, group by group.
    const auto row_of = [=, this](int part, int column) {
      const int head = column / stored, within = source(part, column % stored);
      return within < 0 ? -1 : (part == 0 ? head : head * network_.key_heads / network_.heads) * size + within;
    };
    for (int part = 0; part < 3; part++) {
      const std::string name = prefix + names[part];
      const int rows = part == 0 ? hidden : network_.key_heads * size;
      parts.push_back(table(name + ".weight", (size_t)rows * hidden));
      const Buffer given = optional_vector(name + ".bias", rows);
      for (int column = 0; given.data() && column < part_columns; column++)
        if (const int row = row_of(part, column); row >= 0)
          bias.floats()[part * part_columns + column] = given.floats()[row] * (part == 0 ? query_scale : 1);
    }
    add(matrix, 3 * part_columns, hidden, [=, this](int column, float* out) {
      const int part = column / part_columns, row = row_of(part, column % part_columns);
      if (row < 0) return;
      copy(parts[part], (size_t)row * hidden, hidden, out);
      if (part == 0)
        for (int k = 0; k < hidden; k++) out[k] *= query_scale;
    });
    matrix.bias = std::move(bias);
  }

  // What queries are multiplied by, so that scores need not be.
  float score_scale() const { return attention_scale(network_, kernels_); }

  void plan_attention_output(Matrix& matrix, const std::string& name) {
    const int hidden = network_.hidden, size = network_.head_size(), stored = head_size_;
    const Table from = table(name + ".weight", (size_t)hidden * hidden);
    add(matrix, hidden, network_.heads * stored, [=, this](int column, float* out) {
      for (int head = 0; head < network_.heads; head++)
        copy(from, (size_t)column * hidden + head * size, size, out + (ptrdiff_t)head * stored);
    });
    matrix.bias = optional_vector(name + ".bias", hidden);
  }

  void plan_feed_forward(std::vector<FeedForward>& blocks, const std::string& prefix) {
    const int hidden = network_.hidden, inner = network_.inner, most = network_.gated ? kInnerBlock / 2 : kInnerBlock;
    const Table down = table(prefix + "output.weight", (size_t)hidden * inner);
    blocks.resize((inner + most - 1) / most);
    for (size_t i = 0; i < blocks.size(); i++) {
      const int begin = (int)i * most, size = std::min(most, inner - begin);
      plan_inner(blocks[i].inner, prefix, begin, size);
      add(blocks[i].output, hidden, size,
          [=, this](int column, float* out) { copy(down, (size_t)column * inner + begin, size, out); });
    }
    blocks[0].output.bias = optional_vector(prefix + "output.bias", hidden);
  }

  // The inner columns [begin, begin + size); of a gated network first their gates, filled up to whole groups.
  void plan_inner(Matrix& matrix, const std::string& prefix, int begin, int size) {
    const int hidden = network_.hidden, whole = whole_groups(size);
    std::vector<Table> halves;
    Buffer bias(2 * whole * sizeof(float));
    std::vector<const char*> names = {"inner"};
    if (network_.gated) names = {"gate", "inner"};
    for (const char* name : names) {
      const Buffer given = optional_vector(prefix + name + ".bias", network_.inner);
      if (given.data())
        std::memcpy(bias.floats() + whole * halves.size(), given.floats() + begin, size * sizeof(float));
      halves.push_back(table(prefix + name + ".weight", (size_t)network_.inner * hidden));
    }
    add(matrix, network_.gated ? 2 * whole : size, hidden, [=, this](int column, float* out) {
      if (column % whole < size) copy(halves[column / whole], (size_t)(begin + column % whole) * hidden, hidden, out);
    });
    matrix.bias = std::move(bias);
  }

  void pack_panel(const Panel& panel, Workspace& workspace) const {
    const Plan& plan = plans_[panel.plan];
    const Matrix& matrix = *plan.matrix;
    const int columns = std::min(kernels_.panel, matrix.columns - panel.column);
    const size_t count = (size_t)columns * matrix.depth;
    workspace.scratch.reserve(count * sizeof(float));
    float* const rows = workspace.scratch.floats();
    std::fill_n(rows, count, 0.0f);
    for (int i = 0; i < columns; i++) plan.fetch(panel.column + i, rows + (size_t)i * matrix.depth);
    kernels_.pack_weight(rows, columns, matrix.depth,
                         (char*)matrix.packed + kernels_.weight_bytes(panel.column, matrix.depth));
  }

  const Network& network_;
  const Tensors& tensors_;
  const Kernels& kernels_;
  const int head_size_;
  std::vector<Plan> plans_;
  std::vector<Panel> panels_;
  size_t bytes_ = 0;
};

}  // namespace

Matrix pack_matrix(const float* weight, const float* bias, int columns, int depth, const Kernels& kernels) {
  Matrix matrix{columns, depth, nullptr, Buffer(), Buffer::uncleared(kernels.weight_bytes(columns, depth))};
  matrix.packed = matrix.own.data();
  kernels.pack_weight(weight, columns, depth, matrix.packed);
  if (bias) {
    matrix.bias = Buffer(whole_groups(columns) * sizeof(float));
    std::memcpy(matrix.bias.data(), bias, columns * sizeof(float));
  }
  return matrix;
}

Weights pack_weights(const Network& network, const Tensors& tensors, const Kernels& kernels, Pool& pool) {
  Packer packer(network, tensors, kernels);
  const auto table = [&](const char* name, int rows) { return packer.table(name, (size_t)rows * network.embedding); };
  Weights weights;
  weights.word = table("embeddings.word", network.vocabulary);
  weights.position = tensors("embeddings.position", (size_t)network.positions * network.embedding);
  if (!network.rotary.empty()) weights.angles = packer.angles();
  weights.token_type = {nullptr, Dtype::f32};
  if (network.token_types) weights.token_type = table("embeddings.token_type", network.token_types);
  weights.embeddings_norm = packer.norm("embeddings.norm", network.projection_first ? network.hidden : network.embedding);
  packer.plan_projection(weights.projection);
  packer.plan_convolution(weights.convolution);
  weights.convolution_norm = packer.norm("convolution_norm", network.hidden);
  weights.relative_bias = packer.relative_bias();
  weights.head_size = packer.head_size();
  int stored = 0;
  for (int number : network.stored_layers) stored = std::max(stored, number + 1);
  weights.layers.resize(stored);
  for (int number = 0; number < stored; number++) packer.plan(weights.layers[number], number);
  if (network.pre_norm) weights.final_norm = packer.norm("final_norm", network.hidden);
  weights.storage = packer.pack(pool);
  make_vectors(network, tensors, kernels, pool, weights);
  return weights;
}

}  // namespace bothways
