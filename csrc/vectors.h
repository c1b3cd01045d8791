// Vectors by the distance of two tokens: made of a checkpoint's when it is loaded, as they are functions of weights alone.
#pragma once

#include "kernels.h"
#include "pool.h"
#include "weights.h"

namespace bothways {

// What queries, or what keys meet in their stead, are multiplied by, so that scores need not be.
float attention_scale(const Network&, const Kernels&);

// Makes Weights::vector_columns and every layer's vectors, if the network has any. The layers are there already.
void make_vectors(const Network&, const Tensors&, const Kernels&, Pool&, Weights&);

}  // namespace bothways
