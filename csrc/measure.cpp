#include "measure.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "buffer.h"
#include "float_mode.h"
#include "kernels_in_use.h"
#include "weights.h"

namespace bothways {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTries = 5;

// Calls work(times), which returns the operations it did, often enough to take seconds / kTries, and does so kTries times.
template <class Work>
double best_rate(double seconds, Work work) {
  const auto time = [&](long times, double& operations) {
    const Clock::time_point begin = Clock::now();
    operations = work(times);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  double operations = 0;
  long times = 1;
  while (time(times, operations) < seconds / kTries / 2) times *= 2;
  double best = 0;
  for (int i = 0; i < kTries; i++) {
    const double took = time(times, operations);
    best = std::max(best, operations / took);
  }
  return best;
}

Buffer random_floats(size_t count) {
  Buffer result(count * sizeof(float));
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> numbers(-1, 1);
  for (size_t i = 0; i < count; i++) result.floats()[i] = numbers(random);
  return result;
}

}  // namespace

double measure_peak(const Kernels& kernels, int threads, double seconds) {
  return best_rate(seconds, [&](long times) {
    std::vector<double> operations(threads);
    const auto work = [&](int number) {
      const FloatMode mode;
      const KernelsInUse use(kernels);
      operations[number] = kernels.peak(times * 1000);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; i++) others.emplace_back(work, i);
    work(0);
    for (std::thread& other : others) other.join();
    double sum = 0;
    for (double part : operations) sum += part;
    return sum;
  });
}

double measure_linear(const Kernels& kernels, int rows, int columns, int depth, bool gelu, double seconds) {
  const FloatMode mode;
  const KernelsInUse use(kernels);
  const int stride = whole_groups(columns) + kGroup;
  const Buffer weight = random_floats((size_t)columns * depth), bias = random_floats(whole_groups(columns));
  const Buffer floats = random_floats((size_t)rows * whole_groups(depth));
  const Matrix matrix = pack_matrix(weight.floats(), bias.floats(), columns, depth, kernels);
  const Buffer x(kernels.operand_bytes(rows, depth)), scratch(kernels.linear_scratch(depth));
  kernels.convert({.floats = floats.floats(), .rows = rows, .columns = depth, .operand = x.data()});
  const Buffer out(std::max({sizeof(float) * whole_row_groups(rows) * stride, kernels.operand_bytes(rows, columns),
                             floats_bytes(rows, columns)}));
  const Linear product{.x = x.data(),
                       .weight = matrix.packed,
                       .bias = matrix.bias.floats(),
                       .rows = rows,
                       .columns = columns,
                       .depth = depth,
                       .activation = gelu ? Activation::gelu : Activation::none,
                       .into = gelu ? Into::inner : Into::hidden,
                       .out = out.data(),
                       .stride = stride,
                       .scratch = scratch.data()};
  return best_rate(seconds, [&](long times) {
    for (long i = 0; i < times; i++) kernels.linear(product);
    return 2.0 * rows * columns * depth * times;
  });
}

double measure_attention(const Kernels& kernels, int tokens, int heads, int size, double seconds) {
  const FloatMode mode;
  const KernelsInUse use(kernels);
  const int depth = heads * size, columns = 3 * depth;
  const Buffer weight = random_floats((size_t)columns * depth), floats = random_floats((size_t)tokens * whole_groups(depth));
  for (size_t i = 0; i < (size_t)columns * depth; i++) weight.floats()[i] /= depth;  // small scores: e^x as in a network
  const Matrix matrix = pack_matrix(weight.floats(), nullptr, columns, depth, kernels);
  const Buffer x(kernels.operand_bytes(tokens, depth)), packed(kernels.heads_bytes(tokens, heads, size));
  const Buffer product_scratch(kernels.linear_scratch(depth));
  kernels.convert({.floats = floats.floats(), .rows = tokens, .columns = depth, .operand = x.data()});
  kernels.linear({.x = x.data(),
                  .weight = matrix.packed,
                  .bias = Buffer(sizeof(float) * whole_groups(columns)).floats(),
                  .rows = tokens,
                  .columns = columns,
                  .depth = depth,
                  .activation = Activation::none,
                  .into = Into::heads,
                  .out = packed.data(),
                  .stride = 0,
                  .scratch = product_scratch.data()});
  const Buffer out(std::max(kernels.operand_bytes(tokens, depth), floats_bytes(tokens, depth)));
  const Buffer scratch(sizeof(float) * kernels.attention_scratch(tokens, size));
  const Attention attention{packed.data(), tokens, 0, tokens, heads, size, out.data(), scratch.floats(), nullptr};
  return best_rate(seconds, [&](long times) {
    for (long i = 0; i < times; i++) kernels.attention(attention);
    return 4.0 * tokens * tokens * depth * times;
  });
}

}  // namespace bothways
