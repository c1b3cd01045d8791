#include "model.h"

#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "float_mode.h"
#include "kernels_in_use.h"
#include "pass.h"

namespace bothways {
namespace {

// Tokens that a thread takes through all layers at once: enough to use each weight often while it is in the cache, few
// enough for the activations that a step reads and writes to stay in the second-level cache, which is less than half of all.
int chunk_tokens(const Network& network, const Weights& weights, const Kernels& kernels) {
  constexpr long kFewest = 128, kMost = 512;
  if (network.layers() == 0) return kMost;
  const int inner = weights.layers[0].feed_forward[0].inner.columns;
  const long bytes = (sizeof(float) * network.hidden * kMost + kernels.operand_bytes(kMost, network.hidden) +
                      kernels.heads_bytes(kMost, network.heads, weights.head_size) + kernels.operand_bytes(kMost, inner)) /
                     kMost;
  return (int)std::clamp(sysconf(_SC_LEVEL2_CACHE_SIZE) * 9 / 4 / bytes, kFewest, kMost);
}

constexpr int kFewestChunkTokens = 32;

// Up to so many tokens a team of all threads computes a batch as one chunk: each then reads its share of the weights, where
// chunks of their own would have every thread read all of them.
constexpr int kMostTeamTokens = 64;

// Cuts a batch into chunks of whole sequences, so that no thread ever waits for another inside one. Every thread gets as
// many chunks, and each ends with the sequence that reaches its share of the tokens, so that all threads end together.
std::vector<Chunk> cut(const TokenBatch& batch, int threads, int most_tokens) {
  const int64_t tokens = batch.tokens(), round = (int64_t)threads * most_tokens;
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
      weights_(pack_weights(network_, tensors, kernels_, pool_)),
      chunk_tokens_(chunk_tokens(network_, weights_, kernels_)) {}

void Model::encode(const TokenBatch& batch, Rows rows, const Output& output) {
  check(batch);
  if (weights_.are_tables() && rows != Rows::all && !output.layers) return embed_means(batch, rows, output);
  const int threads = pool_.threads();
  if (threads > 1 && batch.sequences > 0 && (batch.sequences == 1 || batch.tokens() <= kMostTeamTokens)) {
    const int panels = network_.hidden / kernels_.panel;  // of the narrowest product: more members would have nothing to do
    pool_.run_team(std::max(1, panels), [&](const Member& member, Workspace& shared, Workspace& own) {
      compute(batch, {0, batch.sequences}, member, shared, own, rows, output);
    });
    return;
  }
  const std::vector<Chunk> chunks = cut(batch, threads, chunk_tokens_);
  pool_.run((int)chunks.size(), [&](int number, Workspace& workspace) {
    compute(batch, chunks[number], {}, workspace, workspace, rows, output);
  });
}

// No row is written down but the means.
void Model::embed_means(const TokenBatch& batch, Rows rows, const Output& output) {
  const std::vector<Chunk> chunks = cut(batch, pool_.threads(), chunk_tokens_);
  pool_.run((int)chunks.size(), [&](int number, Workspace&) {
    const FloatMode mode;
    for (int i = chunks[number].begin; i < chunks[number].end; i++) {
      const int begin = batch.starts[i];
      kernels_.embed_mean({.word = weights_.word,
                           .position = weights_.position,
                           .token_type = weights_.token_type,
                           .ids = batch.ids + begin,
                           .positions = batch.positions + begin,
                           .token_types = batch.token_types + begin,
                           .rows = rows == Rows::first ? std::min(1, batch.length(i)) : batch.length(i),
                           .columns = network_.hidden,
                           .hidden = output.rows + (ptrdiff_t)i * network_.hidden,
                           .stride = network_.hidden});
    }
  });
}

void Model::compute(const TokenBatch& batch, const Chunk& chunk, const Member& member, Workspace& shared, Workspace& own,
                    Rows rows, const Output& output) const {
  const FloatMode mode;
  const KernelsInUse use(kernels_);
  Pass pass(network_, weights_, kernels_, batch, chunk, member);
  if (member.number == 0) pass.reserve_shared(shared);
  pass.reserve_own(own);
  member.wait();
  pass.run(shared, own, rows, output);
}

void Model::check(const TokenBatch& batch) const {
  for (int i = 0; i < batch.sequences; i++)
    if (batch.length(i) < (weights_.are_tables() ? 0 : 1))
      throw std::invalid_argument("sequence " + std::to_string(i) + " of the batch has no tokens");
  for (int i = 0; batch.keys && i < batch.sequences; i++)
    if (batch.keys[i] < 1 || batch.keys[i] > batch.length(i))
      throw std::invalid_argument("sequence " + std::to_string(i) + " has " + std::to_string(batch.length(i)) +
                                  " tokens, of which " + std::to_string(batch.keys[i]) + " can't be seen");
  check_range("id", batch.ids, batch.tokens(), network_.vocabulary);
  check_range("position", batch.positions, batch.tokens(), network_.positions);
  if (network_.token_types) check_range("token type", batch.token_types, batch.tokens(), network_.token_types);
}

}  // namespace bothways
