// Choosing a level: the best by default, the named one or an error that says why.
#include <iterator>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "check.h"
#include "cpu.h"
#include "dispatch.h"

using namespace bothways;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string error_of(const std::string& name) {
  try {
    level(name);
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
  CHECK(std::string(cpu::missing(0)).empty());
  CHECK(std::string(cpu::missing(cpu::features())).empty());
  for (unsigned bit : {cpu::kX86V3, cpu::kX86V4, cpu::kVnni, cpu::kAmx})
    CHECK((cpu::features() & bit) == bit || !cpu::missing(bit).empty(), bit);
  // A bit that stands for nothing is never there: a level that needs it must not look usable.
  CHECK(!cpu::missing(1u << 31).empty());
  CHECK(!cpu::missing(~0u).empty());
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
  CHECK((cpu::features() & ~cpu::kAmx) == expected, cpu::features(), expected);
  std::istringstream words(cpu::feature_names());
  const std::set<std::string> names{std::istream_iterator<std::string>(words), {}};
  CHECK(names.count("avx2") == (bool)__builtin_cpu_supports("avx2"));
  CHECK(names.count("avx512f") == (bool)__builtin_cpu_supports("avx512f"));
  CHECK(names.count("avx512_vnni") == vnni);
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
#endif
  return check::report();
}
