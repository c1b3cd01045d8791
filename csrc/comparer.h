// Compares vectors with vectors by their products: all of them, how many reach a score, or each one's best.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels.h"
#include "pool.h"

namespace bothways {

// Rows of one depth, each multiplied by its scale if there are scales.
struct Vectors {
  const float* rows;
  const float* scales;
  int64_t count;
};

// A score and the number of who has it, as one number: the better, the larger. Of equal scores the smaller number's is
// better. 0 is nobody.
using Rank = uint64_t;
Rank make_rank(float score, uint32_t number);
float score_of(Rank rank);  // minus infinity of nobody
int64_t number_of(Rank rank);  // -1 of nobody

// The sum of a pair's products runs along the depth, in float32: its bits depend neither on other vectors, nor on how work is
// cut, nor on which of the two is the query. Safe to call from many threads at once.
class Comparer {
 public:
  // A table whose products are float32 throughout.
  Comparer(const Kernels&, int threads);

  // out (count): every row's length; not finite where a value of it isn't.
  void lengths(const float* rows, int64_t count, int depth, double* out);

  // out (others, queries).
  void products(const Vectors& queries, const Vectors& others, int depth, float* out);

  // Adds to counts (queries) how many of the others score `least` or more.
  void count(const Vectors& queries, const Vectors& others, int depth, float least, int64_t* counts);

  // Keeps in ranks (queries, top) the best so far; zeros at the start. The others have the numbers `first`, `first` + 1 ...
  // A query's ranks are a heap with the worst in front.
  void nearest(const Vectors& queries, const Vectors& others, int depth, uint32_t first, int64_t top, Rank* ranks);

 private:
  // Scores of some others (rows) with a block of queries (columns).
  struct Tile {
    int block;
    int64_t query, other;  // the first
    int queries, others;
    const float* scores;
    int stride;
    const float* row(int other) const { return scores + (ptrdiff_t)other * stride; }
  };
  void compare(const Vectors& queries, const Vectors& others, int depth, const std::function<void(const Tile&)>& visit);

  const Kernels& kernels_;
  Pool pool_;
};

}  // namespace bothways
