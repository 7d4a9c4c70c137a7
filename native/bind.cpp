// The door between Python and the machine: handles and conversions, the interpreter's lock, and nothing else.
#include "bind.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cores.h"
#include "machine.h"

namespace nb = nanobind;
using namespace nb::literals;

const llamero::Kernels& kernels_of(const std::string& level) {
    const llamero::Kernels* best = nullptr;
    for (const llamero::Kernels* const* k = llamero::levels(); *k; ++k) {
        best = *k;
        if (level == best->level) return *best;
    }
    if (level.empty()) return *best;
    throw std::invalid_argument("level " + level + " does not run on this processor");
}

int checked_threads(int threads) {
    constexpr int most = 1024;
    if (threads < 1 || threads > most)
        throw std::invalid_argument("threads must be 1 to " + std::to_string(most) + ", not " + std::to_string(threads));
    return threads;
}

namespace {

using namespace llamero;

typedef nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu> Floats;
typedef nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu> Values;
typedef nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> Bytes;
typedef nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu> Doubles;

// A matrix in a buffer of Python's (a mapped file, as a rule), which it keeps alive; or a vector of its own.
class Weight {
public:
    Weight(int type, int64_t rows, int64_t k, nb::handle buffer) {
        const int64_t bytes = matrix_bytes(type, rows, k);
        if (PyObject_GetBuffer(buffer.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
        held_ = true;
        if (view_.len != bytes) {
            const std::string given = std::to_string(view_.len);
            PyBuffer_Release(&view_);
            throw std::invalid_argument("a weight of type " + std::to_string(type) + ", " + std::to_string(rows) +
                                        " rows of " + std::to_string(k) + ", takes " + std::to_string(bytes) +
                                        " bytes, not " + given);
        }
        matrix_ = {static_cast<Type>(type), rows, k, bytes / rows, static_cast<const uint8_t*>(view_.buf)};
    }
    explicit Weight(const Floats& values) : vector_(values.data(), values.data() + values.size()) {}
    ~Weight() {
        if (held_) PyBuffer_Release(&view_);
    }
    Weight(const Weight&) = delete;
    Weight& operator=(const Weight&) = delete;

    nb::tuple shape() const { return held_ ? nb::make_tuple(matrix_.rows, matrix_.k) : nb::make_tuple(vector_.size()); }
    const Matrix& matrix() const {
        if (!held_) throw std::invalid_argument("a matrix is needed here, and this weight is a vector");
        return matrix_;
    }
    const std::vector<float>& vector() const {
        if (held_) throw std::invalid_argument("a vector is needed here, and this weight is a matrix");
        return vector_;
    }

private:
    Matrix matrix_{};
    Py_buffer view_{};
    bool held_ = false;
    std::vector<float> vector_;
};

std::vector<std::string> level_names() {
    std::vector<std::string> names;
    for (const Kernels* const* k = levels(); *k; ++k) names.emplace_back((*k)->level);
    return names;
}

CacheKind kind_of(const std::string& name) {
    if (name == "f32") return CacheKind::F32;
    if (name == "f16") return CacheKind::F16;
    if (name == "q8_0") return CacheKind::Q8_0;
    throw std::invalid_argument("a store is of kind f32, f16 or q8_0, not " + name);
}

// Runs f with the machine's door locked. The interpreter's lock is given up where f takes long, or would have to wait.
template <class F>
auto inside(Machine& machine, bool long_work, const F& f) {
    std::unique_lock<std::mutex> door(machine.door(), std::try_to_lock);
    if (door.owns_lock() && !long_work) return f();
    nb::gil_scoped_release free;
    if (!door.owns_lock()) door.lock();
    auto result = f();
    door.unlock();  // before the interpreter's lock is taken back: its holder may be waiting for this door
    return result;
}

// Work beyond which the interpreter's lock is given up. Estimates of work are doubles: they may pass any integer.
constexpr int64_t LONG_FLOATS = int64_t(1) << 18;
constexpr double LONG_BYTES = 1 << 20, LONG_PRODUCTS = 1 << 20;

// An operation on rows needs the door only where it is shared out.
template <class F>
Array on_rows(Machine& machine, int64_t floats, const F& f) {
    if (machine.shares(floats)) return inside(machine, floats > LONG_FLOATS, f);
    if (floats <= LONG_FLOATS) return f();
    nb::gil_scoped_release free;
    return f();
}

nb::tuple multiply(Machine& machine, const Array& x, const Matrix* const* weights, size_t count) {
    double bytes = 0;
    for (size_t i = 0; i < count; ++i)
        bytes += static_cast<double>(weights[i]->rows * weights[i]->row_bytes) * static_cast<double>(1 + x.rows() / 4);
    std::vector<Array> out = inside(machine, bytes > LONG_BYTES, [&] { return machine.matmul(x, weights, count); });
    if (count == 1) return nb::make_tuple(std::move(out[0]));
    if (count == 2) return nb::make_tuple(std::move(out[0]), std::move(out[1]));
    if (count == 3) return nb::make_tuple(std::move(out[0]), std::move(out[1]), std::move(out[2]));
    nb::list all;
    for (Array& array : out) all.append(nb::cast(std::move(array)));
    return nb::tuple(all);
}

nb::tuple multiply_all(Machine& machine, const Array& x, nb::args weights) {
    std::vector<const Matrix*> matrices;
    for (nb::handle weight : weights) matrices.push_back(&nb::cast<const Weight&>(weight).matrix());
    return multiply(machine, x, matrices.data(), matrices.size());
}

// changes: (number of a product, rows, a, b) each.
void add_low_rank(Machine& machine, const Array& x, const nb::sequence& products, const nb::sequence& changes) {
    std::vector<Machine::Change> all;
    double work = 0;
    for (nb::handle item : changes) {
        const nb::tuple change = nb::cast<nb::tuple>(item);
        if (change.size() != 4) throw std::invalid_argument("a change is (number of a product, rows, a, b)");
        all.push_back({&nb::cast<Array&>(products[nb::cast<size_t>(change[0])]),
                       nb::cast<std::vector<int64_t>>(change[1]), &nb::cast<const Weight&>(change[2]).matrix(),
                       &nb::cast<const Weight&>(change[3]).matrix()});
        const Machine::Change& last = all.back();
        work += static_cast<double>(last.rows.size()) * static_cast<double>(last.a->rows) *
                static_cast<double>(last.a->k + last.b->k);
    }
    inside(machine, work > LONG_PRODUCTS, [&] {
        machine.add_low_rank(x, all);
        return 0;
    });
}

Array attend(Machine& machine, const Array& q, const Array& k, const Array& v, const Step& step, int64_t layer) {
    double work = 0;
    for (const Span& span : step.spans())
        work += static_cast<double>(span.length) * static_cast<double>(span.start + span.length);
    const bool long_work = work * static_cast<double>(q.cols()) > LONG_PRODUCTS;
    return inside(machine, long_work, [&] { return machine.attention(q, k, v, step, layer); });
}

std::shared_ptr<Step> begin(std::shared_ptr<Store> store, const std::vector<int64_t>& starts,
                            const std::vector<int64_t>& lengths, const std::vector<std::vector<int32_t>>& pages,
                            const Doubles& inv_freq) {
    if (lengths.size() != starts.size() || pages.size() != starts.size())
        throw std::invalid_argument("starts, lengths and pages differ in number");
    std::vector<Span> spans;
    for (size_t i = 0; i < starts.size(); ++i) spans.push_back({starts[i], lengths[i], pages[i]});
    return std::make_shared<Step>(std::move(store), std::move(spans), inv_freq.data(),
                                  static_cast<int64_t>(inv_freq.size()));
}

int64_t multiply_numbers(Machine& machine, const std::string& kind, int64_t rounds) {
    const Limits& limits = machine.kernels().limits;
    if (rounds < 0 || rounds > int64_t(1) << 40) throw std::invalid_argument("rounds must be 0 to 2^40");
    const auto loop = kind == "int8"   ? limits.multiply_ints
                      : kind == "bf16" ? limits.multiply_bfloats
                      : kind == "f32"  ? limits.multiply_floats
                                       : throw std::invalid_argument("numbers are int8, bf16 or f32, not " + kind);
    return inside(machine, true, [&] { return machine.multiply(loop, rounds); });
}

int64_t read_buffer(Machine& machine, const Bytes& buffer) {
    const int64_t bytes = static_cast<int64_t>(buffer.size());
    return inside(machine, true, [&] {
        machine.read(buffer.data(), bytes);
        return bytes;
    });
}

Array array_of(Machine& machine, const Values& values) {
    Array out = machine.array(static_cast<int64_t>(values.shape(0)), static_cast<int64_t>(values.shape(1)));
    memcpy(out.data(), values.data(), values.size() * sizeof(float));
    return out;
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> view_of(nb::handle_t<Array> self) {
    Array& array = nb::cast<Array&>(self);
    const size_t shape[2] = {static_cast<size_t>(array.rows()), static_cast<size_t>(array.cols())};
    return nb::ndarray<nb::numpy, float, nb::ndim<2>>(array.data(), 2, shape, self);
}

typedef nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu> Writable;

void exponentials(const Floats& x, const Writable& y, const std::string& level) {
    if (x.size() != y.size()) throw std::invalid_argument("x and y differ in size");
    const Kernels& kernels = kernels_of(level);
    nb::gil_scoped_release free;
    kernels.choices.exponentials(x.data(), y.data(), static_cast<int64_t>(x.size()));
}

// Scratch of a choice; it is kept for each thread, so that its memory is not given back and asked for again.
struct Scratch {
    std::vector<float> most, few;
    std::vector<double> mass;

    explicit Scratch(int64_t count) { grow(count); }
    void grow(int64_t count) {
        const size_t blocks = static_cast<size_t>((count + Choosing::BLOCK - 1) / Choosing::BLOCK);
        const size_t many = std::max(blocks, static_cast<size_t>(Choosing::FEW));
        if (most.size() >= blocks && mass.size() >= many) return;
        most.resize(blocks);
        few.resize(many + static_cast<size_t>(Choosing::BLOCK));
        mass.resize(many);
    }
};

int64_t choose(const Floats& logits, float temperature, int64_t top_k, double top_p, float least, double uniform,
               const std::string& level) {
    const int64_t count = static_cast<int64_t>(logits.size());
    if (count < 1 || !(temperature > 0)) throw std::invalid_argument("there is nothing to choose");
    const Kernels& kernels = kernels_of(level);
    nb::gil_scoped_release free;
    static thread_local Scratch scratch(count);
    scratch.grow(count);
    return kernels.choices.choose({logits.data(), count, temperature, top_k, top_p, least, uniform,
                                   scratch.most.data(), scratch.few.data(), scratch.mass.data()});
}

void bind_choices(nb::module_& m) {
    m.def("exponentials", &exponentials, "x"_a, "y"_a, "level"_a = "", "y = e^x.");
    m.def("choose", &choose, "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "least"_a, "uniform"_a,
          "level"_a = "", "The token that the chain of samplers chooses, or -1 where rounding could decide.");
}

void bind_memory(nb::module_& m) {
    nb::class_<Array>(m, "Array", "Rows of floats; recycled by its machine when dropped.")
        .def_prop_ro("shape", [](const Array& a) { return nb::make_tuple(a.rows(), a.cols()); })
        .def("numpy", &view_of, "A view of the rows; it keeps them alive.");
    nb::class_<Weight>(m, "Weight", "A stored matrix, in the buffer that holds it, or a vector of floats.")
        .def(nb::init<int, int64_t, int64_t, nb::handle>(), "kind"_a, "rows"_a, "k"_a, "buffer"_a,
             "rows of k values of the type of ggml's number `kind`; the buffer is kept and not copied.")
        .def_static(
            "vector", [](const Floats& values) { return new Weight(values); }, "values"_a,
            nb::rv_policy::take_ownership, "A copy of the values.")
        .def_prop_ro("shape", &Weight::shape);
    nb::class_<Store>(m, "Store", "Memory for keys and values.")
        .def(
            "__init__",
            [](Store* self, int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t pages, int64_t page,
               const std::string& kind) { new (self) Store({layers, kv_heads, head_dim, pages, page, kind_of(kind)}); },
            "layers"_a, "kv_heads"_a, "head_dim"_a, "pages"_a, "page"_a, "kind"_a)
        .def_prop_ro("nbytes", &Store::bytes, "Address space taken; memory is used only as rows are written.")
        .def("copy", &Store::copy, "source"_a, "target"_a, "rows"_a,
             "The first `rows` tokens of one page, in all layers, into another.");
    nb::class_<Step>(m, "Step", "What all layers of one step share.").def_prop_ro("tokens", &Step::tokens);
    m.def("begin", &begin, "store"_a.none(), "starts"_a, "lengths"_a, "pages"_a, "inv_freq"_a,
          "Plan a step: for each sequence its first new position, its number of new tokens, and its pages.");
}

void bind_machine(nb::module_& m) {
    nb::class_<Machine>(m, "Machine", "The operations, on a pool of threads of its own.")
        .def(
            "__init__",
            [](Machine* self, int threads, const std::string& level) {
                new (self) Machine(checked_threads(threads), kernels_of(level));
            },
            "threads"_a, "level"_a = "", "level: one of levels(), or '' for the strongest.")
        .def_prop_ro("threads", &Machine::threads)
        .def_prop_ro("level", [](const Machine& machine) { return machine.kernels().level; })
        .def("set_deterministic", &Machine::set_deterministic, "on"_a)
        .def("array", &array_of, "values"_a, "A copy of the values as an Array.")
        .def(
            "embed",
            [](Machine& machine, const Weight& table, const std::vector<int64_t>& ids) {
                const Matrix& matrix = table.matrix();
                return on_rows(machine, matrix.k * static_cast<int64_t>(ids.size()),
                               [&] { return machine.embed(matrix, ids); });
            },
            "table"_a, "ids"_a)
        .def(
            "rms_norm",
            [](Machine& machine, const Array& x, const Weight& weight, float eps) {
                const std::vector<float>& w = weight.vector();
                return on_rows(machine, x.size(),
                               [&] { return machine.rms_norm(x, w.data(), static_cast<int64_t>(w.size()), eps); });
            },
            "x"_a, "weight"_a, "eps"_a)
        .def("matmul",
             [](Machine& machine, const Array& x, const Weight& a) {
                 const Matrix* weights[] = {&a.matrix()};
                 return multiply(machine, x, weights, 1);
             })
        .def("matmul",
             [](Machine& machine, const Array& x, const Weight& a, const Weight& b) {
                 const Matrix* weights[] = {&a.matrix(), &b.matrix()};
                 return multiply(machine, x, weights, 2);
             })
        .def("matmul",
             [](Machine& machine, const Array& x, const Weight& a, const Weight& b, const Weight& c) {
                 const Matrix* weights[] = {&a.matrix(), &b.matrix(), &c.matrix()};
                 return multiply(machine, x, weights, 3);
             })
        .def("matmul", &multiply_all, "x"_a, "weights"_a)
        .def("add_low_rank", &add_low_rank, "x"_a, "products"_a, "changes"_a)
        .def(
            "rope",
            [](Machine& machine, const Array& x, const Step& step) {
                return on_rows(machine, x.size(), [&] { return machine.rope(x, step); });
            },
            "x"_a, "step"_a)
        .def("attention", &attend, "q"_a, "k"_a, "v"_a, "step"_a, "layer"_a)
        .def(
            "swiglu",
            [](Machine& machine, const Array& gate, const Array& up) {
                return on_rows(machine, gate.size(), [&] { return machine.swiglu(gate, up); });
            },
            "gate"_a, "up"_a)
        .def(
            "add",
            [](Machine& machine, const Array& x, const Array& y) {
                return on_rows(machine, x.size(), [&] { return machine.add(x, y); });
            },
            "x"_a, "y"_a)
        .def("take", &Machine::take, "x"_a, "rows"_a)
        .def("multiply", &multiply_numbers, "kind"_a, "rounds"_a)
        .def("read", &read_buffer, "buffer"_a);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // a program may end in the middle of an answer
    m.doc() = "llamero's native core: arithmetic over stored weights, and the tokenizers' merges.";
    m.def("levels", &level_names, "Instruction-set levels that run here, weakest first.");
    m.def("usable_cores", &usable_cores, "Processor cores that this process may use.");
    bind_memory(m);
    bind_choices(m);
    bind_machine(m);
    bind_tokenizer(m);
    bind_training(m);
}
