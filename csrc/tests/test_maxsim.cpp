// Late interaction at every usable level, against float64: texts of any number of vectors, none among them.
#include <cmath>
#include <limits>
#include <numeric>

#include "maxsim.h"
#include "reference.h"

namespace {

struct Texts {
  Floats rows;
  std::vector<int64_t> starts{0};

  Texts(Random& random, const std::vector<int>& lengths, int size) {
    for (int length : lengths) starts.push_back(starts.back() + length);
    rows = random.floats((size_t)starts.back() * size);
  }
  TextVectors view() const { return {rows.data(), starts.data(), (int64_t)starts.size() - 1}; }
};

double expected(const TextVectors& queries, int64_t query, const TextVectors& documents, int64_t document, int size) {
  double sum = 0;
  for (int64_t i = queries.starts[query]; i < queries.starts[query + 1]; i++) {
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t j = documents.starts[document]; j < documents.starts[document + 1]; j++) {
      double product = 0;
      for (int k = 0; k < size; k++) product += (double)queries.at(i, size)[k] * documents.at(j, size)[k];
      largest = std::max(largest, product);
    }
    sum += largest;
  }
  return sum;
}

void test_table(const Kernels& kernels) {
  if (!is(kernels, "float32")) return;
  const Kernels& plain = kernels.plain ? *kernels.plain : kernels;
  for (int size : {1, 3, 16, 24, 128}) {
    Random random(size);
    // More queries' vectors than a block has, and documents longer than what is multiplied at once.
    const Texts queries(random, {3, 0, 32, 1, 300, 300, 7}, size), documents(random, {0, 1, 5, 130, 257, 2000, 2}, size);
    const TextVectors a = queries.view(), b = documents.view();
    std::vector<float> scores(a.count * b.count), again(scores.size()), alone(1);
    maxsim(a, b, size, plain, 1, scores.data());
    maxsim(a, b, size, plain, 3, again.data());
    CHECK(scores == again);
    for (int64_t query = 0; query < a.count; query++)
      for (int64_t document = 0; document < b.count; document++) {
        const double wanted = expected(a, query, b, document, size);
        const float found = scores[query * b.count + document];
        CHECK(found == wanted || std::abs(found - wanted) <= 1e-6 * size * (1 + a.starts[query + 1] - a.starts[query]));
        maxsim({a.rows, a.starts + query, 1}, {b.rows, b.starts + document, 1}, size, plain, 2, alone.data());
        CHECK(alone[0] == found);
      }
  }
}

}  // namespace

int main() {
  for_tables(test_table);
  return check::report();
}
