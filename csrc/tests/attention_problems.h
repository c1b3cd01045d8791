// What attention is tested on: sequences of random queries, keys and values, and what is added to their scores.
#pragma once

#include "reference.h"
#include "vectors.h"

struct Case {
  int tokens, num_heads, head_size;
  int before, after;  // rows of neighbours in the storage

  int rows() const { return before + tokens + after; }
  int width() const { return num_heads * head_size; }
};

constexpr float kEps = 1e-3f;

// Queries, keys and values side by side, (tokens, 3 * width).
struct Problem {
  Case size;
  Floats x;
  bool exact_scores;
  double offset = 0;  // the part of all of a row's scores that is the same, and is exact
  Floats bias = {};   // (num_heads, 2 * reach + 1), or empty
  int reach = 0, window = kAll, keys = kAll;
  Vectors vectors = {};
  Floats angles = {};  // (tokens): row i's queries and keys are turned by angles[i] * (pair + 1); or empty
  Floats norms = {};   // (4, num_heads * own): weight and bias of the queries' norm, then of the keys'; or empty
  int own = 0;         // of a head's numbers where there are norms; the others are zero
  std::vector<double> normed = {}, normed_scales = {};  // queries and keys, (tokens, 2, width)

  bool sees(int row, int key) const { return std::abs(key - row) <= window && key < keys; }
  double bias_at(int head, int row, int key) const {
    return bias.empty() ? 0 : bias[(size_t)head * (2 * reach + 1) + reach + std::clamp(key - row, -reach, reach)];
  }

  double given(int row, int part, int column) const { return x[((size_t)row * 3 + part) * size.width() + column]; }
  // The other number of a pair, and which of the two this is: of every 32 columns 16 and 16 are pairs.
  int other(int column) const { return column / 32 * 32 + (column + 16) % 32; }
  double angle(int row, int column) const { return angles[row] * (column % size.head_size / 32 * 16 + column % 16 + 1); }
  double at(int row, int part, int column) const {
    if (!norms.empty() && part < 2) return normed[((size_t)row * 2 + part) * size.width() + column];
    if (angles.empty() || part == 2) return given(row, part, column);
    const double sine = std::sin(angle(row, column)), sign = column % 32 < 16 ? -1 : 1;
    return given(row, part, column) * std::cos(angle(row, column)) + sign * given(row, part, other(column)) * sine;
  }
  // How large the numbers are that it is made of.
  double scale(int row, int part, int column) const {
    if (!norms.empty() && part < 2) return normed_scales[((size_t)row * 2 + part) * size.width() + column];
    const double number = std::abs(given(row, part, column));
    return angles.empty() || part == 2 ? number : 3 * (number + std::abs(given(row, part, other(column))));
  }
};

inline Problem make_problem(const Case& c) {
  return {c, Random(c.tokens * 101 + c.head_size).floats((size_t)c.tokens * 3 * c.width()), false, 0};
}

// Scores up to +-16384: whole numbers, so that the sums are exact and the tolerance needs no room for them.
inline Problem make_large_scores(const Case& c) {
  Problem problem = make_problem(c);
  for (int row = 0; row < c.tokens; row++)
    for (int i = 0; i < 2 * c.width(); i++) {
      float& value = problem.x[(size_t)row * 3 * c.width() + i];
      value = std::round(value * 32);
      if (row % 3 == 0) value = i % 2 || i < c.width() ? 32 : -32;  // rows far up and rows far down
    }
  problem.exact_scores = true;
  return problem;
}

// Scores far up or far down, but near each other: what all keys have in common leaves no trace in the shares.
inline Problem make_offset_scores(const Case& c) {
  Problem problem = make_problem(c);
  for (int row = 0; row < c.tokens; row++)
    for (int head = 0; head < c.num_heads; head++) {
      float* x = problem.x.data() + (size_t)row * 3 * c.width() + head * c.head_size;
      x[0] = row % 3 == 0 ? 20 : row % 3 == 1 ? -20 : 0;
      x[c.width()] = 32;
    }
  problem.offset = 640;
  return problem;
}

inline Problem make_relative(const Case& c, int reach, int window) {
  Problem problem = make_problem(c);
  problem.reach = reach;
  problem.window = window;
  if (reach) problem.bias = Random(reach).floats((size_t)c.num_heads * (2 * reach + 1));
  for (float& value : problem.bias) value *= 4;
  return problem;
}

// Distances up to `near` have rows of their own, further ones share them by threes.
inline Problem make_vectors(const Case& c, int near, bool keys, bool queries, bool shared) {
  Problem problem = make_problem(c);
  Vectors& v = problem.vectors;
  const int reach = c.tokens + 2;
  const auto place = [&](int distance) { return distance <= near ? distance : near + (distance - near + 2) / 3; };
  v.count = 2 * place(reach) + 1;
  for (int distance = -reach; distance <= reach; distance++)
    v.row.push_back(v.count / 2 + (distance < 0 ? -place(-distance) : place(distance)));
  v.shared = shared;
  const size_t numbers = (size_t)(shared ? 1 : c.num_heads) * v.count * c.head_size;
  Random random(c.tokens + near);
  if (keys) v.keys = random.floats(numbers);
  if (queries) v.queries = random.floats(numbers);
  return problem;
}

// As make_offset_scores; the offset stands in a column that no vector has.
inline Problem make_offset_vectors(const Case& c) {
  Problem problem = make_offset_scores(c);
  problem.vectors = make_vectors(c, 20, true, true, false).vectors;
  for (Floats* all : {&problem.vectors.keys, &problem.vectors.queries})
    for (size_t i = 0; i < all->size(); i += c.head_size) (*all)[i] = 0;
  return problem;
}

// Heads of `own` numbers each. A norm's errors are those of the number itself, of the mean and of the variance.
inline Problem make_normed(const Case& c, int own) {
  Problem p = make_problem(c);
  const int columns = c.num_heads * own;
  p.own = own;
  p.norms = Random(own).floats((size_t)4 * columns);
  p.normed.resize((size_t)c.tokens * 2 * c.width());
  p.normed_scales.resize(p.normed.size());
  for (int i = 0; i < c.tokens * 2; i++) {
    float* x = p.x.data() + (size_t)(i / 2 * 3 + i % 2) * c.width();
    const float* weight = p.norms.data() + (size_t)i % 2 * 2 * columns;
    double mean = 0, size = 0, variance = 0;
    const auto each = [&](auto visit) {
      for (int column = 0; column < c.width(); column++)
        if (column % c.head_size < own) visit(x[column], column, column / c.head_size * own + column % c.head_size);
    };
    for (int column = 0; column < c.width(); column++) x[column] = column % c.head_size < own ? x[column] + 0.5f * (i % 3) : 0;
    each([&](double value, int, int) { mean += value / columns, size += std::abs(value) / columns; });
    each([&](double value, int, int) { variance += (value - mean) * (value - mean) / columns; });
    const double factor = 1 / std::sqrt(variance + kEps);
    each([&](double value, int column, int number) {
      const double bias = weight[columns + number];
      p.normed[(size_t)i * c.width() + column] = (value - mean) * factor * weight[number] + bias;
      p.normed_scales[(size_t)i * c.width() + column] =
          4 * (std::abs(value) + size) * factor * std::abs(weight[number]) + std::abs(bias);
    });
  }
  return p;
}
