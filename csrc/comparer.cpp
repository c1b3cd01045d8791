#include "comparer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>

#include "float_mode.h"
#include "row_block.h"

namespace bothways {
namespace {

constexpr int kQueries = 128;  // packed together: with a block of rows they fill half of a small second-level cache
constexpr int kPartsPerThread = 4;
constexpr int kLengthRows = 4096;
constexpr uint32_t kSign = 0x80000000;

int blocks_of(int64_t count, int size) { return (int)((count + size - 1) / size); }

Matrix pack(const Vectors& vectors, int64_t begin, int count, int depth, const Kernels& kernels) {
  const float* rows = vectors.rows + begin * depth;
  if (!vectors.scales) return pack_matrix(rows, nullptr, count, depth, kernels);
  std::vector<float> scaled((size_t)count * depth);
  for (int64_t row = 0; row < count; row++)
    for (int k = 0; k < depth; k++) scaled[row * depth + k] = rows[row * depth + k] * vectors.scales[begin + row];
  return pack_matrix(scaled.data(), nullptr, count, depth, kernels);
}

// Sums in sixteen lanes, always the same ones, as the compiler may not change the order itself.
template <class Number>
double sum_of_squares(const float* row, int depth) {
  constexpr int kLanes = 16;
  Number lanes[kLanes] = {};
  int k = 0;
  for (; k + kLanes <= depth; k += kLanes)
    for (int i = 0; i < kLanes; i++) lanes[i] += (Number)row[k + i] * (Number)row[k + i];
  for (; k < depth; k++) lanes[0] += (Number)row[k] * (Number)row[k];
  double sum = 0;
  for (Number lane : lanes) sum += (double)lane;
  return sum;
}

// In float32 where squares are far from both of its ends.
double length(const float* row, int depth) {
  const double sum = sum_of_squares<float>(row, depth);
  return std::sqrt(sum > 1e-20 && sum < 1e30 ? sum : sum_of_squares<double>(row, depth));
}

bool any_reaches(const float* scores, const float* floors, int count) {
  int found = 0;  // no early end, so that the loop becomes vectors
  for (int i = 0; i < count; i++) found |= scores[i] >= floors[i];
  return found;
}

void offer(Rank rank, Rank* heap, int64_t top) {
  if (rank <= heap[0]) return;
  std::pop_heap(heap, heap + top, std::greater<>());
  heap[top - 1] = rank;
  std::push_heap(heap, heap + top, std::greater<>());
}

}  // namespace

Rank make_rank(float score, uint32_t number) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 becomes 0, which it equals
  return (Rank)(bits & kSign ? ~bits : bits | kSign) << 32 | (uint32_t)~number;
}

float score_of(Rank rank) {
  if (!rank) return -INFINITY;
  const uint32_t bits = rank >> 32;
  return std::bit_cast<float>(bits & kSign ? bits ^ kSign : ~bits);
}

int64_t number_of(Rank rank) { return rank ? (int64_t)(uint32_t)~rank : -1; }

Comparer::Comparer(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads) {}

void Comparer::lengths(const float* rows, int64_t count, int depth, double* out) {
  pool_.run(blocks_of(count, kLengthRows), [&](int part, Workspace&) {
    const int64_t begin = (int64_t)part * kLengthRows, end = std::min(count, begin + kLengthRows);
    for (int64_t row = begin; row < end; row++) out[row] = length(rows + row * depth, depth);
  });
}

// Every part is a block of queries with a share of the others.
void Comparer::compare(const Vectors& queries, const Vectors& others, int depth, const std::function<void(const Tile&)>& visit) {
  const int blocks = blocks_of(queries.count, kQueries), rows = RowBlock::kRows;
  const int64_t tiles = blocks_of(others.count, rows);
  if (!blocks || !tiles) return;
  const auto queries_in = [&](int block) { return (int)std::min<int64_t>(kQueries, queries.count - (int64_t)block * kQueries); };

  std::vector<Matrix> packed(blocks);
  pool_.run(blocks, [&](int block, Workspace&) {
    const FloatMode mode;
    packed[block] = pack(queries, (int64_t)block * kQueries, queries_in(block), depth, kernels_);
  });
  const int shares = (int)std::min<int64_t>(tiles, (kPartsPerThread * pool_.threads() + blocks - 1) / blocks);
  pool_.run(blocks * shares, [&](int part, Workspace&) {
    const FloatMode mode;
    const int block = part % blocks, share = part / blocks;
    RowBlock room(rows, packed[block].columns, depth, kernels_);
    for (int64_t tile = tiles * share / shares; tile < tiles * (share + 1) / shares; tile++) {
      const int64_t other = tile * rows;
      const int count = (int)std::min<int64_t>(rows, others.count - other);
      const float* scales = others.scales ? others.scales + other : nullptr;
      const float* scores = room.multiply(others.rows + other * depth, scales, count, packed[block]);
      visit({block, (int64_t)block * kQueries, other, queries_in(block), count, scores, room.stride});
    }
  });
}

void Comparer::products(const Vectors& queries, const Vectors& others, int depth, float* out) {
  compare(queries, others, depth, [&](const Tile& tile) {
    for (int i = 0; i < tile.others; i++)
      std::memcpy(out + (tile.other + i) * queries.count + tile.query, tile.row(i), tile.queries * sizeof(float));
  });
}

void Comparer::count(const Vectors& queries, const Vectors& others, int depth, float least, int64_t* counts) {
  const auto guards = std::make_unique<std::mutex[]>(blocks_of(queries.count, kQueries));
  compare(queries, others, depth, [&](const Tile& tile) {
    int found[kQueries] = {};
    for (int i = 0; i < tile.others; i++) {
      const float* scores = tile.row(i);
      for (int q = 0; q < tile.queries; q++) found[q] += scores[q] >= least;
    }
    const std::lock_guard lock(guards[tile.block]);
    for (int q = 0; q < tile.queries; q++) counts[tile.query + q] += found[q];
  });
}

// A tile is searched for what reaches the queries' worst scores without the lock, which is rare after the first tiles; what
// remains is offered under it.
void Comparer::nearest(const Vectors& queries, const Vectors& others, int depth, uint32_t first, int64_t top, Rank* ranks) {
  struct Candidate {
    int query;
    Rank rank;
  };
  const auto guards = std::make_unique<std::mutex[]>(blocks_of(queries.count, kQueries));
  compare(queries, others, depth, [&](const Tile& tile) {
    float floors[kQueries];
    {
      const std::lock_guard lock(guards[tile.block]);
      for (int q = 0; q < tile.queries; q++) floors[q] = score_of(ranks[(tile.query + q) * top]);
    }
    std::vector<Candidate> candidates;
    for (int i = 0; i < tile.others; i++) {
      const float* scores = tile.row(i);
      if (!any_reaches(scores, floors, tile.queries)) continue;
      for (int q = 0; q < tile.queries; q++)
        if (scores[q] >= floors[q]) candidates.push_back({q, make_rank(scores[q], first + (uint32_t)(tile.other + i))});
    }
    const std::lock_guard lock(guards[tile.block]);
    for (const Candidate& each : candidates) offer(each.rank, ranks + (tile.query + each.query) * top, top);
  });
}

}  // namespace bothways
