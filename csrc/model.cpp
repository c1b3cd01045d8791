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

// Cuts a batch into chunks of whole sequences, so that no thread ever waits for another.
std::vector<Chunk> cut(const TokenBatch& batch, int threads) {
  const int share = (batch.tokens() + threads - 1) / threads;
  const int most = std::clamp(share, kFewestChunkTokens, kMostChunkTokens);
  std::vector<Chunk> chunks;
  for (int sequence = 0; sequence < batch.sequences; sequence++) {
    if (chunks.empty() || batch.starts[sequence + 1] - batch.starts[chunks.back().begin] > most)
      chunks.push_back({sequence, sequence});
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
      weights_(pack_weights(network_, tensors, kernels_, pool_)),
      workspaces_(threads) {}

void Model::encode(const TokenBatch& batch, Rows rows, const Output& output) {
  check(batch);
  const std::vector<Chunk> chunks = cut(batch, pool_.threads());
  pool_.run((int)chunks.size(), [&](int number, int slot) {
    const FloatMode mode;
    Pass(network_, weights_, kernels_, batch, chunks[number], workspaces_[slot]).run(rows, output);
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
