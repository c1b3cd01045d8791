// An encoder ready to compute: packed weights, threads, workspaces, and how a batch is shared among threads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "weights.h"

namespace bothways {

// Sequences packed end to end: T tokens, B sequences (batch.py).
struct TokenBatch {
  const int32_t* ids;          // (T)
  const int32_t* positions;    // (T)
  const int32_t* token_types;  // (T)
  const int32_t* starts;       // (B + 1)
  int sequences;               // B
  const int32_t* keys = nullptr;  // (B): only so many of a sequence's tokens, its first ones, are seen; null where all are

  int tokens() const { return starts[sequences]; }
  int length(int sequence) const { return starts[sequence + 1] - starts[sequence]; }
};

// Sequences [begin, end) of a batch, which are taken through all layers together.
struct Chunk {
  int begin, end;
};

enum class Rows { all, first, mean };

struct Output {
  float* rows;                     // (T, H) for Rows::all, else (B, H)
  float* layers;                   // (L + 1, T, H), or null
  std::vector<float*> attentions;  // for every sequence of S tokens (L, N, S, S), or empty
};

class Model {
 public:
  Model(const Network&, const Tensors&, const Kernels&, int threads);

  // Computes a batch. Safe to call from many threads at once. A sequence's numbers depend on nothing but the sequence.
  // Throws std::invalid_argument for ids, positions or token types outside the tables, and for a sequence without tokens;
  // where hidden is the tables' rows as they are, such a sequence has a mean and a first row of zeros.
  void encode(const TokenBatch&, Rows, const Output&);

  // Throws if a batch can't be computed; encode() does so itself.
  void check(const TokenBatch&) const;

 private:
  void embed_means(const TokenBatch&, Rows, const Output&);
  void compute(const TokenBatch&, const Chunk&, const Member&, Workspace& shared, Workspace& own, Rows, const Output&) const;

  const Network network_;
  const Kernels& kernels_;
  Pool pool_;
  const Weights weights_;
  const int chunk_tokens_;  // the most that a chunk has, if its sequences allow
};

}  // namespace bothways
