// What a training step does beside its products: norm, rotation, gate, loss and attention, each with its gradient.
#include <cmath>
#include <type_traits>

#include "../kernels.h"
#include "values.h"
#include "whole.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

template <class T>
void norm(const T* x, const float* weight, T* y, float* inverse, int64_t rows, int64_t cols, float eps) {
    for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
        vf squares = vf{};
        over(cols, [&](int64_t i, auto piece) {
            const vf v = piece.get(x + i);
            squares += v * v;
        });
        const float scale = inverse[r] = 1.0f / sqrtf(sum(squares) / static_cast<float>(cols) + eps);
        over(cols, [&](int64_t i, auto piece) { piece.put(y + i, piece.get(x + i) * scale * piece.get(weight + i)); });
    }
}

template <class T>
void norm_back(const T* x, const float* weight, const float* inverse, const T* dy, T* dx, float* dweight, int64_t rows,
               int64_t cols) {
    for (int64_t r = 0; r < rows; ++r, x += cols, dy += cols, dx += cols) {
        vf products = vf{};
        over(cols, [&](int64_t i, auto piece) {
            products += piece.get(x + i) * piece.get(dy + i) * piece.get(weight + i);
        });
        const float scale = inverse[r];
        const float along = sum(products) * scale * scale * scale / static_cast<float>(cols);
        over(cols, [&](int64_t i, auto piece) {
            const vf v = piece.get(x + i), d = piece.get(dy + i) * scale;
            piece.put(dx + i, d * piece.get(weight + i) - v * along);
            piece.put(dweight + i, piece.get(dweight + i) + d * v);
        });
    }
}

template <class T>
void turn(const T* x, T* y, const float* table, float sign, int64_t rows, int64_t cols, int64_t head_dim) {
    for (; rows > 0; --rows, table += 2 * head_dim)
        for (int64_t h = 0; h < cols; h += head_dim, x += head_dim, y += head_dim)
            over(head_dim, [&](int64_t i, auto piece) {
                const vf v = piece.get(x + i), sine = piece.get(table + head_dim + i) * sign;
                piece.put(y + i, v * piece.get(table + i) + swap_pairs(v) * sine);
            });
}

inline vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }

template <class T>
void gate(const T* gate, const T* up, T* y, int64_t count) {
    over(count, [&](int64_t i, auto piece) {
        const vf g = piece.get(gate + i);
        piece.put(y + i, g * sigmoid(g) * piece.get(up + i));
    });
}

template <class T>
void gate_back(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t count) {
    over(count, [&](int64_t i, auto piece) {
        const vf g = piece.get(gate + i), s = sigmoid(g), d = piece.get(dy + i);
        piece.put(dgate + i, d * piece.get(up + i) * s * (1.0f + g * (1.0f - s)));
        piece.put(dup + i, d * g * s);
    });
}

// Largest of a row, four vectors at a time.
template <class T>
float largest(const T* x, int64_t cols) {
    vf most[4];
    for (vf& m : most) m = broadcast(-INFINITY);
    int64_t i = 0;
    for (; i + 4 * W <= cols; i += 4 * W)
        for (int j = 0; j < 4; ++j) most[j] = max(most[j], get(x + i + j * W));
    float all = max_lane(max(max(most[0], most[1]), max(most[2], most[3])));
    for (; i < cols; ++i) all = std::fmax(all, Part{1}.get(x + i)[0]);
    return all;
}

template <class T>
float sum_of_powers(const T* x, float shift, int64_t cols) {
    vf sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * W <= cols; i += 4 * W)
        for (int j = 0; j < 4; ++j) sums[j] += exp(get(x + i + j * W) - shift);
    float all = sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < cols; ++i) all += exp(Part{1}.get(x + i) - shift)[0];
    return all;
}

template <class T>
void cross_entropy(T* logits, const int64_t* targets, const float* weights, float z_loss, float* losses,
                   int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; ++r, logits += cols) {
        const float most = largest(logits, cols), normaliser = most + logf(sum_of_powers(logits, most, cols));
        T* target = logits + targets[r];
        const float right = Part{1}.get(target)[0];
        losses[r] = normaliser - right;
        if (!weights) continue;
        const float weight = weights[r], all = weight * (1.0f + 2.0f * z_loss * normaliser);
        over(cols, [&](int64_t i, auto piece) {
            piece.put(logits + i, exp(piece.get(logits + i) - normaliser) * all);
        });
        Part{1}.put(target, exp(broadcast(right - normaliser)) * all - weight);
    }
}

// Calls f with pointers to the values' type.
template <class F>
inline void typed(Value kind, const F& f) {
    if (kind == Value::F32) f(static_cast<float*>(nullptr));
    else f(static_cast<BFloat*>(nullptr));
}

#define LLAMERO_AS(p) static_cast<decltype(type)>(p)
#define LLAMERO_OF(p) static_cast<const std::remove_pointer_t<decltype(type)>*>(p)

Training table() {
    Training t;
    t.norm = [](Value kind, const void* x, const float* weight, void* y, float* inverse, int64_t rows, int64_t cols,
                float eps) {
        typed(kind, [&](auto type) { norm(LLAMERO_OF(x), weight, LLAMERO_AS(y), inverse, rows, cols, eps); });
    };
    t.norm_back = [](Value kind, const void* x, const float* weight, const float* inverse, const void* dy, void* dx,
                     float* dweight, int64_t rows, int64_t cols) {
        typed(kind, [&](auto type) {
            norm_back(LLAMERO_OF(x), weight, inverse, LLAMERO_OF(dy), LLAMERO_AS(dx), dweight, rows, cols);
        });
    };
    t.turn = [](Value kind, const void* x, void* y, const float* table, float sign, int64_t rows, int64_t cols,
                int64_t head_dim) {
        typed(kind, [&](auto type) { turn(LLAMERO_OF(x), LLAMERO_AS(y), table, sign, rows, cols, head_dim); });
    };
    t.gate = [](Value kind, const void* x, const void* up, void* y, int64_t count) {
        typed(kind, [&](auto type) { gate(LLAMERO_OF(x), LLAMERO_OF(up), LLAMERO_AS(y), count); });
    };
    t.gate_back = [](Value kind, const void* x, const void* up, const void* dy, void* dgate, void* dup,
                     int64_t count) {
        typed(kind, [&](auto type) {
            gate_back(LLAMERO_OF(x), LLAMERO_OF(up), LLAMERO_OF(dy), LLAMERO_AS(dgate), LLAMERO_AS(dup), count);
        });
    };
    t.cross_entropy = [](Value kind, void* logits, const int64_t* targets, const float* weights, float z_loss,
                         float* losses, int64_t rows, int64_t cols) {
        typed(kind, [&](auto type) { cross_entropy(LLAMERO_AS(logits), targets, weights, z_loss, losses, rows, cols); });
    };
    t.scratch_bytes = [](int64_t length, int64_t dim) {
        return sizeof(float) * static_cast<size_t>(Unpacked::floats(length, dim));
    };
    t.attend = [](const AttendWhole& task, void* scratch) {
        typed(task.kind, [&](auto type) {
            attend_whole<std::remove_pointer_t<decltype(type)>>(task, static_cast<float*>(scratch));
        });
    };
    t.attend_back = [](const AttendWhole& task, void* scratch) {
        typed(task.kind, [&](auto type) {
            attend_whole_back<std::remove_pointer_t<decltype(type)>>(task, static_cast<float*>(scratch));
        });
    };
    return t;
}

#undef LLAMERO_AS
#undef LLAMERO_OF

}  // namespace

Training training() { return table(); }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
