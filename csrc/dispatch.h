// Which level computes: the best that this machine can run, or the one that the caller names.
#pragma once

#include <string>
#include <vector>

#include "cpu.h"
#include "kernels.h"

namespace bothways {

struct Level {
  const char* name;
  const Kernels* tables;  // kDtypes of them, float32 first
  std::string unusable;   // why it can't run here; empty if it can
};

// The levels of these tables, best first, on a machine with what was found.
std::vector<Level> find_levels(const std::vector<const Kernels*>& all, const cpu::Found&);

// Every level of this build on this machine, best first.
const std::vector<Level>& levels();

// A level by name; "" means the best usable. Throws std::invalid_argument for a name that is unknown or can't run here: a
// level is never silently replaced by another.
const Level& level(const std::string& name, const std::vector<Level>& among = levels());

// A level's table for a dtype; std::invalid_argument for an unknown one.
const Kernels& kernels(const Level&, const std::string& dtype);

// The table for rows that aren't a network's own, such as a head's: in float32 throughout.
const Kernels& plain_kernels(const Level&);

}  // namespace bothways
