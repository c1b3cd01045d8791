// What this CPU and its operating system allow, by feature bits: never by the CPU's name.
#pragma once

#include <cstdint>
#include <string>

namespace bothways::cpu {

// One bit for each set of instructions that a level's compiler flags switch on.
constexpr unsigned kX86V3 = 1;  // AVX2, FMA, BMI1, BMI2, F16C, LZCNT, MOVBE, and ymm state saved by the system
constexpr unsigned kX86V4 = 2;  // AVX-512 F, BW, CD, DQ, VL, and zmm state saved by the system
constexpr unsigned kVnni = 4;   // AVX-512 VNNI
constexpr unsigned kAmx = 8;    // AMX tiles, bfloat16 and int8, AVX-512 BF16 and VBMI, and the system's permission to use tiles

// What a machine answers when it is asked for its features: this one, or one that a test makes up.
struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};
struct Machine {
  Leaf one, seven, seven_one, extended, palettes, palette;  // CPUID 1, 7, 7.1, 0x80000001, 0x1d, 0x1d.1
  uint64_t saved_states = 0;                                // XCR0: registers that the system saves; others would fault
  int (*request_tiles)() = nullptr;  // asks the system for the use of tiles: 0 or an errno; null where there is no asking
};

struct Found {
  unsigned features = 0;  // the bits that hold
  std::string names;      // of all single features (avx2, fma, avx512f, amx_tile, ...), separated by blanks
  std::string no_tiles;   // why tiles can't be used; empty if they can

  // What is missing for the bits `needs`, for people to read; empty if nothing is.
  std::string missing(unsigned needs) const;
};

Found find(const Machine&);

// What this machine has, found once. Finding it asks the system for the use of tiles, for the whole process.
const Found& found();

}  // namespace bothways::cpu
