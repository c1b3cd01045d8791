// What the files of the Python module share: arrays in, arrays out.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <vector>

namespace nb = nanobind;

using FloatsIn = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using StartsIn = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntsIn = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<nb::numpy, float>;

// A NumPy array that owns its memory.
inline FloatsOut make_array(const std::vector<size_t>& shape) {
  size_t count = 1;
  for (size_t extent : shape) count *= extent;
  float* data = new float[count ? count : 1];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  return FloatsOut(data, shape.size(), shape.data(), owner);
}

// Functions over vectors (bind_vectors.cpp).
void bind_vectors(nb::module_& m);
