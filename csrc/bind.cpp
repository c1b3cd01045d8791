// The Python module bothways._native: arrays in, arrays out, the GIL released while computing.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>

#include "bind.h"
#include "cpu.h"
#include "dispatch.h"
#include "head.h"
#include "measure.h"
#include "model.h"
#include "self_test.h"
#include "wordpiece.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace bothways;

namespace {

// A NumPy array that owns a vector.
nb::ndarray<nb::numpy, int32_t, nb::ndim<1>> owned(std::vector<int32_t>&& values) {
  auto* kept = new std::vector<int32_t>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
  return {kept->data(), {kept->size()}, owner};
}

Activation activation_by_name(const std::string& name) {
  static const std::map<std::string, Activation> names = {
      {"identity", Activation::none},         {"gelu", Activation::gelu}, {"gelu_tanh", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_fast},   {"relu", Activation::relu}, {"silu", Activation::silu},
      {"quick_gelu", Activation::quick_gelu}, {"tanh", Activation::tanh}};
  const auto found = names.find(name);
  if (found == names.end()) throw std::invalid_argument("activation '" + name + "' is unknown to the native engine");
  return found->second;
}

Rows rows_by_name(const std::string& name) {
  if (name == "all") return Rows::all;
  if (name == "first") return Rows::first;
  if (name == "mean") return Rows::mean;
  throw std::invalid_argument("rows must be 'all', 'first' or 'mean', not '" + name + "'");
}

using AnyArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;

// The checkpoint's arrays, by canonical name. Bfloat16 comes as uint16, so the dtype is named beside the array.
class PythonTensors {
 public:
  explicit PythonTensors(const nb::dict& arrays) {
    for (auto [name, pair] : arrays) {
      const std::string key = nb::cast<std::string>(name);
      const auto [given, dtype] = nb::cast<std::pair<nb::object, std::string>>(pair);
      AnyArray array;
      // Not converted: a copy would leave the table that the caller mapped.
      if (!nb::try_cast(given, array, false)) throw std::invalid_argument("tensor '" + key + "' is not a contiguous array");
      const Dtype kind = dtype == "F32" ? Dtype::f32 : dtype == "F16" ? Dtype::f16 : Dtype::bf16;
      const size_t bytes = kind == Dtype::f32 ? 4 : 2;
      if ((kind == Dtype::bf16 && dtype != "BF16") || array.itemsize() != bytes)
        throw std::invalid_argument("tensor '" + key + "' has dtype " + dtype + "; the native engine reads F32, F16, BF16");
      if ((uintptr_t)array.data() % bytes) throw std::invalid_argument("tensor '" + key + "' is not aligned");
      entries_[key] = {{array.data(), kind}, array.size()};
      arrays_.push_back(array);
    }
  }

  Table operator()(const std::string& name, size_t count) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return {nullptr, Dtype::f32};
    if (found->second.count != count)
      throw std::invalid_argument("tensor '" + name + "' has " + std::to_string(found->second.count) + " values, not " +
                                  std::to_string(count));
    return found->second.table;
  }

 private:
  struct Entry {
    Table table;
    size_t count;
  };
  std::map<std::string, Entry> entries_;
  std::vector<AnyArray> arrays_;
};

// The model reads its tables where the checkpoint maps them, so it keeps the arrays alive.
struct PythonModel {
  PythonTensors tensors;
  int hidden, layers, heads;
  std::unique_ptr<Model> model;
};

void check_vectors(const Network& network) {
  if (network.score_terms <= 0) throw std::invalid_argument("score_terms must be positive");
  if (!network.position_keys && !network.position_queries) return;
  if ((int64_t)network.vector_rows.size() != 2 * (int64_t)network.positions - 1)
    throw std::invalid_argument("vector_rows must have one row for each distance between positions");
  for (int row : network.vector_rows)
    if (row < 0 || row >= network.vector_table_rows) throw std::invalid_argument("a row of vector_rows is out of range");
  for (int window : network.windows)
    if (window >= 0 || network.reach) throw std::invalid_argument("vectors by distance go without windows and biases");
}

