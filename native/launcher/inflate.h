// Unpacks a raw deflate stream (RFC 1951) whose size is known. Whatever the bytes are, nothing outside the two buffers
// is touched: a stream that is wrong gives false.
#pragma once
#include <cstddef>
#include <cstdint>

namespace launcher {

// Bits, the lowest of a byte first. After the end come zeros, and `overrun` is true.
class Bits {
public:
    Bits(const unsigned char* data, uint64_t size) : at_(data), end_(data + size) {}

    void fill() {
        while (count_ <= 56) {
            if (at_ < end_)
                held_ |= uint64_t(*at_++) << count_;
            else
                ++missing_;
            count_ += 8;
        }
    }
    uint32_t peek(int n) const { return static_cast<uint32_t>(held_ & ((uint64_t(1) << n) - 1)); }
    void drop(int n) {
        held_ >>= n;
        count_ -= n;
    }
    uint32_t take(int n) {  // at most 16
        fill();
        uint32_t value = peek(n);
        drop(n);
        return value;
    }
    bool overrun() const { return missing_ * 8 > count_; }
    bool at_end() const { return at_ == end_ && missing_ * 8 + 7 >= count_ && !overrun(); }

    // Bytes that stand as they are, from the next whole byte on.
    bool copy(unsigned char* to, uint64_t size) {
        drop(count_ & 7);
        for (; size && count_; --size) *to++ = static_cast<unsigned char>(take_byte());
        if (overrun() || size > static_cast<uint64_t>(end_ - at_)) return false;
        for (uint64_t i = 0; i < size; ++i) to[i] = at_[i];
        at_ += size;
        return true;
    }
    void align() { drop(count_ & 7); }

private:
    uint32_t take_byte() {
        uint32_t value = peek(8);
        drop(8);
        return value;
    }
    const unsigned char *at_, *end_;
    uint64_t held_ = 0;
    int count_ = 0, missing_ = 0;
};

// A prefix code: for the next bits, the symbol and how many of them it takes.
class Code {
public:
    static constexpr int LONGEST = 15;

    // lengths of n symbols, 0 for one that is not used. False for lengths that no code has. A code may be incomplete,
    // as that of a single distance is; what it leaves open is refused when met.
    bool build(const unsigned char* lengths, int n) {
        int counts[LONGEST + 1] = {}, next[LONGEST + 2] = {};
        for (int i = 0; i < n; ++i) ++counts[lengths[i]];
        counts[0] = 0;
        bits_ = 1;
        for (int length = 1, code = 0; length <= LONGEST; ++length) {
            next[length] = code = (code + counts[length - 1]) << 1;
            if (code + counts[length] > 1 << length) return false;
            if (counts[length]) bits_ = length;
        }
        for (int i = 0; i < 1 << bits_; ++i) table_[i] = 0;
        for (int symbol = 0; symbol < n; ++symbol) {
            int length = lengths[symbol];
            if (!length) continue;
            uint32_t code = static_cast<uint32_t>(next[length]++), reversed = 0;
            for (int i = 0; i < length; ++i) reversed |= (code >> i & 1) << (length - 1 - i);
            for (uint32_t at = reversed; at < 1u << bits_; at += 1u << length)
                table_[at] = static_cast<uint16_t>(symbol << 4 | length);
        }
        return true;
    }
    // The next symbol, or -1. At least 15 bits must have been filled.
    int read(Bits& bits) const {
        uint16_t found = table_[bits.peek(bits_)];
        bits.drop(found & 15);
        return found ? found >> 4 : -1;
    }

private:
    uint16_t table_[1 << LONGEST];
    int bits_ = 1;
};

class Inflater {
public:
    // size: exactly how many bytes there must be.
    bool run(const unsigned char* from, uint64_t from_size, unsigned char* to, uint64_t size) {
        Bits bits(from, from_size);
        to_ = to, at_ = 0, size_ = size;
        for (bool last = false; !last;) {
            last = bits.take(1);
            switch (bits.take(2)) {
                case 0: if (!stored(bits)) return false; break;
                case 1: if (!fixed() || !coded(bits)) return false; break;
                case 2: if (!described(bits) || !coded(bits)) return false; break;
                default: return false;
            }
            if (bits.overrun()) return false;
        }
        return at_ == size_ && bits.at_end();
    }

private:
    bool stored(Bits& bits) {
        bits.align();
        uint32_t length = bits.take(16), complement = bits.take(16);
        if ((length ^ complement) != 0xffff || length > size_ - at_ || !bits.copy(to_ + at_, length)) return false;
        at_ += length;
        return true;
    }

