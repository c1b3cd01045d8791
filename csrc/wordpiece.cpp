#include "wordpiece.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace bothways {
namespace {

// The hash of bytes b0 b1 ... bn is the polynomial b0 * kBase^n + ... + bn, modulo 2^64: from the hashes of a word's
// beginnings that of any part of it follows by one multiplication.
constexpr uint64_t kBase = 0x9E3779B97F4A7C15;

uint64_t extend(uint64_t hash, char byte) { return hash * kBase + (uint8_t)byte + 1; }

uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0;
  for (char byte : text) hash = extend(hash, byte);
  return hash;
}

// Spreads the polynomial's bits, of which the low ones depend on the last bytes alone.
uint64_t spread(uint64_t hash) {
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93;
  return hash ^ hash >> 32;
}

uint32_t tag_of(uint64_t spread) { return (uint32_t)(spread >> 32); }

bool continues_character(char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

// What becomes of a character. Never changed once it can be found.
struct WordPiece::Character {
  bool taught;       // else texts with it are left to others
  bool begins_added;  // some added token begins with it
  uint8_t count;
  Unit units[kMostUnits];
};

struct WordPiece::Page {
  std::atomic<const Character*> characters[256] = {};
  ~Page() {
    for (auto& character : characters) delete character.load();
  }
};

// The words of a text, as they come, and the first of their ids.
class WordPiece::Words {
 public:
  Words(const WordPiece& owner, int64_t limit, std::vector<int32_t>& ids)
      : owner_(owner), limit_(limit), ids_(ids), word_(4 * owner.vocabulary_.longest_word), hashes_(word_.size() + 1) {}

  void begin() {
    count_ = characters_ = 0;
    size_ = 0;
  }

  void add(const Unit& unit) {
    if (unit.place != Place::word) end_word();
    if (unit.place != Place::space) append(unit);
    if (unit.place == Place::alone) end_word();
  }

  void end_word() {
    if (characters_ == 0) return;
    if (characters_ > owner_.vocabulary_.longest_word || !cut())
      give(owner_.vocabulary_.unknown);
    characters_ = 0;
    size_ = 0;
  }

  int64_t count() const { return count_; }

 private:
  void append(const Unit& unit) {
    if (++characters_ > owner_.vocabulary_.longest_word) return;
    for (int i = 0; i < unit.size; i++) {
      word_[size_] = unit.bytes[i];
      hashes_[size_ + 1] = extend(hashes_[size_], unit.bytes[i]);
      size_++;
    }
  }

  // Cuts the word into pieces; if a part of it is none, it has none at all.
  bool cut() {
    pieces_.clear();
    for (size_t begin = 0; begin < size_;) {
      const size_t end = longest(begin);
      if (end == begin) return false;
      begin = end;
    }
    for (int32_t piece : pieces_) give(piece);
    return true;
  }

  // Finds the longest piece that begins there and keeps its id; returns where it ends, which is `begin` if there is none.
  size_t longest(size_t begin) {
    const std::string& prefix = owner_.vocabulary_.prefix;
    const size_t prefix_size = begin ? prefix.size() : 0;
    const size_t room = owner_.longest_piece_ > prefix_size ? owner_.longest_piece_ - prefix_size : 0;
    for (size_t end = std::min(size_, begin + room); end > begin; end--) {
      if (end < size_ && continues_character(word_[end])) continue;
      const size_t size = end - begin;
      const uint64_t before = begin ? owner_.prefix_hash_ : 0;
      const uint64_t hash = hashes_[end] + (before - hashes_[begin]) * owner_.powers_[size];
      const int32_t id = owner_.id_of(hash, prefix_size, &word_[begin], size);
      if (id < 0) continue;
      pieces_.push_back(id);
      return end;
    }
    return begin;
  }

  void give(int32_t id) {
    if (count_++ < limit_) ids_.push_back(id);
  }

  const WordPiece& owner_;
  const int64_t limit_;
  std::vector<int32_t>& ids_;
  std::vector<char> word_;        // the word so far, no more than counts
  std::vector<uint64_t> hashes_;  // of its beginnings
  std::vector<int32_t> pieces_;
  size_t size_ = 0;
  int64_t characters_ = 0, count_ = 0;
};

WordPiece::WordPiece(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  if (vocabulary_.longest_word < 1 || vocabulary_.longest_word > 10'000)
    throw std::invalid_argument("the longest word must have 1 to 10,000 characters");
  std::erase_if(vocabulary_.added, [](const std::u32string& token) { return token.empty(); });
  std::sort(vocabulary_.added.begin(), vocabulary_.added.end());
  prefix_hash_ = hash_of(vocabulary_.prefix);
  size_t places = 64;
  while (places < 2 * vocabulary_.pieces.size()) places *= 2;
  slots_.resize(places);
  for (size_t number = 0; number < vocabulary_.pieces.size(); number++) {
    const auto& [piece, id] = vocabulary_.pieces[number];
    if (id < 0) throw std::invalid_argument("piece '" + piece + "' has the negative id " + std::to_string(id));
    longest_piece_ = std::max(longest_piece_, piece.size());
    const uint64_t spread_hash = spread(hash_of(piece));
    size_t place = spread_hash & (places - 1);
    while (slots_[place].piece >= 0) place = (place + 1) & (places - 1);
    slots_[place] = {tag_of(spread_hash), (int32_t)number};
  }
  powers_.resize(4 * vocabulary_.longest_word + 1, 1);
  for (size_t i = 1; i < powers_.size(); i++) powers_[i] = powers_[i - 1] * kBase;
}

WordPiece::~WordPiece() {
  for (auto& page : pages_) delete page.load();
}

int32_t WordPiece::id_of(uint64_t hash, size_t prefix_size, const char* part, size_t size) const {
  const uint64_t spread_hash = spread(hash);
  for (size_t place = spread_hash & (slots_.size() - 1); slots_[place].piece >= 0; place = (place + 1) & (slots_.size() - 1)) {
    if (slots_[place].tag != tag_of(spread_hash)) continue;
    const auto& [piece, id] = vocabulary_.pieces[slots_[place].piece];
    if (piece.size() == prefix_size + size && piece.compare(0, prefix_size, vocabulary_.prefix, 0, prefix_size) == 0 &&
        std::memcmp(piece.data() + prefix_size, part, size) == 0)
      return id;
  }
  return -1;
}

void WordPiece::teach(char32_t character, const std::vector<Unit>& units) {
  if (units.size() > kMostUnits) return leave(character);
  auto fate = std::make_unique<Character>();
  fate->taught = true;
  fate->count = (uint8_t)units.size();
  std::copy(units.begin(), units.end(), fate->units);
  publish(character, std::move(fate));
}

void WordPiece::leave(char32_t character) { publish(character, std::make_unique<Character>()); }

// Without a lock, as a process forked while another thread holds one would wait for ever.
void WordPiece::publish(char32_t character, std::unique_ptr<Character> fate) {
  if (character >= 256 * kPages) throw std::invalid_argument("there is no character " + std::to_string((uint32_t)character));
  for (const std::u32string& token : vocabulary_.added)
    if (token[0] == character) fate->begins_added = true;
  std::atomic<Page*>& place = pages_[character / 256];
  Page* page = place.load();
  if (!page) {
    auto fresh = std::make_unique<Page>();
    if (place.compare_exchange_strong(page, fresh.get())) page = fresh.release();
  }
  const Character* none = nullptr;
  if (page->characters[character % 256].compare_exchange_strong(none, fate.get())) (void)fate.release();
}

const WordPiece::Character* WordPiece::find(char32_t character) const {
  if (character >= 256 * kPages) return nullptr;
  const Page* page = pages_[character / 256].load(std::memory_order_acquire);
  return page ? page->characters[character % 256].load(std::memory_order_acquire) : nullptr;
}

template <class Code>
bool WordPiece::is_added(const Code* text, size_t length) const {
  const auto [first, last] = std::equal_range(vocabulary_.added.begin(), vocabulary_.added.end(), std::u32string(1, text[0]),
                                              [](const auto& a, const auto& b) { return a[0] < b[0]; });
  return std::any_of(first, last, [&](const std::u32string& token) {
    return token.size() <= length && std::equal(token.begin(), token.end(), text);
  });
}

// Cuts a text into pieces and returns how many there are, or why there are none.
template <class Code>
int64_t WordPiece::take(const Code* text, size_t length, Words& words, std::set<char32_t>& unfamiliar) const {
  bool is_familiar = true;
  words.begin();
  for (size_t i = 0; i < length; i++) {
    const Character* character = find(text[i]);
    if (!character) {
      unfamiliar.insert(text[i]);
      is_familiar = false;
      continue;
    }
    if (!character->taught || (character->begins_added && is_added(text + i, length - i))) return Pieces::kLeft;
    for (int unit = 0; is_familiar && unit < character->count; unit++) words.add(character->units[unit]);
  }
  words.end_word();
  return is_familiar ? words.count() : Pieces::kUnfamiliar;
}

int64_t WordPiece::take(const TextView& text, Words& words, std::set<char32_t>& unfamiliar) const {
  switch (text.width) {
    case 1: return take(static_cast<const uint8_t*>(text.data), text.length, words, unfamiliar);
    case 2: return take(static_cast<const uint16_t*>(text.data), text.length, words, unfamiliar);
    default: return take(static_cast<const uint32_t*>(text.data), text.length, words, unfamiliar);
  }
}

Pieces WordPiece::encode(const std::vector<TextView>& texts, int64_t limit) const {
  const int64_t special = vocabulary_.before.size() + vocabulary_.after.size();
  if (limit < special)
    throw std::invalid_argument(std::to_string(limit) + " tokens have no room for " + std::to_string(special) + " special ones");
  Pieces result;
  Words words(*this, limit - special, result.ids);
  const auto add = [&](const std::vector<int32_t>& ids) { result.ids.insert(result.ids.end(), ids.begin(), ids.end()); };
  for (const TextView& text : texts) {
    const size_t begin = result.ids.size();
    add(vocabulary_.before);
    const int64_t count = take(text, words, result.unfamiliar);
    add(vocabulary_.after);
    if (count < 0) result.ids.resize(begin);
    result.ends.push_back(result.ids.size());
    result.counts.push_back(count < 0 ? count : count + special);
  }
  return result;
}

}  // namespace bothways
