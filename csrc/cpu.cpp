#include "cpu.h"

#include <cstring>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bothways::cpu {
namespace {

struct Found {
  unsigned features = 0;
  std::string names;
  std::string no_tiles;  // why tiles can't be used, if they can't
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

// Why this process can't use tiles; empty if it can. Linux wants to be asked, once for all threads, and refuses where a thread
// has a signal stack too small for their state (Documentation/arch/x86/xstate.rst).
std::string why_no_tiles(bool instructions, bool saved) {
  if (!instructions) return "this CPU lacks AMX (amx_tile, amx_bf16, amx_int8), AVX-512 BF16 or AVX-512 VBMI";
  if (!saved) return "the operating system does not save AMX tiles (Linux does from 5.16 on)";
  const Leaf palettes(0x1d, 0), palette(0x1d, 1);
  const bool known = palettes.eax >= 1 && palette.eax >> 16 == 1024 && (palette.ebx & 0xffff) == 64 && palette.ebx >> 16 == 8 &&
                     (palette.ecx & 0xffff) == 16;
  if (!known) return "the hypervisor offers AMX without tiles of 16 rows of 64 bytes";
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return "";
  return std::string("the operating system refuses the use of AMX tiles: ") + std::strerror(errno);
#else
  return "AMX tiles are used on Linux only";
#endif
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
      {"avx512_vbmi", (seven.ecx >> 1 & 1) && zmm, kAmx},
      {"avx512_bf16", (Leaf(7, 1).eax >> 5 & 1) && zmm, kAmx},
      {"amx_tile", (seven.edx >> 24 & 1) && tiles, kAmx},
      {"amx_bf16", (seven.edx >> 22 & 1) && tiles, kAmx},
      {"amx_int8", (seven.edx >> 25 & 1) && tiles, kAmx},
  };
  Found found;
  found.features = kX86V3 | kX86V4 | kVnni | kAmx;
  for (const auto& feature : all) {
    if (!feature.there) found.features &= ~feature.part_of;
    if (!feature.there) continue;
    if (!found.names.empty()) found.names += ' ';
    found.names += feature.name;
  }
  const unsigned all_of_amx = 1u << 22 | 1u << 24 | 1u << 25;
  const bool instructions = (seven.edx & all_of_amx) == all_of_amx && (seven.ecx >> 1 & 1) && (Leaf(7, 1).eax >> 5 & 1);
  found.no_tiles = why_no_tiles(instructions, tiles);
  if (!found.no_tiles.empty()) found.features &= ~kAmx;
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

std::string missing(unsigned needs) {
  const unsigned lacking = needs & ~features();
  if (lacking & kX86V3) return "this CPU or its operating system lacks AVX2, FMA or F16C";
  if (lacking & kX86V4) return "this CPU or its operating system lacks AVX-512 F, BW, CD, DQ or VL";
  if (lacking & kVnni) return "this CPU lacks AVX-512 VNNI";
  if (lacking & kAmx) return found().no_tiles;
  return lacking ? "this CPU or its operating system lacks a feature" : "";
}

}  // namespace bothways::cpu
