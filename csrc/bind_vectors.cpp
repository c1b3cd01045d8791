// The Python module's functions over vectors: comparing them, and sums of the best (maxsim).
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <stdexcept>

#include "bind.h"
#include "comparer.h"
#include "dispatch.h"
#include "maxsim.h"

using namespace nb::literals;
using namespace bothways;

namespace {

TextVectors text_vectors(const FloatsIn& rows, const StartsIn& starts) {
  if (rows.ndim() != 2 || starts.size() == 0 || starts.data()[0] != 0 || starts.data()[starts.size() - 1] != (int64_t)rows.shape(0))
    throw std::invalid_argument("rows have two dimensions, and starts begin with 0 and end with their number");
  for (size_t i = 1; i < starts.size(); i++)
    if (starts.data()[i] < starts.data()[i - 1] || starts.data()[i] - starts.data()[i - 1] > INT32_MAX / 2)
      throw std::invalid_argument("starts must not go down, nor up by more than 2^30");
  return {rows.data(), starts.data(), (int64_t)starts.size() - 1};
}

FloatsOut maxsim_scores(const FloatsIn& queries, const StartsIn& query_starts, const FloatsIn& documents,
                        const StartsIn& document_starts, const std::string& level_name, int threads) {
  const TextVectors first = text_vectors(queries, query_starts), second = text_vectors(documents, document_starts);
  const size_t size = queries.shape(1);
  if (size != documents.shape(1) || size == 0 || size > INT32_MAX || threads < 1)
    throw std::invalid_argument("queries and documents must have vectors of one size, and threads be at least 1");
  const Kernels& table = plain_kernels(level(level_name));
  FloatsOut scores = make_array({(size_t)first.count, (size_t)second.count});
  {
    nb::gil_scoped_release release;
    maxsim(first, second, (int)size, table, threads, scores.data());
  }
  return scores;
}

using Doubles = nb::ndarray<nb::numpy, double, nb::ndim<1>>;
using RowsIn = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using ScalesIn = std::optional<nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>>;
using CountsOut = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using RanksOut = nb::ndarray<Rank, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RanksIn = nb::ndarray<const Rank, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Two sets of vectors of one depth, checked.
struct Compared {
  Vectors queries, others;
  int depth;

  Compared(const RowsIn& queries, const ScalesIn& query_scales, const RowsIn& others, const ScalesIn& other_scales)
      : queries(view(queries, query_scales)), others(view(others, other_scales)), depth((int)queries.shape(1)) {
    if (queries.shape(1) != others.shape(1) || queries.shape(1) == 0 || queries.shape(1) > INT32_MAX)
      throw std::invalid_argument("vectors have " + std::to_string(queries.shape(1)) + " and " +
                                  std::to_string(others.shape(1)) + " values; both must have as many, at least 1");
  }

  static Vectors view(const RowsIn& rows, const ScalesIn& scales) {
    if (scales && scales->size() != rows.shape(0)) throw std::invalid_argument("scales must be one for each vector");
    return {rows.data(), scales ? scales->data() : nullptr, (int64_t)rows.shape(0)};
  }
};

void make_comparer(Comparer* self, const std::string& level_name, int threads) {
  if (threads <= 0) throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads));
  new (self) Comparer(plain_kernels(level(level_name)), threads);
}

Doubles vector_lengths(Comparer& self, const RowsIn& rows) {
  const size_t count = rows.shape(0);
  auto* kept = new std::vector<double>(count);
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  {
    nb::gil_scoped_release release;
    self.lengths(rows.data(), (int64_t)count, (int)rows.shape(1), kept->data());
  }
  return Doubles(kept->data(), {count}, owner);
}

FloatsOut all_products(Comparer& self, const RowsIn& a, const ScalesIn& a_scales, const RowsIn& b, const ScalesIn& b_scales) {
  const Compared both(b, b_scales, a, a_scales);
  FloatsOut out = make_array({a.shape(0), b.shape(0)});
  {
    nb::gil_scoped_release release;
    self.products(both.queries, both.others, both.depth, out.data());
  }
  return out;
}

void count_reaching(Comparer& self, const RowsIn& queries, const ScalesIn& query_scales, const RowsIn& others,
                    const ScalesIn& other_scales, float least, const CountsOut& counts) {
  const Compared both(queries, query_scales, others, other_scales);
  if (counts.size() != queries.shape(0)) throw std::invalid_argument("counts must be one for each query");
  nb::gil_scoped_release release;
  self.count(both.queries, both.others, both.depth, least, counts.data());
}

