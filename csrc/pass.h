// The forward pass of a few whole sequences: the layer loop.
#pragma once

#include "kernels.h"
#include "model.h"
#include "team.h"
#include "weights.h"
#include "workspace.h"

namespace bothways {

// One thread's part of the pass; alone, it is the whole. T stands for the chunk's tokens, H hidden, N heads, D stored head
// size, I inner.
class Pass {
 public:
  Pass(const Network&, const Weights&, const Kernels&, const TokenBatch&, Chunk, const Member& = {});

  // Makes room: in `shared` for what the members compute together, in `own` for what each needs for itself.
  void reserve_shared(Workspace& shared) const;
  void reserve_own(Workspace& own) const;

  // Computes the chunk and writes its part of the output. Every member has to run it.
  void run(Workspace& shared, Workspace& own, Rows, const Output&);

 private:
  void embed();
  void project();
  void convolve();
  void shift_rows(int distance);
  void add_convolution();
  void attend(const Layer&, int number, const Output&);
  void norm_heads(const Layer&);
  void rotate(int number);
  void attention(const Layer&, int number, const Output&);
  void keep_residual(const Layer&);
  void add_residual(const Layer&);
  void feed_forward(const Layer&);
  enum class Keep { no, yes };
  void norm(const NormWeights&, Keep);
  void last_norm(const NormWeights&, Rows, const Output&);
  Norm norm_of(const NormWeights&) const;
  void linear(const void* x, const Matrix&, Activation, Into, void* out);
  void finish_inner(float* floats, int columns, void* operand);
  void convert(const float* floats, int columns, void* operand);
  void write_layer(int number, const Output&) const;
  void write_means(const NormWeights&, Rows, const Output&) const;

  // Where things lie in the shared workspace, in bytes.
  struct Places {
    size_t hidden, operand, heads, inner, floats, residual, convolution, shifted, end;
  };
  Places places() const;
  size_t block_bytes() const;
  int blocks_at_once() const;

  const Network& network_;
  const Weights& weights_;
  const Kernels& kernels_;
  const TokenBatch& batch_;
  const Chunk chunk_;
  const Member member_;
  const int first_, tokens_;  // the chunk's first token in the batch, and T
  const Range rows_;          // this member's of the T rows
  const int stride_;
  const int context_;  // N * D

  float* hidden_ = nullptr;  // (T, stride)
  void* x_ = nullptr;        // operand: (T, H) before a product, (T, N * D) behind attention
  void* heads_ = nullptr;    // (T, 3 * N * D)
  char* inner_ = nullptr;    // operands (T, a block's columns)
  float* floats_ = nullptr;  // what is still to be converted: (T, N * D) or blocks of (T, a block's columns)
  float* convolution_ = nullptr;  // (T, stride), if there is one, as is shifted
  float* shifted_ = nullptr;      // hidden of as many tokens further on
  float* residual_ = nullptr;  // (T, stride) hidden before attention, where it is needed again
  void* scratch_ = nullptr;
};

}  // namespace bothways
