// WordPiece: texts to token ids, the greedy longest pieces of every word (Wu et al. 2016, as BERT uses it).
//
// It knows nothing of Unicode. What becomes of a character (kept, lower-cased, a word of its own, dropped) is taught from
// outside, by whoever asks the reference tokenizer; a text with a character that can't be taught is left to that tokenizer.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bothways {

// A text as Python stores it: one, two or four bytes a character.
struct TextView {
  const void* data;
  int width;
  size_t length;
};

// What a character becomes part of: a word, a word that it is alone, or nothing, ending the word before it.
enum class Place : uint8_t { word, alone, space };

// One character of the normalised text.
struct Unit {
  char bytes[4];  // UTF-8
  uint8_t size;
  Place place;
};

struct Vocabulary {
  std::vector<std::pair<std::string, int32_t>> pieces;
  std::string prefix;                 // of pieces that continue a word
  int32_t unknown;                    // the id of a word that can't be cut into pieces
  int longest_word;                   // a word of more characters is unknown
  std::vector<std::u32string> added;  // tokens recognised in the text as it is, which are left to others
  std::vector<int32_t> before, after;  // the special tokens around every text
};

// What `encode` makes of texts.
struct Pieces {
  static constexpr int64_t kLeft = -1, kUnfamiliar = -2;

  std::vector<int32_t> ids;     // of all texts, special tokens included
  std::vector<int64_t> ends;    // where each text's ids end
  std::vector<int64_t> counts;  // how many tokens each text has, those cut off included; or why it has no ids here
  std::set<char32_t> unfamiliar;  // the characters to be taught
};

class WordPiece {
 public:
  static constexpr int kMostUnits = 6;

  explicit WordPiece(Vocabulary vocabulary);
  ~WordPiece();
  WordPiece(const WordPiece&) = delete;
  WordPiece& operator=(const WordPiece&) = delete;

  // Says that `units` are what becomes of a character, wherever it stands. May be called while others encode; what was
  // taught first stays.
  void teach(char32_t character, const std::vector<Unit>& units);

  // Says that a character's fate depends on its neighbours: texts with it are left to others.
  void leave(char32_t character);

  // Encodes texts, each cut to `limit` tokens, special ones included.
  Pieces encode(const std::vector<TextView>& texts, int64_t limit) const;

 private:
  static constexpr size_t kPages = 0x110000 / 256;

  struct Character;
  struct Page;
  class Words;

  void publish(char32_t character, std::unique_ptr<Character> fate);
  const Character* find(char32_t character) const;
  int32_t id_of(uint64_t hash, size_t prefix_size, const char* part, size_t size) const;
  int64_t take(const TextView& text, Words& words, std::set<char32_t>& unfamiliar) const;
  template <class Code>
  int64_t take(const Code* text, size_t length, Words& words, std::set<char32_t>& unfamiliar) const;
  template <class Code>
  bool is_added(const Code* text, size_t length) const;

  // A place of the hash table: some bits of the hash, and the piece's number; free where the number is negative.
  struct Slot {
    uint32_t tag = 0;
    int32_t piece = -1;
  };

  Vocabulary vocabulary_;
  std::vector<Slot> slots_;  // their number is a power of two
  size_t longest_piece_ = 0;  // in bytes
  uint64_t prefix_hash_ = 0;
  std::vector<uint64_t> powers_;  // of the hash's base
  std::array<std::atomic<Page*>, kPages> pages_{};
};

}  // namespace bothways
