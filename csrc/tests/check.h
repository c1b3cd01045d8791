// Checks that say what they saw and go on, so that one run shows every failure.
#pragma once

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <iostream>
#include <mutex>

namespace check {

inline std::atomic<long> passed{0}, failed{0};
inline std::mutex printing;
inline char place[200] = "";  // what is being tested: printed with a failure, and after a fault

// Says what the next checks are about, as printf does.
__attribute__((format(printf, 1, 2))) inline void at(const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vsnprintf(place, sizeof place, format, values);
  va_end(values);
}

inline void pass() { passed.fetch_add(1, std::memory_order_relaxed); }

template <class... Values>
void fail(const char* file, int line, const char* condition, const char* names, const Values&... values) {
  constexpr int kMostPrinted = 40;
  const std::lock_guard lock(printing);
  if (failed++ >= kMostPrinted) return;
  std::cout << file << ':' << line << ": [" << place << "] " << condition;
  if (sizeof...(values)) std::cout << " with (" << names << ") =";
  ((std::cout << ' ' << values), ...);
  std::cout << std::endl;
}

// Prints the totals; what main returns.
inline int report() {
  std::printf("%ld checks passed, %ld failed\n", passed.load(), failed.load());
  return failed || !passed ? 1 : 0;
}

}  // namespace check

// CHECK(a == b, a, b): counts it; if it doesn't hold, prints where, the condition, and the values named behind it.
#define CHECK(condition, ...) \
  ((condition) ? check::pass() : check::fail(__FILE__, __LINE__, #condition, #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__))
