// What this CPU and its operating system allow, by feature bits: never by the CPU's name.
#pragma once

#include <string>

namespace bothways::cpu {

// One bit for each set of instructions that a level's compiler flags switch on.
constexpr unsigned kX86V3 = 1;  // AVX2, FMA, BMI1, BMI2, F16C, LZCNT, MOVBE, and ymm state saved by the system
constexpr unsigned kX86V4 = 2;  // AVX-512 F, BW, CD, DQ, VL, and zmm state saved by the system
constexpr unsigned kVnni = 4;   // AVX-512 VNNI
constexpr unsigned kAmx = 8;    // AMX tiles, bfloat16 and int8, AVX-512 BF16 and VBMI, and the system's permission to use tiles

// The bits that hold here, found once. Finding them asks the system for the use of tiles, for the whole process.
unsigned features();

// What is missing for the bits `needs`, for people to read; empty if nothing is.
std::string missing(unsigned needs);

// The names of all single features found (avx2, fma, avx512f, amx_tile, ...), separated by blanks.
const char* feature_names();

}  // namespace bothways::cpu
