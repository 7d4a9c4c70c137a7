// Attention of many query rows: bound by arithmetic. Each tile of kept rows is unpacked once for all query rows of the
// block. Scores have one query row per lane, so that the softmax needs no sums over lanes; no row's result depends on
// the rows beside it.
#pragma once
#include "tile_floats.h"
#if defined(__AVX512VNNI__)
#include "tile_pairs.h"
#endif

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

template <CacheKind K, class Tile>
Softened attend_many(const Attend& task, int64_t end, float* scratch) {
    ManyRows w = prepare_many(task, scratch);
    Tile::prepare_queries(w);
    for (int64_t begin = task.begin; begin < end; begin += T) {
        const int64_t stop = end - begin < T ? end : begin + T;
        Tile::template unpack_keys<K>(task.keys, begin, stop, w);
        Tile::template unpack_values<K>(task.values, begin, stop, w);
        for (int64_t first = 0; first < w.rows; first += GROUP) {
            const int64_t rows = w.rows - first < GROUP ? w.rows - first : GROUP, lanes = round_up(rows, W);
            const int64_t seen = w.seen[first + rows - 1], count = (seen < stop ? seen : stop) - begin;
            if (count <= 0) continue;
            Tile::score_group(w, w.queries + first * w.width, lanes, count);
            for (int64_t r = 0; r < lanes; r += W) Tile::soften_lanes(w, first + r, begin, count);
            Tile::mix_group(w, first, rows, count);
        }
    }
    return {w.rows, w.width, w.sums, w.maximum, w.weight};
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
