// The choice of a token from a row of logits: passes over the vocabulary that skip what cannot be chosen.
//
// The chain of engine/sampling.py (temperature, top_k, top_p, min_p, draw) keeps a set that is always "all values from
// an edge up": so the edge is found first, by selection and not by sorting, and the draw adds up only blocks that reach
// it. Values and weights are computed as the chain computes them, bit for bit. Sums are added up in another order;
// where that could matter, and where only some of several equal values are to be kept, UNSURE is returned.
#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels.h"
#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

constexpr int64_t UNSURE = Choosing::UNSURE;
constexpr int64_t BLOCK = Choosing::BLOCK, FEW = Choosing::FEW;
constexpr double MARGIN = 1e-11;      // of all mass: what sums in another order may differ by
constexpr int EDGES = 7;              // by which an interval is divided at once
constexpr int ROUNDS = 12;
constexpr double WELL = 1024;         // values in an interval that are few enough

void exponentials(const float* x, float* y, int64_t count) {
    int64_t i = 0;
    for (; i + W <= count; i += W) store(y + i, exp(load(x + i)));
    if (i < count) store_part(y + i, exp(load_part(x + i, count - i)), count - i);
}

class Row {
public:
    explicit Row(const Choosing& task)
        : task_(task), n_(task.count), blocks_((n_ + BLOCK - 1) / BLOCK), most_(task.most), few_(task.few) {}

    int64_t choose() {
        highest_ = survey();
        if (!(highest_ > -INFINITY && highest_ < INFINITY)) return UNSURE;
        edge_ = -INFINITY;
        const bool some = task_.top_k > 0 && task_.top_k < n_;
        if (some && !cut_by_count()) return UNSURE;
        if (task_.top_p < 1.0 && !(some ? cut_sorted(kept_, sum_of(kept_)) : cut_by_mass())) return UNSURE;
        edge_ = std::max(edge_, task_.least);
        return draw();
    }

private:
    float scaled(float x) const { return (x - highest_) / task_.temperature; }

    // The largest value, and that of each block.
    float survey() {
        float highest = -INFINITY;
        for (int64_t b = 0; b < blocks_; ++b) {
            const float* x = task_.logits + b * BLOCK;
            const int64_t count = std::min(BLOCK, n_ - b * BLOCK);
            vf m = broadcast(-INFINITY);
            int64_t i = 0;
            for (; i + W <= count; i += W) m = max(load(x + i), m);
            float block = max_lane(m);
            for (; i < count; ++i) block = std::max(block, x[i]);
            most_[b] = block;
            highest = std::max(highest, block);
        }
        return highest;
    }

    // The scaled values from low up to but not including high into few_; how many, or UNSURE when they are too many.
    int64_t collect(float low, float high) {
        int64_t found = 0;
        float values[BLOCK];
        for (int64_t b = 0; b < blocks_; ++b) {
            if (scaled(most_[b]) < low) continue;
            if (found + BLOCK > FEW) return UNSURE;
            const int64_t count = scale(b, values);
            for (int64_t i = 0; i < count; ++i) {
                few_[found] = values[i];
                found += (values[i] >= low) & (values[i] < high);
            }
        }
        return found;
    }

    // top_k: at least k values reach the k-th largest of all blocks' largest.
    bool cut_by_count() {
        const int64_t k = task_.top_k;
        if (k > blocks_ || k + BLOCK > FEW) return false;
        std::copy(most_, most_ + blocks_, few_);
        std::nth_element(few_, few_ + (k - 1), few_ + blocks_, std::greater<float>());
        kept_ = collect(scaled(few_[k - 1]), 1.0f);
        if (kept_ == UNSURE) return false;
        std::sort(few_, few_ + kept_, std::greater<float>());
        if (kept_ > k && few_[k] == few_[k - 1]) return false;
        kept_ = k;
        edge_ = few_[k - 1];
        return true;
    }

    double sum_of(int64_t count) {
        double total = 0.0;
        float weights[BLOCK];
        for (int64_t i = 0; i < count; i += BLOCK) {
            const int64_t part = std::min(BLOCK, count - i);
            exponentials(few_ + i, weights, part);
            for (int64_t j = 0; j < part; ++j) total += static_cast<double>(weights[j]);
        }
        return total;
    }

    // The edge at which sorted values that follow others of mass `before` reach top_p of the total.
    bool cut_sorted(int64_t count, double total, double before = 0.0) {
        const double wanted = task_.top_p * total;
        float weights[BLOCK];
        for (int64_t i = 0; i < count; ++i) {
            if (i % BLOCK == 0) exponentials(few_ + i, weights, std::min(BLOCK, count - i));
            const double reached = before + static_cast<double>(weights[i % BLOCK]);
            if (reached >= wanted || i + 1 == count) {
                if (std::min(std::fabs(reached - wanted), std::fabs(wanted - before)) < MARGIN * total) return false;
                if (reached < wanted) return false;
                if (i + 1 < count && few_[i + 1] == few_[i]) return false;
                edge_ = few_[i];
                return true;
            }
            before = reached;
        }
        return false;
    }

