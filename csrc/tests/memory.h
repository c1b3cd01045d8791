// Memory that tells when a kernel leaves its own: inputs before a forbidden page, outputs between canaries.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#define BOTHWAYS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BOTHWAYS_SANITIZED 1
#endif
#endif

// Values that end where a page begins that may not be touched. Their start is aligned to their element only.
template <class T>
class Guarded {
 public:
  explicit Guarded(const std::vector<T>& values) : count_(values.size()) {
    const size_t page = sysconf(_SC_PAGESIZE), room = (values.size() * sizeof(T) + page - 1) / page * page;
    bytes_ = room + page;
    base_ = (char*)mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED || mprotect(base_ + room, page, PROT_NONE)) throw std::bad_alloc();
    data_ = (T*)(base_ + room) - values.size();
    std::copy(values.begin(), values.end(), data_);
  }
  ~Guarded() { munmap(base_, bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  const T* data() const { return data_; }
  std::vector<T> values() const { return {data_, data_ + count_}; }

 private:
  const size_t count_;
  char* base_;
  size_t bytes_;
  T* data_;
};

// Room for values between canaries, `shift` bytes past a cache line. Every byte of it is 0xff at first, so that numbers
// that were never written are read as NaN.
template <class T>
class Canaried {
 public:
  explicit Canaried(size_t count, size_t shift = 0)
      : bytes_(kLine + kCanary + shift + count * sizeof(T) + kCanary, kMark), count_(count) {
    const size_t line = kLine - (uintptr_t)bytes_.data() % kLine;
    before_ = line + kCanary + shift;
    std::fill_n(bytes_.begin() + before_, count * sizeof(T), uint8_t{0xff});
  }
  Canaried(Canaried&& other) = default;  // moves the bytes without copying, so their alignment stays

  T* data() { return (T*)(bytes_.data() + before_); }
  const T* data() const { return (const T*)(bytes_.data() + before_); }
  size_t count() const { return count_; }
  std::vector<T> values() const { return {data(), data() + count_}; }

  bool intact() const {
    const auto marked = [](uint8_t byte) { return byte == kMark; };
    return std::all_of(bytes_.begin(), begin(), marked) && std::all_of(end(), bytes_.end(), marked);
  }

 private:
  static constexpr size_t kLine = 64, kCanary = 256;
  static constexpr uint8_t kMark = 0xa5;

  std::vector<uint8_t>::const_iterator begin() const { return bytes_.begin() + before_; }
  std::vector<uint8_t>::const_iterator end() const { return begin() + count_ * sizeof(T); }

  std::vector<uint8_t> bytes_;
  size_t count_, before_;
};

// After a fault prints what was being tested (AddressSanitizer prints more, if it is there).
inline void name_faults() {
#ifndef BOTHWAYS_SANITIZED
  const auto handler = [](int) {
    constexpr char kText[] = "\nmemory fault in: ";
    if (write(2, kText, sizeof kText - 1) < 0 || write(2, check::place, std::strlen(check::place)) < 0) _exit(2);
    if (write(2, "\n", 1) < 0) _exit(2);
    _exit(1);
  };
  signal(SIGSEGV, handler);
  signal(SIGBUS, handler);
#endif
}
