#include "buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace bothways {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = 2 << 20;

size_t rounded(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

}  // namespace

Buffer::Buffer(size_t bytes) : Buffer(uncleared(bytes)) {
  if (data_) std::memset(data_, 0, bytes_);
}

Buffer Buffer::uncleared(size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  const size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
  buffer.bytes_ = rounded(bytes, alignment);
  buffer.data_ = std::aligned_alloc(alignment, buffer.bytes_);
  if (!buffer.data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // Before the first touch, or the kernel hands out small pages.
  if (alignment == kHugePage) madvise(buffer.data_, buffer.bytes_, MADV_HUGEPAGE);
#endif
  return buffer;
}

Buffer::~Buffer() { std::free(data_); }

void Buffer::reserve(size_t bytes) {
  if (bytes > bytes_) *this = Buffer(bytes);
}

}  // namespace bothways
