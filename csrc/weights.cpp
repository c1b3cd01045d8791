#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "float_mode.h"

namespace bothways {
namespace {

constexpr int kInnerBlock = 512;

// Reads a network's tensors as float32 and packs them.
class Packer {
 public:
  Packer(const Network& network, const Tensors& tensors, const Kernels& kernels)
      : network_(network), tensors_(tensors), kernels_(kernels) {}

  NormWeights norm(const std::string& name) const {
    return {columns(name + ".weight", network_.hidden), columns(name + ".bias", network_.hidden)};
  }

  Layer layer(int number) const {
    const std::string prefix = "layers." + std::to_string(number) + ".";
    return {heads(prefix), attention_output(prefix + "attention_output"), norm(prefix + "attention_norm"),
            feed_forward(prefix), norm(prefix + "output_norm")};
  }

 private:
  Buffer floats(const std::string& name, size_t count) const {
    const Table table = tensors_(name, count);
    Buffer result(count * sizeof(float));
    kernels_.to_float(table.data, table.dtype, count, result.floats());
    return result;
  }

  // A vector filled up with zeros to whole groups.
  Buffer columns(const std::string& name, int count) const {
    const Buffer values = floats(name, count);
    Buffer result(whole_groups(count) * sizeof(float));
    std::memcpy(result.data(), values.data(), count * sizeof(float));
    return result;
  }

  Matrix heads(const std::string& prefix) const {
    const int hidden = network_.hidden, size = network_.head_size(), stored = network_.stored_head_size();
    const int part_columns = network_.heads * stored;
    Buffer weight(sizeof(float) * 3 * part_columns * hidden), bias(sizeof(float) * 3 * part_columns);
    const char* const parts[] = {"query", "key", "value"};
    for (int part = 0; part < 3; part++) {
      const Buffer from = floats(prefix + parts[part] + ".weight", (size_t)hidden * hidden);
      const Buffer from_bias = floats(prefix + parts[part] + ".bias", hidden);
      const float scale = part == 0 ? 1 / std::sqrt((float)size) : 1;
      for (int row = 0; row < hidden; row++) {
        const int to = part * part_columns + row / size * stored + row % size;
        for (int k = 0; k < hidden; k++)
          weight.floats()[(size_t)to * hidden + k] = from.floats()[(size_t)row * hidden + k] * scale;
        bias.floats()[to] = from_bias.floats()[row] * scale;
      }
    }
    return pack_matrix(weight.floats(), bias.floats(), 3 * part_columns, hidden, kernels_);
  }

  Matrix attention_output(const std::string& name) const {
    const int hidden = network_.hidden, size = network_.head_size(), stored = network_.stored_head_size();
    const int depth = network_.heads * stored;
    const Buffer from = floats(name + ".weight", (size_t)hidden * hidden), bias = floats(name + ".bias", hidden);
    Buffer weight(sizeof(float) * hidden * depth);
    for (int row = 0; row < hidden; row++)
      for (int k = 0; k < hidden; k++)
        weight.floats()[(size_t)row * depth + k / size * stored + k % size] = from.floats()[(size_t)row * hidden + k];
    return pack_matrix(weight.floats(), bias.floats(), hidden, depth, kernels_);
  }

  std::vector<FeedForward> feed_forward(const std::string& prefix) const {
    const int hidden = network_.hidden, inner = network_.inner;
    const Buffer up = floats(prefix + "inner.weight", (size_t)inner * hidden);
    const Buffer up_bias = floats(prefix + "inner.bias", inner);
    const Buffer down = floats(prefix + "output.weight", (size_t)hidden * inner);
    const Buffer down_bias = floats(prefix + "output.bias", hidden);
    std::vector<FeedForward> blocks;
    for (int begin = 0; begin < inner; begin += kInnerBlock) {
      const int size = std::min(kInnerBlock, inner - begin);
      Buffer part(sizeof(float) * hidden * size);
      for (int row = 0; row < hidden; row++)
        std::memcpy(part.floats() + (size_t)row * size, down.floats() + (size_t)row * inner + begin, size * sizeof(float));
      const float* bias = begin == 0 ? down_bias.floats() : nullptr;
      blocks.push_back({pack_matrix(up.floats() + (size_t)begin * hidden, up_bias.floats() + begin, size, hidden, kernels_),
                        pack_matrix(part.floats(), bias, hidden, size, kernels_)});
    }
    return blocks;
  }

  const Network& network_;
  const Tensors& tensors_;
  const Kernels& kernels_;
};

}  // namespace

Matrix pack_matrix(const float* weight, const float* bias, int columns, int depth, const Kernels& kernels) {
  Matrix matrix{columns, depth, Buffer(kernels.weight_bytes(columns, depth)), Buffer()};
  kernels.pack_weight(weight, columns, depth, matrix.packed.data());
  if (bias) {
    matrix.bias = Buffer(whole_groups(columns) * sizeof(float));
    std::memcpy(matrix.bias.data(), bias, columns * sizeof(float));
  }
  return matrix;
}

Weights pack_weights(const Network& network, const Tensors& tensors, const Kernels& kernels, Pool& pool) {
  const Packer packer(network, tensors, kernels);
  const auto table = [&](const char* name, int rows) { return tensors(name, (size_t)rows * network.hidden); };
  Weights weights;
  weights.word = table("embeddings.word", network.vocabulary);
  weights.position = table("embeddings.position", network.positions);
  weights.token_type = {nullptr, Dtype::f32};
  if (network.token_types) weights.token_type = table("embeddings.token_type", network.token_types);
  weights.embeddings_norm = packer.norm("embeddings.norm");
  weights.layers.resize(network.layers);
  pool.run(network.layers, [&](int number, Workspace&) {
    const FloatMode mode;
    weights.layers[number] = packer.layer(number);
  });
  return weights;
}

}  // namespace bothways
