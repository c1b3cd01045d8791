#include "model.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "float_mode.h"
#include "pass.h"

namespace bothways {
namespace {

// Tokens that a thread takes through all layers at once: enough to use each weight often while it is in the cache, few
// enough for the activations to stay in the second-level cache.
constexpr int kMostChunkTokens = 256;
constexpr int kFewestChunkTokens = 32;

// Cuts a batch into chunks of whole sequences, so that no thread ever waits for another inside one. Every thread gets as
// many chunks, and each ends with the sequence that reaches its share of the tokens, so that all threads end together.
std::vector<Chunk> cut(const TokenBatch& batch, int threads) {
  const int64_t tokens = batch.tokens(), round = (int64_t)threads * kMostChunkTokens;
  const int64_t most = (tokens + round - 1) / round * threads;
  const int64_t count = std::max<int64_t>(1, std::min<int64_t>(most, tokens / kFewestChunkTokens));
  std::vector<Chunk> chunks;
  for (int sequence = 0; sequence < batch.sequences; sequence++) {
    if (batch.starts[sequence] * count >= (int64_t)chunks.size() * tokens) chunks.push_back({sequence, sequence});
    chunks.back().end = sequence + 1;
  }
  return chunks;
}

void check_range(const char* what, const int32_t* values, int count, int limit) {
  for (int i = 0; i < count; i++)
    if (values[i] < 0 || values[i] >= limit)
      throw std::invalid_argument(std::string(what) + " " + std::to_string(values[i]) + " of token " +
                                  std::to_string(i) + " is outside the checkpoint's table of " + std::to_string(limit) +
                                  " rows");
}

}  // namespace

Model::Model(const Network& network, const Tensors& tensors, const Kernels& kernels, int threads)
    : network_(network),
      kernels_(kernels),
      pool_(threads),
      weights_(pack_weights(network_, tensors, kernels_, pool_)) {}

void Model::encode(const TokenBatch& batch, Rows rows, const Output& output) {
  check(batch);
  const std::vector<Chunk> chunks = cut(batch, pool_.threads());
  pool_.run((int)chunks.size(), [&](int number, Workspace& workspace) {
    const FloatMode mode;
    Pass(network_, weights_, kernels_, batch, chunks[number], workspace).run(rows, output);
  });
}

void Model::check(const TokenBatch& batch) const {
  for (int i = 0; i < batch.sequences; i++)
    if (batch.length(i) <= 0) throw std::invalid_argument("sequence " + std::to_string(i) + " of the batch has no tokens");
  check_range("id", batch.ids, batch.tokens(), network_.vocabulary);
  check_range("position", batch.positions, batch.tokens(), network_.positions);
  if (network_.token_types) check_range("token type", batch.token_types, batch.tokens(), network_.token_types);
}

}  // namespace bothways
