// The door between Python and the operations of a training step: arrays of any library that speaks DLPack.
#include "bind.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "training.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace llamero;

typedef nb::ndarray<nb::c_contig, nb::device::cpu> Values;
typedef nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> Ids;

// A vector is one row.
Sheet sheet(const Values& values) {
    if (values.ndim() != 1 && values.ndim() != 2) throw std::invalid_argument("an array of one or two dimensions is needed");
    const nb::dlpack::dtype type = values.dtype();
    const bool float32 = type == nb::dtype<float>();
    const bool bfloat = type.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat) && type.bits == 16;
    if (!float32 && !bfloat) throw std::invalid_argument("an array of float32 or bfloat16 is needed");
    const int64_t rows = values.ndim() == 1 ? 1 : static_cast<int64_t>(values.shape(0));
    const int64_t cols = static_cast<int64_t>(values.shape(values.ndim() - 1));
    return {float32 ? Value::F32 : Value::BF16, rows, cols, values.data()};
}

template <class F>
void inside(Trainer& trainer, const F& f) {
    nb::gil_scoped_release free;
    const std::lock_guard<std::mutex> door(trainer.door());
    f();
}

void cross_entropy(Trainer& trainer, const Values& logits, const Ids& targets, const std::optional<Values>& weights,
                   float z_loss, const Values& losses) {
    const Sheet l = sheet(logits), out = sheet(losses), w = weights ? sheet(*weights) : Sheet{};
    if (static_cast<int64_t>(targets.shape(0)) != l.rows) throw std::invalid_argument("a target for each row is needed");
    inside(trainer, [&] { trainer.cross_entropy(l, targets.data(), weights ? &w : nullptr, z_loss, out); });
}

}  // namespace

void bind_training(nb::module_& m) {
    nb::class_<Trainer>(m, "Trainer", "What a training step does beside its products, on arrays of the caller's.")
        .def(
            "__init__",
            [](Trainer* self, int threads, const std::string& level, uintptr_t fork) {
                new (self) Trainer(checked_threads(threads), kernels_of(level), reinterpret_cast<Fork>(fork));
            },
            "threads"_a, "level"_a = "", "fork"_a = 0,
            "fork: address of GOMP_parallel, or of what works like it; 0 for threads of its own.")
        .def("norm",
             [](Trainer& t, const Values& x, const Values& weight, const Values& y, const Values& inverse, float eps) {
                 const Sheet a = sheet(x), b = sheet(weight), c = sheet(y), d = sheet(inverse);
                 inside(t, [&] { t.norm(a, b, c, d, eps); });
             })
        .def("norm_back",
             [](Trainer& t, const Values& x, const Values& weight, const Values& inverse, const Values& dy,
                const Values& dx, const Values& dweight) {
                 const Sheet a = sheet(x), b = sheet(weight), c = sheet(inverse), d = sheet(dy), e = sheet(dx),
                             f = sheet(dweight);
                 inside(t, [&] { t.norm_back(a, b, c, d, e, f); });
             })
        .def("turn",
             [](Trainer& t, const Values& x, const Values& y, const Values& table, bool back) {
                 const Sheet a = sheet(x), b = sheet(y), c = sheet(table);
                 inside(t, [&] { t.turn(a, b, c, back); });
             })
        .def("gate",
             [](Trainer& t, const Values& gate, const Values& up, const Values& y) {
                 const Sheet a = sheet(gate), b = sheet(up), c = sheet(y);
                 inside(t, [&] { t.gate(a, b, c); });
             })
        .def("gate_back",
             [](Trainer& t, const Values& gate, const Values& up, const Values& dy, const Values& dgate,
                const Values& dup) {
                 const Sheet a = sheet(gate), b = sheet(up), c = sheet(dy), d = sheet(dgate), e = sheet(dup);
                 inside(t, [&] { t.gate_back(a, b, c, d, e); });
             })
        .def("cross_entropy", &cross_entropy, "logits"_a, "targets"_a, "weights"_a.none(), "z_loss"_a, "losses"_a)
        .def("attend",
             [](Trainer& t, const Values& q, const Values& k, const Values& v, const std::vector<int64_t>& lengths,
                int64_t head_dim, const Values& out, const Values& normaliser) {
                 const Sheet a = sheet(q), b = sheet(k), c = sheet(v), d = sheet(out), e = sheet(normaliser);
                 inside(t, [&] { t.attend(a, b, c, lengths, head_dim, d, e); });
             })
        .def("attend_back", [](Trainer& t, const Values& q, const Values& k, const Values& v,
                               const std::vector<int64_t>& lengths, int64_t head_dim, const Values& normaliser,
                               const Values& gradient, const Values& dq, const Values& dk, const Values& dv) {
            const Sheet a = sheet(q), b = sheet(k), c = sheet(v), n = sheet(normaliser), g = sheet(gradient),
                        x = sheet(dq), y = sheet(dk), z = sheet(dv);
            inside(t, [&] { t.attend_back(a, b, c, lengths, head_dim, n, g, x, y, z); });
        });
}
