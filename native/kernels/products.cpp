// The table of products of one level: which type takes which codec, and how many rows take which path.
#include "../products.h"

#include "dot.h"
#include "floats.h"
#include "tile.h"
#if defined(__AVX512F__)
#include "fixed.h"
#include "float_spread.h"
#include "lane_dot.h"
#include "small_scales.h"
#include "spread.h"
#include "wide.h"
#endif

namespace llamero {
namespace LLAMERO_LEVEL {

Products products();

namespace {

// One way to multiply; see dot.h, lane_dot.h, spread.h, tile.h, wide.h, floats.h and fixed.h.
struct Path {
    int64_t most;  // rows of activations up to which it is the fastest
    Form form;     // that it wants them in
    int64_t step;  // weight rows that it takes at a time
    size_t (*scratch)(int64_t n);
    void (*product)(const Matrix&, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
                    void* scratch);
};

// All that a type of weight needs; the rest of this file only picks from a table of these.
struct Entry {
    Type type;
    Path paths[4];
    void (*decode)(const uint8_t* row, float* out, int64_t k);
};

constexpr int64_t any = INT64_MAX;
size_t no_scratch(int64_t) { return 0; }

template <class C>
constexpr Path tiles = {any, Form::Int8Tile, panel_width, panel_scratch<Panel<C>>, tile_product<C>};

#if defined(__AVX512F__)
template <class C>
constexpr Path by_lanes = {lane_rows, Form::Lanes, 1, no_scratch, lane_product<C>};
template <class C>
constexpr Path side_by_side = {spread_most, Form::Spread, 8, no_scratch, spread_product<C>};
#endif

template <class C>
constexpr Entry blocks(Type type) {
#if defined(__AVX512F__)
    return {type,
            {{2, Form::Int8, 1, no_scratch, dot_product<C>}, by_lanes<C>, side_by_side<C>, tiles<C>},
            decode_row<C>};
#else
    return {type, {{4, Form::Int8, 1, no_scratch, dot_product<C>}, tiles<C>}, decode_row<C>};
#endif
}

#if defined(__AVX512F__)
template <class C>
constexpr Path few = {2, Form::Int8, 1, no_scratch, dot_product<C>};
template <class C>
constexpr Path few_small = {2, Form::WideRow, 1, no_scratch, small_product<C>};
template <>
constexpr Path few<Q2_K> = few_small<Q2_K>;
template <>
constexpr Path few<Q3_K> = few_small<Q3_K>;

// Types of superblocks.
template <class C>
constexpr Entry superblocks(Type type) {
    return {type,
            {few<C>, by_lanes<C>, side_by_side<C>,
             {any, Form::WideTile, panel_width, panel_scratch<WidePanel<C>>, wide_product<C>}},
            decode_row<C>};
}
#else
template <class C>
constexpr Entry superblocks(Type type) { return blocks<C>(type); }
#endif

template <class V, class U = OneFloat>
constexpr Path float_tiles = {any, U::form, panel_width, panel_scratch<FloatPanel<V, U>>, float_tile_product<V, U>};

template <class V>
constexpr Entry floats(Type type, Path tiles) {
    constexpr Path dots = {float_dot_most, Form::Float, 1, no_scratch, float_dot_product<V>};
#if defined(__AVX512F__)
    constexpr Path spread = {spread_most, Form::FloatSpread, 8, no_scratch, float_spread_product<SpreadFloats<V>>};
    return {type, {dots, spread, tiles}, decode_floats<V>};
#else
    return {type, {dots, tiles}, decode_floats<V>};
#endif
}

constexpr Entry entries[] = {
    floats<F32>(Type::F32, float_tiles<F32>), floats<F16>(Type::F16, float_tiles<F16>),
    floats<BF16>(Type::BF16, float_tiles<BF16>),
    blocks<Q8_0>(Type::Q8_0), blocks<Q4_0>(Type::Q4_0), blocks<Q4_1>(Type::Q4_1), blocks<Q5_0>(Type::Q5_0),
    blocks<Q5_1>(Type::Q5_1), blocks<IQ4_NL>(Type::IQ4_NL),
    superblocks<Q2_K>(Type::Q2_K), superblocks<Q3_K>(Type::Q3_K), superblocks<Q4_K>(Type::Q4_K),
    superblocks<Q5_K>(Type::Q5_K), superblocks<Q6_K>(Type::Q6_K), superblocks<IQ4_XS>(Type::IQ4_XS),
};

#if defined(__AVX512F__)
constexpr Entry bfloat_pairs = {Type::BF16,
                                {{float_dot_most, Form::BFloat, 1, no_scratch, bfloat_dot_product},
                                 {spread_most, Form::BFloatSpread, 8, no_scratch, float_spread_product<SpreadPairs>},
                                 float_tiles<BF16, TwoBFloats>},
                                decode_floats<BF16>};
constexpr Entry fixed_halves = floats<F16>(
    Type::F16, {any, Form::FixedTile, panel_width, panel_scratch<FixedPanel>, fixed_tile_product});

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

const Path& path(Type type, int64_t n) {
    const Path* p = entry(type).paths;
    while (p->most < n) ++p;
    return *p;
}

Form form(Type type, int64_t n) { return path(type, n).form; }

size_t form_bytes(Form form, int64_t n, int64_t k) {
    switch (form) {
        case Form::Float: return size_t(n * FloatRows::bytes(k));
        case Form::BFloat: return size_t(n * BFloatRows::bytes(k));
        case Form::Int8: return size_t(n * Int8Row::bytes(k));
        case Form::FloatTile: return Stretches<FloatTileBlock<OneFloat>>::bytes(n, k);
        case Form::Int8Tile: return Stretches<Int8Block>::bytes(n, k);
#if defined(__AVX512F__)
        case Form::BFloatTile: return Stretches<FloatTileBlock<TwoBFloats>>::bytes(n, k);
        case Form::WideRow: return size_t(n * WideRow::bytes(k));
        case Form::WideTile: return Stretches<WideBlock>::bytes(n, k);
        case Form::FixedTile: return Stretches<FixedBlock>::bytes(n, k);
        case Form::Lanes: return lane_bytes(k);
        case Form::Spread: return spread_bytes(n, k);
        case Form::FloatSpread: return float_spread_bytes<FloatRows>(n, k);
        case Form::BFloatSpread: return float_spread_bytes<BFloatRows>(n, k);
#else
        default: break;  // nothing asks for the others here
#endif
    }
    __builtin_unreachable();
}

bool apart(Form form) {
    return form != Form::Lanes && form != Form::Spread && form != Form::FloatSpread && form != Form::BFloatSpread;
}

template <class Rows>
void prepare_rows(const float* x, int64_t k, void* out, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) Rows::prepare(x + i * k, k, out, i);
}

void prepare(Form form, const float* x, int64_t n, int64_t k, void* out, int64_t begin,
             int64_t end) {
    switch (form) {
        case Form::Float: return prepare_rows<FloatRows>(x, k, out, begin, end);
        case Form::BFloat: return prepare_rows<BFloatRows>(x, k, out, begin, end);
        case Form::Int8: return prepare_rows<Int8Row>(x, k, out, begin, end);
        case Form::FloatTile: return Stretches<FloatTileBlock<OneFloat>>::prepare(x, n, k, out, begin, end);
        case Form::Int8Tile: return Stretches<Int8Block>::prepare(x, n, k, out, begin, end);
#if defined(__AVX512F__)
        case Form::BFloatTile: return Stretches<FloatTileBlock<TwoBFloats>>::prepare(x, n, k, out, begin, end);
        case Form::WideRow: return prepare_rows<WideRow>(x, k, out, begin, end);
        case Form::WideTile: return Stretches<WideBlock>::prepare(x, n, k, out, begin, end);
        case Form::FixedTile: return Stretches<FixedBlock>::prepare(x, n, k, out, begin, end);
        case Form::Lanes: return lane_prepare(x, n, k, out);
        case Form::Spread: return spread_prepare(x, n, k, out);
        case Form::FloatSpread: return float_spread_prepare<FloatRows>(x, n, k, out);
        case Form::BFloatSpread: return float_spread_prepare<BFloatRows>(x, n, k, out);
#else
        default: break;
#endif
    }
}

size_t scratch_bytes(Type type, int64_t n) { return path(type, n).scratch(n); }

int64_t step(Type type, int64_t n) { return path(type, n).step; }

void product(const Matrix& w, const void* prepared, int64_t n, float* y, int64_t ldy, int64_t begin, int64_t end,
             void* scratch) {
    path(w.type, n).product(w, prepared, n, y, ldy, begin, end, scratch);
}

void decode(Type type, const uint8_t* row, float* out, int64_t k) { entry(type).decode(row, out, k); }

}  // namespace

Products products() { return {form, form_bytes, apart, prepare, scratch_bytes, product, step, decode}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
