// Low-rank changes of products: all of them narrow their rows at once, then all widen.
#include <stdexcept>

#include "machine.h"

namespace llamero {

namespace {

// Rough costs in nanoseconds on one core, only to decide what is worth sharing out.
constexpr double MULTIPLY = 0.05;  // to multiply and add once, loads included
constexpr double PIECE = 2500;     // work that is worth a thread's claim
constexpr double ALONE = 5000;     // work that is done before another thread has woken
constexpr int64_t ROWS = 16;       // of one piece
constexpr int64_t RANKS = 4;       // the least of one piece that narrows
constexpr int64_t COLUMNS = 256;   // the least of one piece that widens

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("add_low_rank: " + what); }

bool floats(Type type) { return type == Type::F32 || type == Type::F16 || type == Type::BF16; }

void check(const Array& x, const Machine::Change& change) {
    const Matrix &a = *change.a, &b = *change.b;
    if (!floats(a.type) || a.type != b.type) refuse("a and b must be floats of one type");
    if (a.k != x.cols() || b.rows != a.rows || b.k != change.y->cols() || change.y->rows() != x.rows())
        refuse("x is (" + std::to_string(x.rows()) + ", " + std::to_string(x.cols()) + "), a is (" +
               std::to_string(a.rows) + ", " + std::to_string(a.k) + "), b is (" + std::to_string(b.rows) + ", " +
               std::to_string(b.k) + "), y is (" + std::to_string(change.y->rows()) + ", " +
               std::to_string(change.y->cols()) + ")");
    for (int64_t row : change.rows)
        if (row < 0 || row >= x.rows()) refuse("x has no row " + std::to_string(row));
}

// So many of `total`, a multiple of `least`, that a piece is worth a claim.
int64_t worth(int64_t total, int64_t least, double cost) {
    const int64_t wanted = static_cast<int64_t>(PIECE / cost) / least * least;
    return std::max(std::min(wanted, total), least);
}

}  // namespace

// Pieces that cut `total` ranks or columns of every change, and its rows.
void Machine::cut(const std::vector<Change>& changes, bool widening) {
    pieces_.clear();
    double work = 0;
    for (size_t c = 0; c < changes.size(); ++c) {
        const Change& change = changes[c];
        const int64_t n = static_cast<int64_t>(change.rows.size());
        const int64_t total = widening ? change.b->k : change.a->rows, other = widening ? change.b->rows : change.a->k;
        work += MULTIPLY * static_cast<double>(n * total * other);
        for (int64_t row = 0; row < n; row += ROWS) {
            const int64_t rows = std::min(ROWS, n - row);
            const int64_t step = worth(total, widening ? COLUMNS : RANKS, MULTIPLY * static_cast<double>(rows * other));
            for (int64_t begin = 0; begin < total; begin += step)
                pieces_.push_back({c, row, rows, begin, std::min(begin + step, total)});
        }
    }
    const bool shared = threads() > 1 && work > ALONE;
    run(static_cast<int64_t>(pieces_.size()), shared, [&](int, int64_t index) {
        const Piece& piece = pieces_[static_cast<size_t>(index)];
        const Change& change = changes[piece.change];
        LowRankPart part{change.a->type, change.rows.data() + piece.row, piece.rows, 0, change.a->rows, piece.begin,
                         piece.end};
        float* low = change.low + piece.row * part.rank;
        if (widening) {
            part.k = change.b->k;
            kernels_.low_rank.widen(part, low, change.b->data, change.y->data());
        } else {
            part.k = change.a->k;
            kernels_.low_rank.narrow(part, change.x, change.a->data, low);
        }
    });
}

void Machine::add_low_rank(const Array& x, std::vector<Change>& changes) {
    size_t floats = 0;
    for (const Change& change : changes) {
        check(x, change);
        floats += change.rows.size() * static_cast<size_t>(change.a->rows);
    }
    float* low = static_cast<float*>(narrow_.reserve(sizeof(float) * floats));
    for (Change& change : changes) {
        change.x = x.data();
        change.low = low;
        low += change.rows.size() * static_cast<size_t>(change.a->rows);
    }
    cut(changes, false);
    cut(changes, true);
}

}  // namespace llamero
