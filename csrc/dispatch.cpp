#include "dispatch.h"

#include <stdexcept>

#include "cpu.h"

namespace bothways {
namespace {

const Kernels* const all[] = {
#if defined(__x86_64__)
    &avx512::kernels,
    &avx2::kernels,
#endif
    &generic::kernels,
};

}  // namespace

std::vector<Level> levels() {
  std::vector<Level> result;
  for (const Kernels* kernels : all) result.push_back({kernels, cpu::missing(kernels->needs)});
  return result;
}

const Kernels& level(const std::string& name) {
  std::string names;
  for (const Level& candidate : levels()) {
    const bool usable = candidate.unusable.empty();
    if (name.empty() && usable) return *candidate.kernels;
    if (name == candidate.kernels->name) {
      if (usable) return *candidate.kernels;
      throw std::invalid_argument("level '" + name + "' can't run here: " + candidate.unusable);
    }
    if (!names.empty()) names += ", ";
    names += candidate.kernels->name;
  }
  throw std::invalid_argument("level '" + name + "' is unknown; this build has " + names);
}

}  // namespace bothways
