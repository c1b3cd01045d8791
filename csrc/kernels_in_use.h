// While it lives, this thread may call a table's kernels.
#pragma once

#include "kernels.h"

namespace bothways {

class KernelsInUse {
 public:
  explicit KernelsInUse(const Kernels& kernels) : kernels_(kernels) {
    if (kernels_.enter) kernels_.enter();
  }
  ~KernelsInUse() {
    if (kernels_.leave) kernels_.leave();
  }
  KernelsInUse(const KernelsInUse&) = delete;
  KernelsInUse& operator=(const KernelsInUse&) = delete;

 private:
  const Kernels& kernels_;
};

}  // namespace bothways