void check_network(const Network& network) {
  if (network.hidden <= 0 || network.embedding <= 0 || network.heads <= 0 || network.inner <= 0 || network.reach < 0 ||
      network.hidden % network.heads)
    throw std::invalid_argument("hidden must be a positive multiple of heads, embedding and inner positive, reach not negative");
  if (network.key_heads <= 0 || network.heads % network.key_heads)
    throw std::invalid_argument("heads must be a multiple of key_heads, which must be positive");
  if (network.rotary.size() != network.stored_layers.size() || network.windows.size() != network.stored_layers.size())
    throw std::invalid_argument("stored_layers, rotary and windows must have one number for each layer");
  check_vectors(network);
  if (network.convolution < 0 || (network.convolution && (network.convolution % 2 == 0 || network.convolution_groups <= 0 ||
                                                          network.hidden % network.convolution_groups)))
    throw std::invalid_argument("a convolution must see an odd number of tokens, in groups that share hidden evenly");
  for (int stored : network.stored_layers)
    if (stored < 0 || stored >= network.layers()) throw std::invalid_argument("a stored layer's number is out of range");
}

void make_model(PythonModel* self, const nb::dict& arrays, const Network& network, const std::string& level_name,
                const std::string& dtype, int threads) {
  check_network(network);
  if (threads <= 0) throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads));
  const Kernels& table = kernels(level(level_name), dtype);
  PythonTensors tensors(arrays);
  std::unique_ptr<Model> model;
  {
    nb::gil_scoped_release release;
    model = std::make_unique<Model>(network, std::cref(tensors), table, threads);
  }
  new (self) PythonModel{std::move(tensors), network.hidden, network.layers(), network.heads, std::move(model)};
}

nb::tuple encode(PythonModel& self, const IntsIn& ids, const IntsIn& positions, const IntsIn& token_types, const IntsIn& starts,
                 const std::optional<IntsIn>& keys, const std::string& rows_name, bool hidden_states, bool attentions) {
  if (starts.size() == 0 || starts.data()[0] != 0) throw std::invalid_argument("starts must begin with 0");
  const size_t tokens = ids.size(), sequences = starts.size() - 1, hidden = self.hidden;
  if (positions.size() != tokens || token_types.size() != tokens || (size_t)starts.data()[sequences] != tokens)
    throw std::invalid_argument("ids, positions, token_types and starts disagree about the number of tokens");
  if (keys && keys->size() != sequences) throw std::invalid_argument("keys must have one number for each sequence");
  const TokenBatch batch{ids.data(), positions.data(), token_types.data(), starts.data(), (int)sequences,
                         keys ? keys->data() : nullptr};
  const Rows rows = rows_by_name(rows_name);
  self.model->check(batch);

  FloatsOut result = make_array({rows == Rows::all ? tokens : sequences, hidden});
  Output output{result.data(), nullptr, {}};
  nb::object layers = nb::none(), probabilities = nb::none();
  if (hidden_states) {
    FloatsOut array = make_array({(size_t)self.layers + 1, tokens, hidden});
    output.layers = array.data();
    layers = nb::cast(array);
  }
  if (attentions) {
    nb::list list;
    for (size_t i = 0; i < sequences; i++) {
      const size_t length = batch.length((int)i);
      FloatsOut array = make_array({(size_t)self.layers, (size_t)self.heads, length, length});
      output.attentions.push_back(array.data());
      list.append(nb::cast(array));
    }
    probabilities = list;
  }
  {
    nb::gil_scoped_release release;
    self.model->encode(batch, rows, output);
  }
  return nb::make_tuple(result, layers, probabilities);
}

