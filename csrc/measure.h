// How fast a table's arithmetic is on this machine: the most it can do, and what its products reach.
#pragma once

#include "kernels.h"

namespace bothways {

// Operations a second on so many threads at once: the best of several tries that take about `seconds` together.
double measure_peak(const Kernels&, int threads, double seconds);

// Operations a second of one thread's products (rows, depth) x (columns, depth) with numbers in [-1, 1): added to hidden
// rows, or with GELU on the way to the next product.
double measure_linear(const Kernels&, int rows, int columns, int depth, bool gelu, double seconds);

// Operations a second of one thread's attention of one sequence, multiply-adds of scores and values alone; `size` must be a
// multiple of the table's head_group.
double measure_attention(const Kernels&, int tokens, int heads, int size, double seconds);

}  // namespace bothways
