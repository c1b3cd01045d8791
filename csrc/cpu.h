// What this CPU and its operating system allow, by feature bits: never by the CPU's name.
#pragma once

namespace bothways::cpu {

// One bit for each set of instructions that a level's compiler flags switch on.
constexpr unsigned kX86V3 = 1;  // AVX2, FMA, BMI1, BMI2, F16C, LZCNT, MOVBE, and ymm state saved by the system
constexpr unsigned kX86V4 = 2;  // AVX-512 F, BW, CD, DQ, VL, and zmm state saved by the system
constexpr unsigned kVnni = 4;   // AVX-512 VNNI

// The bits that hold here, found once.
unsigned features();

// What is missing for the bits `needs`, for people to read; empty if nothing is.
const char* missing(unsigned needs);

// The names of all single features found (avx2, fma, avx512f, amx_tile, ...), separated by blanks.
const char* feature_names();

}  // namespace bothways::cpu
