// Choosing a level: the best by default, the named one or an error that says why.
#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "cpu.h"
#include "dispatch.h"

using namespace bothways;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string error_of(const std::string& name, const std::vector<Level>& among = levels()) {
  try {
    level(name, among);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

void test_levels() {
  check::at("levels");
  const auto all = levels();
  std::set<std::string> names;
  for (const Level& each : all) names.insert(each.name);
  CHECK(names.size() == all.size());
  CHECK(names.count("generic") == 1);
#if defined(__x86_64__)
  CHECK(names.count("avx2") == 1 && names.count("avx512") == 1 && names.count("amx") == 1);
#endif
  CHECK(std::string(all.back().name) == "generic");
  CHECK(all.back().unusable.empty(), all.back().unusable);
  for (size_t i = 0; i + 1 < all.size(); i++) {  // best first: each needs more than the next
    const unsigned needs = all[i].tables->needs, next = all[i + 1].tables->needs;
    CHECK((needs & next) == next && needs != next, needs, next);
  }
}

void test_every_name_resolves_or_says_why() {
  for (const Level& each : levels()) {
    const std::string name = each.name, error = error_of(name);
    check::at("level %s", name.c_str());
    std::printf("level %s: %s\n", name.c_str(), each.unusable.empty() ? "usable" : each.unusable.c_str());
    if (each.unusable.empty()) {
      CHECK(error.empty(), error);
      CHECK(&level(name) == &each);
    } else {
      CHECK(contains(error, name) && contains(error, each.unusable), error);
    }
  }
}

void test_the_default_is_the_best() {
  check::at("default level");
  for (const Level& each : levels()) {
    if (!each.unusable.empty()) continue;
    CHECK(&level("") == &each, level("").name, each.name);
    return;
  }
  CHECK(!"no level is usable");
}

void test_unknown_names() {
  for (const std::string name : {"avx", "AVX2", " generic", "doesnotexist"}) {
    check::at("unknown level '%s'", name.c_str());
    const std::string error = error_of(name);
    CHECK(contains(error, "'" + name + "'"), error);
    for (const Level& each : levels()) CHECK(contains(error, each.name), error, each.name);
  }
}

void test_dtypes() {
  check::at("dtypes");
  for (const Level& each : levels()) {
    std::set<std::string> names;
    for (int i = 0; i < kDtypes; i++) {
      const Kernels& table = each.tables[i];
      names.insert(table.dtype);
      CHECK(&kernels(each, table.dtype) == &table);
      CHECK(std::string(table.level) == each.name && table.needs == each.tables->needs);
      CHECK(table.panel % kGroup == 0 && table.head_group % kGroup == 0);
    }
    CHECK(names == (std::set<std::string>{"float32", "bfloat16", "int8"}));
    CHECK(std::string(each.tables->dtype) == "float32");
    std::string error;
    try {
      kernels(each, "float16");
    } catch (const std::invalid_argument& failure) {
      error = failure.what();
    }
    CHECK(contains(error, "'float16'") && contains(error, "float32, bfloat16, int8"), error);
    CHECK(std::string(plain_kernels(each).dtype) == "float32");
  }
}

void test_missing() {
  check::at("missing features");
  const cpu::Found& found = cpu::found();
  CHECK(found.missing(0).empty());
  CHECK(found.missing(found.features).empty());
  for (unsigned bit : {cpu::kX86V3, cpu::kX86V4, cpu::kVnni, cpu::kAmx})
    CHECK((found.features & bit) == bit || !found.missing(bit).empty(), bit);
  // A bit that stands for nothing is never there: a level that needs it must not look usable.
  CHECK(!found.missing(1u << 31).empty());
  CHECK(!found.missing(~0u).empty());
}

#if defined(__x86_64__)
// The compiler's own detection, written by others, must agree (it too asks what the system saves).
void test_features_against_the_compiler() {
  check::at("features");
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  const bool vnni = __builtin_cpu_supports("avx512vnni");
  const unsigned expected = (v3 ? cpu::kX86V3 : 0) | (v4 ? cpu::kX86V4 : 0) | (vnni ? cpu::kVnni : 0);
  const cpu::Found& found = cpu::found();
  CHECK((found.features & ~cpu::kAmx) == expected, found.features, expected);
  std::istringstream words(found.names);
  const std::set<std::string> names{std::istream_iterator<std::string>(words), {}};
  CHECK(names.count("avx2") == (bool)__builtin_cpu_supports("avx2"));
  CHECK(names.count("avx512f") == (bool)__builtin_cpu_supports("avx512f"));
  CHECK(names.count("avx512_vnni") == vnni);
}

int requests, refusal, products;  // what the machine below was asked, and what it answers
bool sound;

// A machine with all that level amx needs; the bits' numbers are those of Intel's manual.
cpu::Machine machine_with_amx() {
  const auto bits = [](std::initializer_list<int> numbers) {
    unsigned result = 0;
    for (int number : numbers) result |= 1u << number;
    return result;
  };
  requests = refusal = products = 0;
  sound = true;
  cpu::Machine machine;
  machine.one.ecx = bits({12, 22, 27, 28, 29});             // FMA, MOVBE, OSXSAVE, AVX, F16C
  machine.seven.ebx = bits({3, 5, 8, 16, 17, 28, 30, 31});  // BMI1, AVX2, BMI2, AVX-512 F, DQ, CD, BW, VL
  machine.seven.ecx = bits({1, 11});                        // AVX-512 VBMI, VNNI
  machine.seven.edx = bits({22, 24, 25});                   // AMX bfloat16, tiles, int8
  machine.seven_one.eax = bits({5});                        // AVX-512 BF16
  machine.extended.ecx = bits({5});                         // LZCNT
  machine.palettes.eax = 1;                                 // the last palette
  machine.palette.eax = 1024 << 16 | 8192;                  // bytes of a tile, of all
  machine.palette.ebx = 8 << 16 | 64;                       // tiles, bytes of a row
  machine.palette.ecx = 16;                                 // rows
  machine.saved_states = bits({0, 1, 2, 5, 6, 7, 17, 18});  // x87, xmm, ymm, AVX-512's three, tiles' two
  machine.request_tiles = [] {
    requests++;
    return refusal;
  };
  return machine;
}

// The levels on such a machine. No kernel runs: this CPU may not have the instructions.
std::vector<Level> levels_on(const cpu::Machine& machine) {
  static Kernels amx_tables[kDtypes];
  std::copy_n(amx::kernels, kDtypes, amx_tables);
  for (Kernels& table : amx_tables)
    table.works = [] {
      products++;
      return sound;
    };
  std::vector<const Kernels*> tables;
  for (const Level& each : levels()) tables.push_back(each.tables);
  tables.front() = amx_tables;
  return find_levels(tables, cpu::find(machine));
}

void test_amx_is_refused_for_a_reason() {
  check::at("amx on a machine that has all it needs");
  const std::vector<Level> usable = levels_on(machine_with_amx());
  CHECK(&level("", usable) == &usable.front() && error_of("amx", usable).empty(), usable.front().unusable);
  CHECK(requests == 1 && products == 1, requests, products);

  struct Refusal {
    const char* reason;
    void (*change)(cpu::Machine&);
    bool asked = false;  // whether the system was asked for the use of tiles before
  };
  const char* const lacks = "this CPU lacks AMX (amx_tile, amx_bf16, amx_int8), AVX-512 BF16 or AVX-512 VBMI";
  const char* const unsaved = "the operating system does not save AMX tiles";
  const char* const palette = "the hypervisor offers AMX without tiles of 16 rows of 64 bytes";
  using cpu::Machine;
  const Refusal refusals[] = {
      {lacks, [](Machine& m) { m.seven.edx &= ~(1u << 22); }},
      {lacks, [](Machine& m) { m.seven.edx &= ~(1u << 24); }},
      {lacks, [](Machine& m) { m.seven.edx &= ~(1u << 25); }},
      {lacks, [](Machine& m) { m.seven.ecx &= ~(1u << 1); }},
      {lacks, [](Machine& m) { m.seven_one.eax = 0; }},
      {unsaved, [](Machine& m) { m.saved_states = 0xe7; }},
      {unsaved, [](Machine& m) { m.saved_states &= ~(1ull << 17); }},
      {unsaved, [](Machine& m) { m.saved_states &= ~(1ull << 18); }},
      {palette, [](Machine& m) { m.palettes = m.palette = {}; }},
      {palette, [](Machine& m) { m.palettes.eax = 0; }},
      {palette, [](Machine& m) { m.palette.eax = 512 << 16 | 8192; }},
      {palette, [](Machine& m) { m.palette.ebx = 8 << 16 | 32; }},
      {palette, [](Machine& m) { m.palette.ebx = 4 << 16 | 64; }},
      {palette, [](Machine& m) { m.palette.ecx = 8; }},
      {"AMX tiles are used on Linux only", [](Machine& m) { m.request_tiles = nullptr; }},
      {"the operating system refuses the use of AMX tiles: No space left on device", [](Machine&) { refusal = ENOSPC; }, true},
      {"this machine offers the instructions, but they give wrong results", [](Machine&) { sound = false; }, true},
  };
  for (const Refusal& each : refusals) {
    check::at("amx refused, case %d: %s", (int)(&each - refusals), each.reason);
    cpu::Machine machine = machine_with_amx();
    each.change(machine);
    const std::vector<Level> all = levels_on(machine);
    const std::string error = error_of("amx", all), best = level("", all).name;
    CHECK(contains(all.front().unusable, each.reason), all.front().unusable);
    CHECK(contains(error, "'amx'") && contains(error, each.reason), error);
    CHECK(best == "avx512", best);
    CHECK(requests == each.asked && products == !sound, requests, products);
  }
}

// Saved tiles are worth nothing without the registers of AVX-512.
void test_unsaved_avx512_leaves_avx2() {
  check::at("AVX-512 that the system does not save");
  cpu::Machine machine = machine_with_amx();
  machine.saved_states &= ~0xe0ull;
  const cpu::Found found = cpu::find(machine);
  CHECK(found.features == cpu::kX86V3, found.features);
  for (unsigned bit : {cpu::kX86V4, cpu::kVnni, cpu::kAmx}) CHECK(!found.missing(bit).empty(), bit);
  const std::vector<Level> all = levels_on(machine);
  CHECK(std::string(level("", all).name) == "avx2" && requests == 0, level("", all).name, requests);
}
#endif

}  // namespace

int main() {
  test_levels();
  test_every_name_resolves_or_says_why();
  test_the_default_is_the_best();
  test_unknown_names();
  test_dtypes();
  test_missing();
#if defined(__x86_64__)
  test_features_against_the_compiler();
  test_amx_is_refused_for_a_reason();
  test_unsaved_avx512_leaves_avx2();
#endif
  return check::report();
}