    bool fixed() {
        unsigned char lengths[288];
        for (int i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        if (!symbols_.build(lengths, 288)) return false;
        for (int i = 0; i < 30; ++i) lengths[i] = 5;
        return distances_.build(lengths, 30);
    }

    bool described(Bits& bits) {
        constexpr unsigned char ORDER[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
        int symbols = 257 + static_cast<int>(bits.take(5)), distances = 1 + static_cast<int>(bits.take(5));
        int described = 4 + static_cast<int>(bits.take(4));
        if (symbols > 286 || distances > 30) return false;
        unsigned char lengths[320] = {};
        for (int i = 0; i < described; ++i) lengths[ORDER[i]] = static_cast<unsigned char>(bits.take(3));
        if (!symbols_.build(lengths, 19)) return false;
        for (int i = 0; i < 19; ++i) lengths[i] = 0;
        int total = symbols + distances;
        for (int at = 0; at < total;) {
            bits.fill();
            int symbol = symbols_.read(bits);
            if (symbol < 0 || bits.overrun()) return false;
            if (symbol < 16) {
                lengths[at++] = static_cast<unsigned char>(symbol);
                continue;
            }
            if (symbol == 16 && !at) return false;
            unsigned char value = symbol == 16 ? lengths[at - 1] : static_cast<unsigned char>(0);
            int times = static_cast<int>(symbol == 16   ? 3 + bits.take(2)
                                         : symbol == 17 ? 3 + bits.take(3)
                                                        : 11 + bits.take(7));
            if (times > total - at) return false;
            while (times--) lengths[at++] = value;
        }
        return lengths[256] && symbols_.build(lengths, symbols) && distances_.build(lengths + symbols, distances);
    }

    bool coded(Bits& bits) {
        constexpr uint16_t LENGTHS[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                          31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
        constexpr uint16_t STARTS[30] = {1,   2,   3,   4,   5,   7,   9,    13,   17,   25,
                                         33,  49,  65,  97,  129, 193, 257,  385,  513,  769,
                                         1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
        for (;;) {
            bits.fill();  // enough for a length, its distance, and what each adds: 15 + 5 + 15 + 13 bits
            int symbol = symbols_.read(bits);
            if (symbol < 0 || bits.overrun()) return false;
            if (symbol == 256) return true;
            if (symbol < 256) {
                if (at_ == size_) return false;
                to_[at_++] = static_cast<unsigned char>(symbol);
                continue;
            }
            symbol -= 257;
            if (symbol > 28) return false;
            int more = symbol < 8 || symbol == 28 ? 0 : symbol / 4 - 1;
            uint64_t length = LENGTHS[symbol] + bits.peek(more);
            bits.drop(more);
            int which = distances_.read(bits);
            if (which < 0 || which > 29) return false;
            more = which < 4 ? 0 : which / 2 - 1;
            uint64_t distance = STARTS[which] + bits.peek(more);
            bits.drop(more);
            if (distance > at_ || length > size_ - at_) return false;
            unsigned char* to = to_ + at_;
            const unsigned char* from = to - distance;
            for (uint64_t i = 0; i < length; ++i) to[i] = from[i];
            at_ += length;
        }
    }

    Code symbols_, distances_;
    unsigned char* to_ = nullptr;
    uint64_t at_ = 0, size_ = 0;
};

}  // namespace launcher
