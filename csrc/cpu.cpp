#include "cpu.h"

#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bothways::cpu {
namespace {

struct Found {
  unsigned features = 0;
  std::string names;
};

#if defined(__x86_64__)

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  Leaf(unsigned leaf, unsigned sub) { __get_cpuid_count(leaf, sub, &eax, &ebx, &ecx, &edx); }
};

// The register states that the operating system saves; instructions on others would fault.
unsigned long long saved_states() {
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (unsigned long long)high << 32 | low;
}

Found find() {
  const Leaf one(1, 0), seven(7, 0), extended(0x80000001, 0);
  const unsigned long long states = one.ecx >> 27 & 1 ? saved_states() : 0;
  const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6, tiles = (states & 0x60000) == 0x60000;
  struct {
    const char* name;
    bool there;
    unsigned part_of;  // the set that needs it
  } const all[] = {
      {"avx", (one.ecx >> 28 & 1) && ymm, kX86V3},
      {"avx2", (seven.ebx >> 5 & 1) && ymm, kX86V3},
      {"fma", (one.ecx >> 12 & 1) && ymm, kX86V3},
      {"f16c", (one.ecx >> 29 & 1) && ymm, kX86V3},
      {"movbe", (one.ecx >> 22 & 1) != 0, kX86V3},
      {"bmi1", (seven.ebx >> 3 & 1) != 0, kX86V3},
      {"bmi2", (seven.ebx >> 8 & 1) != 0, kX86V3},
      {"lzcnt", (extended.ecx >> 5 & 1) != 0, kX86V3},
      {"avx512f", (seven.ebx >> 16 & 1) && zmm, kX86V4},
      {"avx512bw", (seven.ebx >> 30 & 1) && zmm, kX86V4},
      {"avx512cd", (seven.ebx >> 28 & 1) && zmm, kX86V4},
      {"avx512dq", (seven.ebx >> 17 & 1) && zmm, kX86V4},
      {"avx512vl", (seven.ebx >> 31 & 1) && zmm, kX86V4},
      {"avx512_vnni", (seven.ecx >> 11 & 1) && zmm, kVnni},
      {"avx512_bf16", (Leaf(7, 1).eax >> 5 & 1) && zmm, 0},
      {"amx_tile", (seven.edx >> 24 & 1) && tiles, 0},
      {"amx_bf16", (seven.edx >> 22 & 1) && tiles, 0},
      {"amx_int8", (seven.edx >> 25 & 1) && tiles, 0},
  };
  Found found;
  found.features = kX86V3 | kX86V4 | kVnni;
  for (const auto& feature : all) {
    if (!feature.there) found.features &= ~feature.part_of;
    if (!feature.there) continue;
    if (!found.names.empty()) found.names += ' ';
    found.names += feature.name;
  }
  return found;
}

#else

Found find() { return {}; }

#endif

const Found& found() {
  static const Found once = find();
  return once;
}

}  // namespace

unsigned features() { return found().features; }

const char* feature_names() { return found().names.c_str(); }

const char* missing(unsigned needs) {
  const unsigned lacking = needs & ~features();
  if (lacking & kX86V3) return "this CPU or its operating system lacks AVX2, FMA or F16C";
  if (lacking & kX86V4) return "this CPU or its operating system lacks AVX-512 F, BW, CD, DQ or VL";
  if (lacking & kVnni) return "this CPU lacks AVX-512 VNNI";
  return lacking ? "this CPU or its operating system lacks a feature" : "";
}

}  // namespace bothways::cpu