    double mass_of_block(int64_t b, float edge) const {
        float values[BLOCK], weights[BLOCK];
        const int64_t count = weigh(b, edge, values, weights);
        double parts[4] = {};
        int64_t i = 0;
        for (; i + 4 <= count; i += 4)
            for (int j = 0; j < 4; ++j) parts[j] += static_cast<double>(weights[i + j]);
        for (; i < count; ++i) parts[0] += static_cast<double>(weights[i]);
        return (parts[0] + parts[1]) + (parts[2] + parts[3]);
    }

    // A block's scaled values, minus infinity behind the last; how many.
    int64_t scale(int64_t b, float* values) const {
        const float* x = task_.logits + b * BLOCK;
        const int64_t count = std::min(BLOCK, n_ - b * BLOCK);
        const vf top = broadcast(highest_), by = broadcast(task_.temperature);
        int64_t i = 0;
        for (; i + W <= count; i += W) store(values + i, (load(x + i) - top) / by);
        if (i < count) {
            store(values + i, (load_part(x + i, count - i) - top) / by);
            std::fill(values + count, values + i + W, -INFINITY);
        }
        return count;
    }

    // The same, and their weights: 0 for those below the edge and behind the last.
    int64_t weigh(int64_t b, float edge, float* values, float* weights) const {
        const int64_t count = scale(b, values);
        for (int64_t i = 0; i < count; i += W) {
            const vf s = load(values + i);
            store(weights + i, select(s >= broadcast(edge), exp(s), vf{}));
        }
        return count;
    }

    // top_p: the few likely values are sorted; of many, first an interval of few that holds the edge is found.
    bool cut_by_mass() {
        const double total = mass_from(-INFINITY);
        // Lighter values hold less than 1 - top_p together.
        const double lightest = 0.25 * (1.0 - task_.top_p) * total / static_cast<double>(n_);
        Interval at{static_cast<float>(std::log(lightest)), 1.0f, total, 0.0};
        kept_ = collect(at.low, at.high);
        if (kept_ == UNSURE) {
            for (int round = 0; round < ROUNDS && at.from_low - at.from_high > WELL * std::exp(double(at.low)); ++round)
                narrow(task_.top_p * total, &at);
            kept_ = collect(at.low, at.high);
            if (kept_ == UNSURE) return false;
            at.from_high = mass_from(at.high);
        }
        std::sort(few_, few_ + kept_, std::greater<float>());
        return cut_sorted(kept_, total, at.from_high);
    }

    // Scaled values from low up to but not including high, and the mass of all values from either up.
    struct Interval {
        float low, high;
        double from_low, from_high;
    };

    // Divides an interval and goes on with the part in which the mass is reached, give or take a float's rounding.
    void narrow(double wanted, Interval* at) const {
        float edges[EDGES];
        vf mass[EDGES] = {};
        for (int j = 0; j < EDGES; ++j) edges[j] = at->low + (at->high - at->low) * (float(j + 1) / (EDGES + 1));
        float values[BLOCK], weights[BLOCK];
        for (int64_t b = 0; b < blocks_; ++b) {
            if (scaled(most_[b]) < edges[0]) continue;
            const int64_t count = weigh(b, edges[0], values, weights);
            for (int64_t i = 0; i < count; i += W) {
                const vf s = load(values + i), w = load(weights + i);
                for (int j = 0; j < EDGES; ++j) mass[j] += select(s >= broadcast(edges[j]), w, vf{});
            }
        }
        for (int j = EDGES - 1; j >= 0; --j) {
            const double reached = static_cast<double>(sum(mass[j]));
            if (reached >= wanted) {
                at->low = edges[j];
                at->from_low = reached;
                return;
            }
            at->high = edges[j];
            at->from_high = reached;
        }
    }

    double mass_from(float edge) const {
        double total = 0.0;
        for (int64_t b = 0; b < blocks_; ++b)
            if (scaled(most_[b]) >= edge) total += mass_of_block(b, edge);
        return total;
    }

    // Where the mass of the kept values, in order of their tokens, passes a share of all of it.
    int64_t draw() {
        double total = 0.0;
        double* mass = task_.mass;
        for (int64_t b = 0; b < blocks_; ++b) {
            mass[b] = scaled(most_[b]) < edge_ ? 0.0 : mass_of_block(b, edge_);
            total += mass[b];
        }
        const double wanted = task_.uniform * total;
        double before = 0.0;
        int64_t b = 0;
        while (b + 1 < blocks_ && before + mass[b] <= wanted) before += mass[b++];
        float values[BLOCK], weights[BLOCK];
        const int64_t count = weigh(b, edge_, values, weights);
        for (int64_t i = 0; i < count; ++i) {
            const double reached = before + static_cast<double>(weights[i]);
            if (reached > wanted) {
                if (std::min(reached - wanted, wanted - before) < MARGIN * total) return UNSURE;
                return b * BLOCK + i;
            }
            before = reached;
        }
        return UNSURE;
    }

    const Choosing& task_;
    int64_t n_, blocks_;
    float *most_, *few_;
    float highest_ = 0.0f, edge_ = 0.0f;
    int64_t kept_ = 0;
};

int64_t choose(const Choosing& task) { return Row(task).choose(); }

}  // namespace

Choices choices() { return {exponentials, choose}; }

}  // namespace LLAMERO_LEVEL
}  // namespace llamero
