// The table of products of one level: which type takes which codec, and how many rows take which path.
#include "../products.h"

#include "dot.h"
#include "floats.h"
#include "tile.h"
#if defined(__AVX512F__)
#include "fixed.h"
#endif

namespace llamero {
namespace LLAMERO_LEVEL {

Products products();

namespace {

// Up to this many rows of activations the dot path is faster.
constexpr int64_t few = 4;

// Everything a type of weight needs; the rest of this file only picks from a table of these.
struct Entry {
    Type type;
    Form form, tile_form;          // of activations, for few rows and for many
    size_t (*scratch)(int64_t n);  // bytes that tiles of n rows need
    int64_t step;                  // weight rows in a tile
    void (*dot)(const Matrix&, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end);
    void (*tile)(const Matrix&, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                 void* scratch);
    void (*decode)(const uint8_t* row, float* out, int64_t k);
};

template <class C>
constexpr Entry blocks(Type type) {
    return {type, Form::Int8, Form::Int8, tile_scratch<C>, panel_width,
            dot_product<C>, tile_product<C>, decode_row<C>};
}

template <class V, class U = OneFloat>
constexpr Entry floats(Type type, Form tile_form = Form::Float) {
    return {type, Form::Float, tile_form, float_tile_scratch<U>, FloatPanel<U>::width,
            float_dot_product<V>, float_tile_product<V, U>, decode_floats<V>};
}

constexpr Entry entries[] = {
    floats<F32>(Type::F32), floats<F16>(Type::F16), floats<BF16>(Type::BF16),
    blocks<Q8_0>(Type::Q8_0), blocks<Q4_0>(Type::Q4_0), blocks<Q4_1>(Type::Q4_1), blocks<Q5_0>(Type::Q5_0),
    blocks<Q5_1>(Type::Q5_1), blocks<Q2_K>(Type::Q2_K), blocks<Q3_K>(Type::Q3_K), blocks<Q4_K>(Type::Q4_K),
    blocks<Q5_K>(Type::Q5_K), blocks<Q6_K>(Type::Q6_K), blocks<IQ4_NL>(Type::IQ4_NL), blocks<IQ4_XS>(Type::IQ4_XS),
};

#if defined(__AVX512F__)
constexpr Entry bfloat_pairs = floats<BF16, TwoBFloats>(Type::BF16, Form::BFloat);
constexpr Entry fixed_halves = {Type::F16, Form::Float, Form::Fixed, fixed_tile_scratch, FixedPanel::width,
                                float_dot_product<F16>, fixed_tile_product, decode_floats<F16>};

// Multiplying pairs of bfloats is twice as fast as floats on AMD's processors, and half as fast on Intel's.
bool pairs_pay() { return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd"); }
#endif

const Entry& entry(Type type) {
#if defined(__AVX512F__)
    if (type == Type::BF16 && pairs_pay()) return bfloat_pairs;
    if (type == Type::F16) return fixed_halves;
#endif
    for (const Entry& e : entries)
        if (e.type == type) return e;
    __builtin_unreachable();  // a Matrix is made with types of the table only
}

Form form(Type type, int64_t n) { return n <= few ? entry(type).form : entry(type).tile_form; }

size_t form_bytes(Form form, int64_t n, int64_t k) {
    switch (form) {
        case Form::Float: return size_t(n * FloatRows::bytes(k));
        case Form::BFloat: return size_t(n * BFloatRows::bytes(k));
        case Form::Int8: return size_t(n * Int8Row::bytes(k));
#if defined(__AVX512F__)
        case Form::Fixed: return size_t(n * FixedRows::bytes(k));
#else
        case Form::Fixed: break;  // no entry of this level asks for it
#endif
    }
    __builtin_unreachable();
}

void prepare_row(Form form, const float* x, int64_t k, void* out, int64_t row) {
    switch (form) {
        case Form::Float: return FloatRows::prepare(x, k, out, row);
        case Form::BFloat: return BFloatRows::prepare(x, k, out, row);
        case Form::Int8: return quantise_row(x, k, out, row);
#if defined(__AVX512F__)
        case Form::Fixed: return FixedRows::prepare(x, k, out, row);
#else
        case Form::Fixed: break;
#endif
    }
}

void prepare(Form form, const float* x, int64_t, int64_t k, void* out, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) prepare_row(form, x + i * k, k, out, i);
}

size_t scratch_bytes(Type type, int64_t n, int64_t) { return n <= few ? 0 : entry(type).scratch(n); }

int64_t step(Type type, int64_t n, int64_t) { return n <= few ? 1 : entry(type).step; }

void product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
             void* scratch) {
    const Entry& e = entry(w.type);
    if (n <= few) e.dot(w, prepared, n, y, ldy, begin, end);
    else e.tile(w, prepared, n, y, ldy, begin, end, scratch);
}

void decode(Type type, const uint8_t* row, float* out, int64_t k) { entry(type).decode(row, out, k); }

}  // namespace

Products products() { return {form, form_bytes, prepare, scratch_bytes, product, step, decode}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