void keep_nearest(Comparer& self, const RowsIn& queries, const ScalesIn& query_scales, const RowsIn& others,
                  const ScalesIn& other_scales, int64_t first, const RanksOut& ranks) {
  const Compared both(queries, query_scales, others, other_scales);
  if (ranks.shape(0) != queries.shape(0) || ranks.shape(1) == 0)
    throw std::invalid_argument("ranks must have a row for each query and a column or more");
  if (first < 0 || first + both.others.count > UINT32_MAX) throw std::invalid_argument("numbers must lie below 2^32");
  nb::gil_scoped_release release;
  self.nearest(both.queries, both.others, both.depth, (uint32_t)first, (int64_t)ranks.shape(1), ranks.data());
}

// What heaps of ranks hold, the best first.
nb::tuple read_ranks(const RanksIn& ranks) {
  const size_t rows = ranks.shape(0), top = ranks.shape(1);
  FloatsOut scores = make_array({rows, top});
  auto* numbers = new std::vector<int64_t>(rows * top);
  nb::capsule owner(numbers, [](void* p) noexcept { delete static_cast<std::vector<int64_t>*>(p); });
  {
    nb::gil_scoped_release release;
    std::vector<Rank> sorted(top);
    for (size_t row = 0; row < rows; row++) {
      std::partial_sort_copy(ranks.data() + row * top, ranks.data() + (row + 1) * top, sorted.begin(), sorted.end(),
                             std::greater<>());
      for (size_t i = 0; i < top; i++) {
        scores.data()[row * top + i] = score_of(sorted[i]);
        (*numbers)[row * top + i] = number_of(sorted[i]);
      }
    }
  }
  return nb::make_tuple(scores, nb::ndarray<nb::numpy, int64_t, nb::ndim<2>>(numbers->data(), {rows, top}, owner));
}

}  // namespace

void bind_vectors(nb::module_& m) {
  m.def("maxsim", &maxsim_scores, "queries"_a.noconvert(), "query_starts"_a.noconvert(), "documents"_a.noconvert(),
        "document_starts"_a.noconvert(), nb::kw_only(), "level"_a, "threads"_a,
        nb::sig("def maxsim(queries: numpy.typing.NDArray[numpy.float32], query_starts: numpy.typing.NDArray[numpy.int64], "
                "documents: numpy.typing.NDArray[numpy.float32], document_starts: numpy.typing.NDArray[numpy.int64], *, "
                "level: str, threads: int) -> numpy.typing.NDArray[numpy.float32]"),
        "For every query and document the sum, over the query's vectors, of the largest product with one of the document's.");
  nb::class_<Comparer>(m, "Comparer", "Compares vectors with vectors: see csrc/comparer.h. Rows with scales are multiplied by them.")
      .def("__init__", &make_comparer, nb::kw_only(), "level"_a, "threads"_a)
      .def("lengths", &vector_lengths, "rows"_a.noconvert(),
           nb::sig("def lengths(self, rows: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float64]"),
           "Every row's length; not finite where a value isn't.")
      .def("products", &all_products, "a"_a.noconvert(), "a_scales"_a.none(), "b"_a.noconvert(), "b_scales"_a.none(),
           nb::sig("def products(self, a: numpy.typing.NDArray[numpy.float32], "
                   "a_scales: numpy.typing.NDArray[numpy.float32] | None, b: numpy.typing.NDArray[numpy.float32], "
                   "b_scales: numpy.typing.NDArray[numpy.float32] | None) -> numpy.typing.NDArray[numpy.float32]"),
           "The product of every row of a with every row of b.")
      .def("count", &count_reaching, "queries"_a.noconvert(), "query_scales"_a.none(), "others"_a.noconvert(),
           "other_scales"_a.none(), "least"_a, "counts"_a.noconvert(),
           nb::sig("def count(self, queries: numpy.typing.NDArray[numpy.float32], "
                   "query_scales: numpy.typing.NDArray[numpy.float32] | None, others: numpy.typing.NDArray[numpy.float32], "
                   "other_scales: numpy.typing.NDArray[numpy.float32] | None, least: float, "
                   "counts: numpy.typing.NDArray[numpy.int64]) -> None"),
           "Add to counts how many of the others score so much with each query.")
      .def("nearest", &keep_nearest, "queries"_a.noconvert(), "query_scales"_a.none(), "others"_a.noconvert(),
           "other_scales"_a.none(), "first"_a, "ranks"_a.noconvert(),
           nb::sig("def nearest(self, queries: numpy.typing.NDArray[numpy.float32], "
                   "query_scales: numpy.typing.NDArray[numpy.float32] | None, others: numpy.typing.NDArray[numpy.float32], "
                   "other_scales: numpy.typing.NDArray[numpy.float32] | None, first: int, "
                   "ranks: numpy.typing.NDArray[numpy.uint64]) -> None"),
           "Keep each query's best in ranks, which begin as zeros; the others are numbered from `first` on.");
  m.def("read_ranks", &read_ranks, "ranks"_a.noconvert(),
        nb::sig("def read_ranks(ranks: numpy.typing.NDArray[numpy.uint64]) -> "
                "tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.int64]]"),
        "Scores and numbers of ranks, the best of each row first; -inf and -1 where there are no more.");
}
