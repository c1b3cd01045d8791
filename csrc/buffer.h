// Memory for numbers: aligned to cache lines, zero when made unless said otherwise. Pieces of 2 MiB and more ask for huge
// pages, with which products whose weights come from far save up to a tenth of their time.
#pragma once

#include <cstddef>
#include <utility>

namespace bothways {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes);  // throws std::bad_alloc
  static Buffer uncleared(size_t bytes);  // for memory whose first touch is somebody else's; not zero
  ~Buffer();
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Grows to at least `bytes`; what was in it is lost if it has to.
  void reserve(size_t bytes);

  void* data() const { return data_; }
  float* floats() const { return static_cast<float*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace bothways
