// WordPiece against the definition: the longest piece first, tried one by one; characters of every width; many threads.
#include <algorithm>
#include <map>
#include <set>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "wordpiece.h"

using namespace bothways;

namespace {

constexpr int32_t kUnknown = 1, kBefore = 2, kAfter = 3;
constexpr int kLongestWord = 8;
constexpr char32_t kAlone = '.', kGone = '~', kTwice = U'\u00e6', kWide = U'\U0001F600', kThree = U'\u20ac', kLeft = U'\u0301';

std::string utf8(char32_t character) {
  if (character < 0x80) return {(char)character};
  if (character < 0x800) return {(char)(0xC0 | character >> 6), (char)(0x80 | (character & 63))};
  if (character < 0x10000)
    return {(char)(0xE0 | character >> 12), (char)(0x80 | (character >> 6 & 63)), (char)(0x80 | (character & 63))};
  return {(char)(0xF0 | character >> 18), (char)(0x80 | (character >> 12 & 63)), (char)(0x80 | (character >> 6 & 63)),
          (char)(0x80 | (character & 63))};
}

Unit unit(const std::string& bytes, Place place) {
  Unit made{{}, (uint8_t)bytes.size(), place};
  std::copy(bytes.begin(), bytes.end(), made.bytes);
  return made;
}

Vocabulary vocabulary(std::mt19937& random) {
  Vocabulary made{{{"[UNK]", kUnknown}}, "##", kUnknown, kLongestWord, {U"[X]"}, {kBefore}, {kAfter}};
  std::map<std::string, int32_t> pieces;
  for (int i = 0; i < 300; i++) {
    std::string piece = random() % 2 ? "##" : "";
    for (unsigned n = 1 + random() % 4; n; n--) piece += random() % 9 ? std::string{(char)('a' + random() % 4)} : utf8(random() % 2 ? kWide : kThree);
    pieces.emplace(piece, 10 + (int32_t)pieces.size());
  }
  pieces.emplace(".", 9);
  made.pieces.insert(made.pieces.end(), pieces.begin(), pieces.end());
  return made;
}

void teach(WordPiece& pieces) {
  for (char32_t letter = 'a'; letter <= 'd'; letter++) pieces.teach(letter, {unit(utf8(letter), Place::word)});
  for (char letter : {'[', 'X', ']'}) pieces.teach(letter, {unit({letter}, Place::alone)});
  pieces.teach(' ', {unit(" ", Place::space)});
  pieces.teach(kAlone, {unit(".", Place::alone)});
  pieces.teach(kGone, {});
  pieces.teach(kTwice, {unit("a", Place::word), unit("b", Place::word)});
  pieces.teach(kWide, {unit(utf8(kWide), Place::word)});
  pieces.teach(kThree, {unit(utf8(kThree), Place::word)});
  pieces.leave(kLeft);
}

using Word = std::vector<std::string>;  // characters

std::vector<int32_t> cut(const Word& word, const std::map<std::string, int32_t>& ids) {
  if (word.size() > kLongestWord) return {kUnknown};
  std::vector<int32_t> result;
  for (size_t begin = 0; begin < word.size();) {
    size_t end = word.size();
    for (; end > begin; end--) {
      std::string piece = begin ? "##" : "";
      for (size_t i = begin; i < end; i++) piece += word[i];
      const auto found = ids.find(piece);
      if (found == ids.end()) continue;
      result.push_back(found->second);
      break;
    }
    if (end == begin) return {kUnknown};
    begin = end;
  }
  return result;
}

std::vector<int32_t> reference(const std::u32string& text, const std::map<std::string, int32_t>& ids) {
  std::vector<Word> words(1);
  for (char32_t character : text) {
    if (character == ' ' || character == kAlone) words.emplace_back();
    if (character == ' ' || character == kGone) continue;
    if (character == kTwice)
      words.back().insert(words.back().end(), {"a", "b"});
    else
      words.back().push_back(utf8(character));
    if (character == kAlone) words.emplace_back();
  }
  std::vector<int32_t> result;
  for (const Word& word : words)
    for (int32_t id : cut(word, ids)) result.push_back(id);
  return result;
}

// The text as Python may store it: in the fewest bytes that hold its characters, or in more.
template <class Code>
std::vector<Code> stored(const std::u32string& text) {
  return {text.begin(), text.end()};
}

void check_text(const WordPiece& pieces, const std::u32string& text, const std::vector<int32_t>& expected, int64_t most) {
  const auto one = stored<uint8_t>(text);
  const auto two = stored<uint16_t>(text);
  const auto four = stored<uint32_t>(text);
  const char32_t highest = text.empty() ? 0 : *std::max_element(text.begin(), text.end());
  std::vector<TextView> views = {{four.data(), 4, text.size()}};
  if (highest < 0x10000) views.push_back({two.data(), 2, text.size()});
  if (highest < 0x100) views.push_back({one.data(), 1, text.size()});
  const Pieces found = pieces.encode(views, most);
  const size_t kept = std::min<size_t>(expected.size(), most - 2);
  for (size_t i = 0; i < views.size(); i++) {
    CHECK(found.counts[i] == (int64_t)expected.size() + 2, i, found.counts[i], expected.size());
    const size_t begin = i ? found.ends[i - 1] : 0;
    CHECK((size_t)found.ends[i] == begin + kept + 2, i, found.ends[i], begin, kept);
    if ((size_t)found.ends[i] != begin + kept + 2) return;
    CHECK(found.ids[begin] == kBefore && found.ids[begin + kept + 1] == kAfter, i);
    for (size_t n = 0; n < kept; n++) CHECK(found.ids[begin + 1 + n] == expected[n], i, n, found.ids[begin + 1 + n], expected[n]);
  }
}

void test_random_texts() {
  for (unsigned seed = 0; seed < 200; seed++) {
    check::at("random texts, seed %u", seed);
    std::mt19937 random(seed);
    const Vocabulary known = vocabulary(random);
    const std::map<std::string, int32_t> ids(known.pieces.begin(), known.pieces.end());
    WordPiece pieces(known);
    teach(pieces);
    const std::u32string alphabets[] = {U"abcd", U"abcd .~", U"aabbccdd .~\u00e6", U"abcd \U0001F600", U"abcd\u20ac \u20ac."};
    for (int i = 0; i < 50; i++) {
      const std::u32string& alphabet = alphabets[random() % 5];
      std::u32string text;
      for (unsigned n = random() % 40; n; n--) text += alphabet[random() % alphabet.size()];
      check_text(pieces, text, reference(text, ids), 2 + random() % 30);
    }
  }
}

void test_what_is_left_and_what_is_unfamiliar() {
  check::at("left and unfamiliar");
  std::mt19937 random(7);
  WordPiece pieces(vocabulary(random));
  teach(pieces);
  const auto encode = [&](std::u32string text) {
    const auto four = stored<uint32_t>(text);
    return pieces.encode({{four.data(), 4, four.size()}}, 50);
  };
  for (const char32_t* text : {U"ab [X] c", U"[X]", U"a\u0301", U"zz [X]"}) {
    const Pieces found = encode(text);
    CHECK(found.counts[0] == Pieces::kLeft && found.ids.empty(), found.counts[0]);
  }
  CHECK(encode(U"[X [").counts[0] == 2 + 3, encode(U"[X [").counts[0]);
  const Pieces found = encode(U"zayz");
  CHECK(found.counts[0] == Pieces::kUnfamiliar && found.ids.empty(), found.counts[0]);
  CHECK((found.unfamiliar == std::set<char32_t>{'y', 'z'}), found.unfamiliar.size());
  // What can't be a character is unfamiliar for ever, and what was taught stays.
  const uint32_t beyond[] = {0x110000, 0xFFFFFFFF};
  CHECK(pieces.encode({{beyond, 4, 2}}, 50).counts[0] == Pieces::kUnfamiliar);
  const std::vector<int32_t> before = encode(U"a").ids;
  pieces.teach('a', {});
  CHECK(encode(U"a").ids == before);
}

void test_many_threads_teach_and_encode() {
  check::at("many threads");
  std::mt19937 random(8);
  const Vocabulary known = vocabulary(random);
  const std::map<std::string, int32_t> ids(known.pieces.begin(), known.pieces.end());
  const std::u32string text = U"abcd ab. \U0001F600 dcba~b";
  WordPiece pieces(known);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&] {
      teach(pieces);
      for (int round = 0; round < 200; round++) check_text(pieces, text, reference(text, ids), 40);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  test_random_texts();
  test_what_is_left_and_what_is_unfamiliar();
  test_many_threads_teach_and_encode();
  return check::report();
}