void make_head(Head* self, const FloatsIn& weight, std::optional<FloatsIn> bias, const std::string& activation,
               const std::string& level_name) {
  if (weight.ndim() != 2) throw std::invalid_argument("a head's weight has two dimensions (out, in)");
  if (bias && bias->size() != weight.shape(0)) throw std::invalid_argument("a head's bias has one value per output");
  const size_t columns = weight.shape(0), depth = weight.shape(1);
  if (columns == 0 || depth == 0 || columns > INT32_MAX || depth > INT32_MAX)
    throw std::invalid_argument("a head's weight can't be " + std::to_string(columns) + " by " + std::to_string(depth));
  const Activation function = activation_by_name(activation);
  const Kernels& table = plain_kernels(level(level_name));
  nb::gil_scoped_release release;
  new (self) Head(weight.data(), bias ? bias->data() : nullptr, (int)columns, (int)depth, function, table);
}

FloatsOut apply_head(const Head& self, const FloatsIn& x) {
  if (x.ndim() != 2 || x.shape(1) != (size_t)self.depth())
    throw std::invalid_argument("this head takes rows of " + std::to_string(self.depth()) + " values");
  FloatsOut out = make_array({x.shape(0), (size_t)self.columns()});
  {
    nb::gil_scoped_release release;
    self.apply(x.data(), (int)x.shape(0), out.data());
  }
  return out;
}

std::u32string characters(nb::handle text) {
  std::u32string result;
  for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text.ptr()); i++)
    result.push_back(PyUnicode_READ_CHAR(text.ptr(), i));
  return result;
}

void make_word_piece(WordPiece* self, const nb::dict& pieces, std::string prefix, int32_t unknown, int longest_word,
                     const std::vector<nb::str>& added, std::vector<int32_t> before, std::vector<int32_t> after) {
  Vocabulary vocabulary{{}, std::move(prefix), unknown, longest_word, {}, std::move(before), std::move(after)};
  for (auto [piece, id] : pieces) vocabulary.pieces.emplace_back(nb::cast<std::string>(piece), nb::cast<int32_t>(id));
  for (const nb::str& token : added) vocabulary.added.push_back(characters(token));
  new (self) WordPiece(std::move(vocabulary));
}

Place place_by_name(const std::string& name) {
  if (name == "word") return Place::word;
  if (name == "alone") return Place::alone;
  if (name == "space") return Place::space;
  throw std::invalid_argument("a place is 'word', 'alone' or 'space', not '" + name + "'");
}

void teach(WordPiece& self, uint32_t character, const std::optional<std::vector<std::pair<std::string, std::string>>>& units) {
  if (!units) return self.leave(character);
  std::vector<Unit> taught;
  for (const auto& [bytes, place] : *units) {
    if (bytes.size() > sizeof(Unit::bytes)) throw std::invalid_argument("a unit is one character");
    Unit& unit = taught.emplace_back();
    std::copy(bytes.begin(), bytes.end(), unit.bytes);
    unit.size = (uint8_t)bytes.size();
    unit.place = place_by_name(place);
  }
  self.teach(character, taught);
}

// The texts are read where Python keeps them, without the GIL: `texts` holds them, and a str never changes.
nb::tuple encode_texts(const WordPiece& self, const nb::tuple& texts, int64_t limit) {
  std::vector<TextView> views;
  for (nb::handle text : texts) {
    if (!PyUnicode_Check(text.ptr())) throw nb::type_error("a text is a str");
    if (PyUnicode_READY(text.ptr()) != 0) throw nb::python_error();
    views.push_back({PyUnicode_DATA(text.ptr()), (int)PyUnicode_KIND(text.ptr()), (size_t)PyUnicode_GET_LENGTH(text.ptr())});
  }
  Pieces found;
  {
    nb::gil_scoped_release release;
    found = self.encode(views, limit);
  }
  const std::vector<uint32_t> unfamiliar(found.unfamiliar.begin(), found.unfamiliar.end());
  return nb::make_tuple(owned(std::move(found.ids)), found.ends, found.counts, unfamiliar);
}

std::vector<std::string> cpu_features() {
  std::istringstream names(cpu::found().names);
  std::vector<std::string> result;
  for (std::string name; names >> name;) result.push_back(name);
  return result;
}

