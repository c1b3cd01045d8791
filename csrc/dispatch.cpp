#include "dispatch.h"

#include <stdexcept>

namespace bothways {
namespace {

std::string why_unusable(const Kernels& table, const cpu::Found& found) {
  const std::string missing = found.missing(table.needs);
  if (!missing.empty() || !table.works || table.works()) return missing;
  return "this machine offers the instructions, but they give wrong results";
}

}  // namespace

std::vector<Level> find_levels(const std::vector<const Kernels*>& all, const cpu::Found& found) {
  std::vector<Level> result;
  for (const Kernels* tables : all) result.push_back({tables->level, tables, why_unusable(*tables, found)});
  return result;
}

const std::vector<Level>& levels() {
  static const std::vector<Level> once = find_levels(
      {
#if defined(__x86_64__)
          amx::kernels,
          avx512::kernels,
          avx2::kernels,
#endif
          generic::kernels,
      },
      cpu::found());
  return once;
}

const Level& level(const std::string& name, const std::vector<Level>& among) {
  std::string names;
  for (const Level& candidate : among) {
    const bool usable = candidate.unusable.empty();
    if (name.empty() && usable) return candidate;
    if (name == candidate.name) {
      if (usable) return candidate;
      throw std::invalid_argument("level '" + name + "' can't run here: " + candidate.unusable);
    }
    if (!names.empty()) names += ", ";
    names += candidate.name;
  }
  throw std::invalid_argument("level '" + name + "' is unknown; this build has " + names);
}

const Kernels& kernels(const Level& level, const std::string& dtype) {
  std::string names;
  for (int i = 0; i < kDtypes; i++) {
    if (dtype == level.tables[i].dtype) return level.tables[i];
    if (i) names += ", ";
    names += level.tables[i].dtype;
  }
  throw std::invalid_argument("dtype '" + dtype + "' is unknown; the native engine has " + names);
}

const Kernels& plain_kernels(const Level& level) { return level.tables->plain ? *level.tables->plain : *level.tables; }

}  // namespace bothways
