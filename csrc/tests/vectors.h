// Vectors by distance for tests of attention, and their packed form.
#pragma once

#include <memory>

#include "reference.h"

// Vectors by distance: rows (heads or 1, count, head_size) for queries, and for keys, either of which may be empty.
struct Vectors {
  std::vector<int> row = {};  // by distance, from -reach on
  int count = 0;
  Floats keys = {}, queries = {};
  bool shared = false;  // by all heads

  int reach() const { return (int)row.size() / 2; }
  const float* at(const Floats& all, int head, int distance, int size) const {
    return all.data() + ((size_t)(shared ? 0 : head) * count + row[reach() + distance]) * size;
  }
};

// Vectors as a table packs them, before forbidden pages.
class PackedVectors {
 public:
  PackedVectors(const Kernels& kernels, const Vectors& v, int head_size)
      : kernels_(kernels), vectors_(v), head_size_(head_size) {
    if (v.row.empty()) return;
    first_ = (v.count / 2 + kVectorMargin + kVectorBlock - 1) / kVectorBlock * kVectorBlock - v.count / 2;
    columns_ = (first_ + v.count + kVectorMargin + kVectorBlock - 1) / kVectorBlock * kVectorBlock;
    std::vector<int32_t> column;
    for (int row : v.row) column.push_back(first_ + row);
    column_ = std::make_unique<Guarded<int32_t>>(column);
    if (!v.keys.empty()) keys_ = pack(v.keys, 1);
    if (!v.queries.empty()) queries_ = pack(v.queries, kernels.score_unit);
    const auto bytes = kernels.vectors_bytes(columns_, head_size);
    int near = 0;
    while (near < v.reach() && v.row[v.reach() + near + 1] == v.row[v.reach()] + near + 1) near++;
    view_ = {keys_ ? keys_->data() : nullptr, queries_ ? queries_->data() : nullptr, v.shared ? 0 : bytes, columns_,
             column_->data() + v.reach(), v.reach(), near};
  }

  const RelativeVectors* view() const { return vectors_.row.empty() ? nullptr : &view_; }

 private:
  using Bytes = Guarded<unsigned char>;

  std::unique_ptr<Bytes> pack(const Floats& rows, float scale) const {
    const int size = head_size_, count = vectors_.count, heads = (int)rows.size() / (count * size);
    const size_t bytes = kernels_.vectors_bytes(columns_, size);
    std::vector<unsigned char> all;
    for (int head = 0; head < heads; head++) {
      Floats room((size_t)columns_ * size);
      for (int i = 0; i < count * size; i++) room[first_ * size + i] = rows[(size_t)head * count * size + i] * scale;
      const Guarded<float> from(room);
      Storage packed(bytes);
      kernels_.pack_vectors(from.data(), columns_, size, packed.data());
      CHECK(packed.intact());
      all.insert(all.end(), packed.data(), packed.data() + bytes);
    }
    return std::make_unique<Bytes>(all);
  }

  const Kernels& kernels_;
  const Vectors& vectors_;
  const int head_size_;
  int first_ = 0, columns_ = 0;
  std::unique_ptr<Guarded<int32_t>> column_;
  std::unique_ptr<Bytes> keys_, queries_;
  RelativeVectors view_{};
};
