#include "vectors.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "dispatch.h"
#include "float_mode.h"
#include "head.h"

namespace bothways {
namespace {

int rounded(int count, int step) { return (count + step - 1) / step * step; }

// The columns of RelativeVectors: one for each run of distances with the same row.
struct Columns {
  std::vector<int> rows;  // of the tables, by column
  int first, count;       // the first one's place, and how many there are, margins included
};

Columns find_columns(const std::vector<int>& rows_by_distance, std::vector<int32_t>& column) {
  Columns found{};
  for (const int row : rows_by_distance) {
    if (found.rows.empty() || row != found.rows.back()) found.rows.push_back(row);
    column.push_back((int32_t)found.rows.size() - 1);
  }
  const int middle = column[column.size() / 2];
  found.first = rounded(middle + kVectorMargin, kVectorBlock) - middle;
  found.count = rounded(found.first + (int)found.rows.size() + kVectorMargin, kVectorBlock);
  for (int32_t& number : column) number += found.first;
  return found;
}

// How far distances have columns of their own on both sides of 0.
int find_near(const std::vector<int32_t>& column) {
  const int reach = (int)column.size() / 2;
  int near = 0;
  while (near < reach && column[reach + near + 1] == column[reach] + near + 1 &&
         column[reach - near - 1] == column[reach] - near - 1)
    near++;
  return near;
}

class VectorMaker {
 public:
  VectorMaker(const Network& network, const Tensors& tensors, const Kernels& kernels, Columns columns, int head_size)
      : network_(network), tensors_(tensors), kernels_(kernels), columns_(std::move(columns)), head_size_(head_size) {
    if (tensors("relative_vectors", (size_t)network.vector_table_rows * network.hidden).data) table_ = normed_table();
  }

  // The bytes of one head where each has its own, else 0.
  size_t head_bytes() const { return table_.data() ? kernels_.vectors_bytes(columns_.count, head_size_) : 0; }

  // What one layer's queries meet, or its keys, packed: "key" or "query" is whose projection makes them.
  Buffer make(int layer, const std::string& projection) const {
    const float scale = projection == "query" ? attention_scale(network_, kernels_) : 1;
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    const int size = network_.head_size();
    if (!table_.data()) {
      const Buffer rows = chosen(read(prefix + "relative_vectors", (size_t)network_.vector_table_rows * size), size);
      return pack(rows, 1, scale);
    }
    const std::string own = prefix + "relative_" + projection, shared = prefix + projection;
    const size_t count = (size_t)network_.hidden * network_.hidden;
    const std::string name = tensors_(own + ".weight", count).data ? own : shared;
    const Buffer weight = read(name + ".weight", count), bias = read(name + ".bias", network_.hidden);
    const Head product(weight.floats(), bias.floats(), network_.hidden, network_.hidden, Activation::none,
                       plain_kernels(level(kernels_.level)));
    Buffer rows(sizeof(float) * columns_.rows.size() * network_.hidden);
    product.apply(table_.floats(), (int)columns_.rows.size(), rows.floats());
    return pack(rows, network_.heads, scale);
  }

 private:
  Buffer read(const std::string& name, size_t count) const {
    const Table from = tensors_(name, count);
    if (!from.data) throw std::invalid_argument("tensor '" + name + "' is missing");
    Buffer result(sizeof(float) * count);
    kernels_.to_float(from.data, from.dtype, count, result.floats());
    return result;
  }

  // The rows that columns have, (columns, width).
  Buffer chosen(const Buffer& table, int width) const {
    Buffer result(sizeof(float) * columns_.rows.size() * width);
    for (size_t i = 0; i < columns_.rows.size(); i++)
      std::memcpy(result.floats() + i * width, table.floats() + (size_t)columns_.rows[i] * width, width * sizeof(float));
    return result;
  }

  Buffer normed_table() const {
    const int width = network_.hidden;
    Buffer rows = chosen(read("relative_vectors", (size_t)network_.vector_table_rows * width), width);
    if (!tensors_("relative_norm.weight", width).data) return rows;
    const Buffer weight = read("relative_norm.weight", width), bias = read("relative_norm.bias", width);
    for (size_t i = 0; i < columns_.rows.size(); i++) {
      float* x = rows.floats() + i * width;
      double mean = 0, squares = 0;
      for (int c = 0; c < width; c++) mean += x[c];
      mean /= width;
      for (int c = 0; c < width; c++) squares += (x[c] - mean) * (x[c] - mean);
      const double factor = 1 / std::sqrt(squares / width + network_.eps);
      for (int c = 0; c < width; c++) x[c] = (float)((x[c] - mean) * factor) * weight.floats()[c] + bias.floats()[c];
    }
    return rows;
  }

  // rows (columns, heads * head size), head by head, with margins.
  Buffer pack(const Buffer& rows, int heads, float scale) const {
    const int size = network_.head_size();
    const size_t bytes = kernels_.vectors_bytes(columns_.count, head_size_);
    Buffer result(heads * bytes), room(sizeof(float) * columns_.count * head_size_);
    for (int head = 0; head < heads; head++) {
      for (size_t i = 0; i < columns_.rows.size(); i++)
        for (int c = 0; c < size; c++)
          room.floats()[(columns_.first + i) * head_size_ + c] = rows.floats()[(i * heads + head) * size + c] * scale;
      kernels_.pack_vectors(room.floats(), columns_.count, head_size_, (char*)result.data() + head * bytes);
    }
    return result;
  }

  const Network& network_;
  const Tensors& tensors_;
  const Kernels& kernels_;
  const Columns columns_;
  const int head_size_;  // as stored
  Buffer table_;         // (columns, H) of the rows that all layers share, normed; or none
};

}  // namespace

float attention_scale(const Network& network, const Kernels& kernels) {
  return kernels.score_unit / std::sqrt((float)network.head_size() * (float)network.score_terms);
}

void make_vectors(const Network& network, const Tensors& tensors, const Kernels& kernels, Pool& pool, Weights& weights) {
  if (!network.position_keys && !network.position_queries) return;
  Columns columns = find_columns(network.vector_rows, weights.vector_columns);
  const int reach = (int)network.vector_rows.size() / 2, count = columns.count, near = find_near(weights.vector_columns);
  const VectorMaker maker(network, tensors, kernels, std::move(columns), weights.head_size);
  pool.run(2 * (int)weights.layers.size(), [&](int number, Workspace&) {
    const FloatMode mode;
    Layer& layer = weights.layers[number / 2];
    if (number % 2 == 0 && network.position_keys) layer.position_keys = maker.make(number / 2, "key");
    if (number % 2 && network.position_queries) layer.position_queries = maker.make(number / 2, "query");
  });
  for (Layer& layer : weights.layers)
    layer.vectors = {.keys = layer.position_keys.data(),
                     .queries = layer.position_queries.data(),
                     .head_bytes = maker.head_bytes(),
                     .columns = count,
                     .column = weights.vector_columns.data() + reach,
                     .reach = reach,
                     .near = near};
}

}  // namespace bothways