std::vector<std::pair<std::string, std::string>> level_list() {
  std::vector<std::pair<std::string, std::string>> result;
  for (const Level& each : levels()) result.emplace_back(each.name, each.unusable);
  return result;
}

std::vector<std::string> dtype_list() {
  std::vector<std::string> result;
  for (int i = 0; i < kDtypes; i++) result.emplace_back(levels().back().tables[i].dtype);
  return result;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The native engine's core: see csrc/.";
  m.def("cpu_features", &cpu_features, "The names of the CPU features that are there and that the system supports.");
  m.def("levels", &level_list, "Every level of this build, best first: (name, why it can't run here, or \"\").");
  m.def("level", [](const std::string& name) { return std::string(level(name).name); }, "name"_a = "",
        "The level of that name, or the best usable; ValueError if it is unknown or can't run here.");
  m.def("dtypes", &dtype_list, "The dtypes of every level, the default first.");
  m.def("self_test", [](const std::string& name, const std::string& dtype) { return self_test(kernels(level(name), dtype)); },
        "level"_a, "dtype"_a = "float32", nb::call_guard<nb::gil_scoped_release>(),
        "The largest error of a level's products, attention, norm and GELU against float64.");
  m.def("measure_peak",
        [](const std::string& name, const std::string& dtype, int threads, double seconds) {
          if (threads < 1) throw std::invalid_argument("threads must be at least 1");
          return measure_peak(kernels(level(name), dtype), threads, seconds);
        },
        "level"_a, "dtype"_a, "threads"_a, "seconds"_a, nb::call_guard<nb::gil_scoped_release>(),
        "Operations a second of a level's multiply-adds on registers alone, on so many threads at once.");
  m.def("measure_linear",
        [](const std::string& name, const std::string& dtype, int rows, int columns, int depth, bool gelu, double seconds) {
          if (rows < 1 || columns < 1 || depth < 1) throw std::invalid_argument("rows, columns and depth must be at least 1");
          return measure_linear(kernels(level(name), dtype), rows, columns, depth, gelu, seconds);
        },
        "level"_a, "dtype"_a, "rows"_a, "columns"_a, "depth"_a, "gelu"_a, "seconds"_a,
        nb::call_guard<nb::gil_scoped_release>(), "Operations a second of one thread's products of this shape.");
  m.def("measure_attention",
        [](const std::string& name, const std::string& dtype, int tokens, int heads, int size, double seconds) {
          const Kernels& table = kernels(level(name), dtype);
          if (tokens < 1 || heads < 1 || size < 1 || size % table.head_group)
            throw std::invalid_argument("tokens, heads and size must be at least 1, size a multiple of " +
                                        std::to_string(table.head_group));
          return measure_attention(table, tokens, heads, size, seconds);
        },
        "level"_a, "dtype"_a, "tokens"_a, "heads"_a, "size"_a, "seconds"_a, nb::call_guard<nb::gil_scoped_release>(),
        "Operations a second of one thread's attention of one sequence of this shape.");
  nb::class_<Network>(m, "Network", "What a network is: see Network in csrc/weights.h.")
      .def(nb::init<>())
      .def_rw("vocabulary", &Network::vocabulary)
      .def_rw("positions", &Network::positions)
      .def_rw("token_types", &Network::token_types)
      .def_rw("embedding", &Network::embedding)
      .def_rw("hidden", &Network::hidden)
      .def_rw("heads", &Network::heads)
      .def_rw("key_heads", &Network::key_heads)
      .def_rw("inner", &Network::inner)
      .def_rw("eps", &Network::eps)
      .def_rw("reach", &Network::reach)
      .def_rw("vector_rows", &Network::vector_rows)
      .def_rw("vector_table_rows", &Network::vector_table_rows)
      .def_rw("position_keys", &Network::position_keys)
      .def_rw("position_queries", &Network::position_queries)
      .def_rw("score_terms", &Network::score_terms)
      .def_rw("projection_first", &Network::projection_first)
      .def_rw("convolution", &Network::convolution)
      .def_rw("convolution_groups", &Network::convolution_groups)
      .def_rw("pre_norm", &Network::pre_norm)
      .def_rw("rms_norm", &Network::rms_norm)
      .def_rw("gated", &Network::gated)
      .def_rw("interleaved", &Network::interleaved)
      .def_rw("stored_layers", &Network::stored_layers)
      .def_rw("rotary", &Network::rotary)
      .def_rw("windows", &Network::windows)
      .def("activate", [](Network& network, const std::string& name) { network.activation = activation_by_name(name); },
           "name"_a, "Set the activation; ValueError if it is unknown.")
      .def("activate_convolution",
           [](Network& network, const std::string& name) { network.convolution_activation = activation_by_name(name); },
           "name"_a, "Set the convolution's activation; ValueError if it is unknown.");
  nb::class_<PythonModel>(m, "Model", "An encoder ready to compute: packed weights, threads, workspaces.")
      .def("__init__", &make_model, "tensors"_a, "network"_a, nb::kw_only(), "level"_a, "dtype"_a, "threads"_a,
           nb::sig("def __init__(self, tensors: dict[str, tuple[numpy.typing.NDArray[typing.Any], str]], network: Network, *, "
                   "level: str, dtype: str, threads: int) -> None"))
      .def("encode", &encode, "ids"_a.noconvert(), "positions"_a.noconvert(), "token_types"_a.noconvert(),
           "starts"_a.noconvert(), nb::kw_only(), "keys"_a.noconvert().none() = nb::none(), "rows"_a, "hidden_states"_a,
           "attentions"_a,
           nb::sig("def encode(self, ids: numpy.typing.NDArray[numpy.int32], positions: numpy.typing.NDArray[numpy.int32], "
                   "token_types: numpy.typing.NDArray[numpy.int32], starts: numpy.typing.NDArray[numpy.int32], *, "
                   "keys: numpy.typing.NDArray[numpy.int32] | None = None, rows: str, hidden_states: bool, attentions: bool) -> tuple[numpy.typing.NDArray[numpy.float32], "
                   "numpy.typing.NDArray[numpy.float32] | None, list[numpy.typing.NDArray[numpy.float32]] | None]"));
  nb::class_<WordPiece>(m, "WordPiece", "Texts to token ids; the characters that it can take are taught.")
      .def("__init__", &make_word_piece, "pieces"_a, nb::kw_only(), "prefix"_a, "unknown"_a, "longest_word"_a, "added"_a,
           "before"_a, "after"_a,
           nb::sig("def __init__(self, pieces: dict[str, int], *, prefix: str, unknown: int, longest_word: int, "
                   "added: list[str], before: list[int], after: list[int]) -> None"))
      .def("teach", &teach, "character"_a, "units"_a.none(),
           "What becomes of a character: (UTF-8 character, \"word\", \"alone\" or \"space\") each; None where it depends.")
      .def("encode", &encode_texts, "texts"_a, "limit"_a,
           nb::sig("def encode(self, texts: tuple[str, ...], limit: int) -> "
                   "tuple[numpy.typing.NDArray[numpy.int32], list[int], list[int], list[int]]"),
           "Ids of all texts, where each text's end, how many tokens it has (-1: not for this class, -2: unfamiliar "
           "characters), and the unfamiliar characters.");
  nb::class_<Head>(m, "Head", "x -> activation(x @ weight.T + bias), each row independent of the others.")
      .def("__init__", &make_head, "weight"_a, "bias"_a.none(), nb::kw_only(), "activation"_a, "level"_a,
           nb::sig("def __init__(self, weight: numpy.typing.NDArray[numpy.float32], "
                   "bias: numpy.typing.NDArray[numpy.float32] | None, *, activation: str, level: str) -> None"))
      .def("__call__", &apply_head, "x"_a,
           nb::sig("def __call__(self, x: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float32]"));
  bind_vectors(m);
}
