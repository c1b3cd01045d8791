// Scores, counts and ranks at every usable level, against float64 and plain sorting.
#include "comparer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "dispatch.h"
#include "reference.h"

namespace {

using Scores = std::vector<float>;

std::vector<int64_t> best_first(const float* scores, int64_t count) {
  std::vector<int64_t> order(count);
  for (int64_t i = 0; i < count; i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
  return order;
}

struct Sets {
  int64_t queries, others;
  int depth;
  Random random;
  Floats a, b, a_scales, b_scales;

  Sets(int64_t queries, int64_t others, int depth)
      : queries(queries),
        others(others),
        depth(depth),
        random(queries * 1000003 + others * 1009 + depth),
        a(random.floats(queries * depth)),
        b(random.floats(others * depth)),
        a_scales(random.floats(queries)),
        b_scales(random.floats(others)) {
    for (int64_t i = 5; i < others; i += 3) std::copy_n(&b[(i - 5) * depth], depth, &b[i * depth]);  // ties
    for (int64_t i = 5; i < others; i += 3) b_scales[i] = b_scales[i - 5];
  }

  Vectors first() const { return {a.data(), a_scales.data(), queries}; }
  Vectors second(int64_t begin, int64_t count) const { return {b.data() + begin * depth, b_scales.data() + begin, count}; }
};

void test_products(Comparer& comparer, const Sets& sets, Scores& scores) {
  scores.assign(sets.queries * sets.others, -1);
  comparer.products(sets.first(), sets.second(0, sets.others), sets.depth, scores.data());  // (others, queries)
  Scores swapped(scores.size());
  comparer.products(sets.second(0, sets.others), sets.first(), sets.depth, swapped.data());
  for (int64_t o = 0; o < sets.others; o++)
    for (int64_t q = 0; q < sets.queries; q++) {
      double sum = 0, sizes = 0;
      for (int k = 0; k < sets.depth; k++) {
        const double product = (double)sets.a[q * sets.depth + k] * sets.b[o * sets.depth + k];
        sum += product;
        sizes += std::abs(product);
      }
      const double scale = (double)sets.a_scales[q] * sets.b_scales[o];
      const float score = scores[o * sets.queries + q];
      CHECK(std::abs(score - sum * scale) <= (sets.depth + 4) * kUnit * sizes * std::abs(scale), q, o, score, sum * scale);
      CHECK(score == swapped[q * sets.others + o], q, o);
    }
}

void test_counts(Comparer& comparer, const Sets& sets, const Scores& scores) {
  const float least = scores[scores.size() / 2];  // a score that is there, so that "or more" is tested
  std::vector<int64_t> counts(sets.queries, 100);
  comparer.count(sets.first(), sets.second(0, sets.others), sets.depth, least, counts.data());
  for (int64_t q = 0; q < sets.queries; q++) {
    int64_t expected = 100;
    for (int64_t o = 0; o < sets.others; o++) expected += scores[o * sets.queries + q] >= least;
    CHECK(counts[q] == expected, q, counts[q], expected);
  }
}

// The ranks of pieces that come one after the other, from the back, are those of one piece.
void test_nearest(Comparer& comparer, const Sets& sets, const Scores& scores, int64_t top, int64_t piece) {
  constexpr uint32_t kFirst = 4000000000;
  std::vector<Rank> ranks(sets.queries * top);
  for (int64_t begin = (sets.others - 1) / piece * piece; begin >= 0; begin -= piece)
    comparer.nearest(sets.first(), sets.second(begin, std::min(piece, sets.others - begin)), sets.depth,
                     kFirst + (uint32_t)begin, top, ranks.data());
  Scores column(sets.others);
  for (int64_t q = 0; q < sets.queries; q++) {
    for (int64_t o = 0; o < sets.others; o++) column[o] = scores[o * sets.queries + q];
    const std::vector<int64_t> order = best_first(column.data(), sets.others);
    std::sort(&ranks[q * top], &ranks[q * top] + top, std::greater<>());
    for (int64_t i = 0; i < top; i++) {
      const Rank rank = ranks[q * top + i];
      if (i >= sets.others) {
        CHECK(number_of(rank) == -1 && score_of(rank) == -INFINITY, q, i);
      } else {
        CHECK(number_of(rank) == kFirst + order[i], q, i, number_of(rank), order[i]);
        CHECK(score_of(rank) == column[order[i]], q, i, score_of(rank), column[order[i]]);
      }
    }
  }
}

void test_ranks() {
  check::at("ranks");
  const float infinity = INFINITY, scores[] = {-infinity, -3e38f, -1.5f, -1e-45f, 0.0f, 1e-45f, 1.0f, 3e38f, infinity};
  for (size_t i = 0; i < std::size(scores); i++) {
    CHECK(score_of(make_rank(scores[i], 7)) == scores[i], scores[i]);
    CHECK(make_rank(scores[i], 7) > make_rank(scores[i], 8), scores[i]);
    CHECK(make_rank(scores[i], UINT32_MAX - 1) > 0, scores[i]);
    if (i) CHECK(make_rank(scores[i], UINT32_MAX - 1) > make_rank(scores[i - 1], 0), scores[i]);
  }
  CHECK(make_rank(-0.0f, 3) == make_rank(0.0f, 3));
  CHECK(number_of(make_rank(1, 0)) == 0 && number_of(make_rank(1, 4000000000)) == 4000000000);
}

void test_lengths(Comparer& comparer) {
  check::at("lengths");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int depth : {1, 7, 16, 19, 384}) {
    Floats rows(3 * depth, 3e38f);
    rows[depth] = nan;
    rows[3 * depth - 1] = -INFINITY;
    double lengths[3];
    comparer.lengths(rows.data(), 3, depth, lengths);
    const double expected = 3e38 * std::sqrt(depth);
    CHECK(std::abs(lengths[0] - expected) < 1e-6 * expected, depth, lengths[0]);
    CHECK(!std::isfinite(lengths[1]) && !std::isfinite(lengths[2]), depth);
    for (float size : {1e-30f, 1e-3f, 1.0f, 1e18f}) {
      Random random(depth);
      Floats row = random.floats(depth);
      double sum = 0;
      for (float& x : row) {
        x *= size;
        sum += (double)x * x;
      }
      comparer.lengths(row.data(), 1, depth, lengths);
      CHECK(std::abs(lengths[0] - std::sqrt(sum)) <= (depth + 4) * kUnit * std::sqrt(sum), depth, size, lengths[0], sum);
    }
  }
}

}  // namespace

