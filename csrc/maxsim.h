// How alike texts are by their tokens' vectors (Khattab and Zaharia, ColBERT, 2020).
#pragma once

#include <cstdint>

#include "kernels.h"

namespace bothways {

// Texts' vectors end to end: text i has rows starts[i] to starts[i + 1].
struct TextVectors {
  const float* rows;
  const int64_t* starts;  // (count + 1)
  int64_t count;

  const float* at(int64_t row, int size) const { return rows + row * size; }
};

// scores (queries, documents): the sum, over the query's vectors, of the largest dot product with one of the document's. A
// document without vectors scores minus infinity, a query without any 0. A score depends on nothing but the two texts.
void maxsim(const TextVectors& queries, const TextVectors& documents, int size, const Kernels&, int threads, float* scores);

}  // namespace bothways
