// The forward pass of a few whole sequences on one thread: the layer loop.
#pragma once

#include "kernels.h"
#include "model.h"
#include "weights.h"
#include "workspace.h"

namespace bothways {

// Sequences [begin, end) of a batch, which one thread takes through all layers.
struct Chunk {
  int begin, end;
};

// T stands for the chunk's tokens, H hidden, N heads, D stored head size, I inner.
class Pass {
 public:
  Pass(const Network&, const Weights&, const Kernels&, const TokenBatch&, Chunk, Workspace&);

  // Computes the chunk and writes its part of the output.
  void run(Rows, const Output&) const;

 private:
  void embed() const;
  void attend(const Layer&, int number, const Output&) const;
  void feed_forward(const Layer&) const;
  void norm(const NormWeights&) const;
  void linear(const void* x, const Matrix&, Activation, Into, void* out) const;
  void write_layer(int number, const Output&) const;
  void write_rows(Rows, const Output&) const;

  const Network& network_;
  const Weights& weights_;
  const Kernels& kernels_;
  const TokenBatch& batch_;
  const Chunk chunk_;
  const int first_, tokens_;  // the chunk's first token in the batch, and T
  const int stride_;
  Workspace& workspace_;
  float* hidden_;  // (T, stride)
  void* x_;        // operand: (T, H) before a product, (T, N * D) behind attention
};

}  // namespace bothways
