#include "maxsim.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "head.h"
#include "pool.h"
#include "row_block.h"

namespace bothways {
namespace {

// Queries' vectors that are multiplied at once: packed they stay in the second-level cache.
constexpr int64_t kBlockColumns = 512;

// Documents' vectors for which it is worth to go to another thread.
constexpr int64_t kPartRows = 2048;

constexpr int64_t kRows = RowBlock::kRows;  // of a document, multiplied at once

// The texts from `begin` on that have about `rows` vectors together, at least one text.
int64_t end_of(const TextVectors& texts, int64_t begin, int64_t rows) {
  int64_t end = begin + 1;
  while (end < texts.count && texts.starts[end + 1] - texts.starts[begin] <= rows) end++;
  return end;
}

// What queries [begin, end) and one document come to, at the document's place in every query's scores.
class Scoring {
 public:
  Scoring(const TextVectors& queries, int64_t begin, int64_t end, int size, const Kernels& kernels)
      : queries_(queries),
        begin_(begin),
        end_(end),
        columns_(queries.starts[end] - queries.starts[begin]),
        size_(size),
        head_(queries.at(queries.starts[begin], size), nullptr, (int)columns_, size, Activation::none,
              kernels) {}

  void score(const TextVectors& documents, int64_t document, float* scores) const {
    std::vector<float> products(kRows * columns_), largest(columns_, -std::numeric_limits<float>::infinity());
    const int64_t last = documents.starts[document + 1];
    for (int64_t row = documents.starts[document]; row < last; row += kRows) {
      const int64_t rows = std::min(kRows, last - row);
      head_.apply(documents.at(row, size_), (int)rows, products.data());
      for (int64_t i = 0; i < rows; i++)
        for (int64_t column = 0; column < columns_; column++)
          largest[column] = std::max(largest[column], products[i * columns_ + column]);
    }
    for (int64_t query = begin_; query < end_; query++) {
      double sum = 0;
      for (int64_t i = queries_.starts[query]; i < queries_.starts[query + 1]; i++)
        sum += largest[i - queries_.starts[begin_]];
      scores[query * documents.count + document] = (float)sum;
    }
  }

 private:
  const TextVectors& queries_;
  const int64_t begin_, end_, columns_;
  const int size_;
  const Head head_;
};

}  // namespace

void maxsim(const TextVectors& queries, const TextVectors& documents, int size, const Kernels& kernels, int threads,
            float* scores) {
  std::vector<int64_t> parts{0};  // where each thread's piece of work begins
  while (parts.back() < documents.count) parts.push_back(end_of(documents, parts.back(), kPartRows));
  const int count = (int)parts.size() - 1;
  Pool pool(std::max(1, std::min(threads, count)));
  for (int64_t begin = 0, end; begin < queries.count; begin = end) {
    end = end_of(queries, begin, kBlockColumns);
    if (queries.starts[end] == queries.starts[begin]) {
      std::fill(scores + begin * documents.count, scores + end * documents.count, 0.0f);
      continue;
    }
    const Scoring scoring(queries, begin, end, size, kernels);
    pool.run(count, [&](int part, Workspace&) {
      for (int64_t document = parts[part]; document < parts[part + 1]; document++)
        scoring.score(documents, document, scores);
    });
  }
}

}  // namespace bothways
