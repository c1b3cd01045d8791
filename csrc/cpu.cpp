#include "cpu.h"

#include <cstring>

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

// Why this process can't use tiles; empty if it can. Linux wants to be asked, once for all threads, and refuses where a thread
// has a signal stack too small for their state (Documentation/arch/x86/xstate.rst).
std::string why_no_tiles(const Machine& machine, bool instructions, bool saved) {
  if (!instructions) return "this CPU lacks AMX (amx_tile, amx_bf16, amx_int8), AVX-512 BF16 or AVX-512 VBMI";
  if (!saved) return "the operating system does not save AMX tiles (Linux does from 5.16 on)";
  const Leaf& palette = machine.palette;
  const bool known = machine.palettes.eax >= 1 && palette.eax >> 16 == 1024 && (palette.ebx & 0xffff) == 64 &&
                     palette.ebx >> 16 == 8 && (palette.ecx & 0xffff) == 16;
  if (!known) return "the hypervisor offers AMX without tiles of 16 rows of 64 bytes";
  if (!machine.request_tiles) return "AMX tiles are used on Linux only";
  const int error = machine.request_tiles();
  return error ? std::string("the operating system refuses the use of AMX tiles: ") + std::strerror(error) : "";
}

#if defined(__x86_64__)

Leaf leaf(unsigned number, unsigned sub) {
  Leaf result;
  __get_cpuid_count(number, sub, &result.eax, &result.ebx, &result.ecx, &result.edx);
  return result;
}

Machine this_machine() {
  Machine machine{.one = leaf(1, 0),
                  .seven = leaf(7, 0),
                  .seven_one = leaf(7, 1),
                  .extended = leaf(0x80000001, 0),
                  .palettes = leaf(0x1d, 0),
                  .palette = leaf(0x1d, 1)};
  if (machine.one.ecx >> 27 & 1) {  // xgetbv is there
    unsigned low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    machine.saved_states = (uint64_t)high << 32 | low;
  }
#if defined(__linux__)
  machine.request_tiles = [] {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
  };
#endif
  return machine;
}

#else

Machine this_machine() { return {}; }

#endif

}  // namespace

Found find(const Machine& machine) {
  const Leaf &one = machine.one, &seven = machine.seven;
  const auto saves = [&](uint64_t states) { return (machine.saved_states & states) == states; };
  const bool ymm = saves(0x6), zmm = saves(0xe6), tiles = saves(0x600e6);
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
      {"lzcnt", (machine.extended.ecx >> 5 & 1) != 0, kX86V3},
      {"avx512f", (seven.ebx >> 16 & 1) && zmm, kX86V4},
      {"avx512bw", (seven.ebx >> 30 & 1) && zmm, kX86V4},
      {"avx512cd", (seven.ebx >> 28 & 1) && zmm, kX86V4},
      {"avx512dq", (seven.ebx >> 17 & 1) && zmm, kX86V4},
      {"avx512vl", (seven.ebx >> 31 & 1) && zmm, kX86V4},
      {"avx512_vnni", (seven.ecx >> 11 & 1) && zmm, kVnni},
      {"avx512_vbmi", (seven.ecx >> 1 & 1) && zmm, kAmx},
      {"avx512_bf16", (machine.seven_one.eax >> 5 & 1) && zmm, kAmx},
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
  const bool instructions = (seven.edx & all_of_amx) == all_of_amx && (seven.ecx >> 1 & 1) && (machine.seven_one.eax >> 5 & 1);
  found.no_tiles = why_no_tiles(machine, instructions, tiles);
  if (!found.no_tiles.empty()) found.features &= ~kAmx;
  return found;
}

std::string Found::missing(unsigned needs) const {
  const unsigned lacking = needs & ~features;
  if (lacking & kX86V3) return "this CPU or its operating system lacks AVX2, FMA or F16C";
  if (lacking & kX86V4) return "this CPU or its operating system lacks AVX-512 F, BW, CD, DQ or VL";
  if (lacking & kVnni) return "this CPU lacks AVX-512 VNNI";
  if (lacking & kAmx) return no_tiles;
  return lacking ? "this CPU or its operating system lacks a feature" : "";
}

const Found& found() {
  static const Found once = find(this_machine());
  return once;
}

}  // namespace bothways::cpu