int main() {
  test_ranks();
  for (const Level& level : levels()) {
    if (!level.unusable.empty()) {
      std::printf("level %s is not covered: %s\n", level.name, level.unusable.c_str());
      continue;
    }
    Comparer one(plain_kernels(level), 1), many(plain_kernels(level), 5);
    test_lengths(many);
    for (const auto& [queries, others, depth] : {std::array{1, 1, 1}, {3, 130, 5}, {1, 700, 16}, {129, 257, 33}, {300, 1000, 20}}) {
      check::at("%s, %d queries, %d others, depth %d", level.name, queries, others, depth);
      const Sets sets(queries, others, depth);
      Scores scores, same;
      test_products(one, sets, scores);
      test_products(many, sets, same);
      CHECK(!std::memcmp(scores.data(), same.data(), scores.size() * sizeof(float)));
      test_counts(many, sets, scores);
      for (Comparer* comparer : {&one, &many}) {
        test_nearest(*comparer, sets, scores, 1, others);
        test_nearest(*comparer, sets, scores, 10, 100);
        test_nearest(*comparer, sets, scores, others + 2, 333);
      }
    }
    check::at("%s, nothing", level.name);
    many.products({nullptr, nullptr, 0}, {nullptr, nullptr, 0}, 3, nullptr);
  }
  return check::report();
}
