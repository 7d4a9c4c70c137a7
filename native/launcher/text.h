// Text of a bounded length, put together piece by piece. What does not fit is noticed, not cut silently.
#pragma once
#include "system.h"

namespace launcher {

inline size_t length(const char* text) {
    size_t n = 0;
    while (text[n]) ++n;
    return n;
}

inline bool starts_with(const char* text, const char* start) {
    while (*start)
        if (*text++ != *start++) return false;
    return true;
}

class Text {
public:
    Text() = default;
    explicit Text(const char* text) { add(text); }

    Text& add(const char* text, size_t size) {
        if (size >= sizeof bytes_ - size_) {
            fits_ = false;
            return *this;
        }
        for (size_t i = 0; i < size; ++i) bytes_[size_ + i] = text[i];
        size_ += size;
        bytes_[size_] = 0;
        return *this;
    }
    Text& add(const char* text) { return add(text, length(text)); }
    Text& number(uint64_t value) {
        char digits[20];
        size_t n = 0;
        do digits[n++] = static_cast<char>('0' + value % 10);
        while (value /= 10);
        while (n) add(&digits[--n], 1);
        return *this;
    }
    Text& hex(const unsigned char* bytes, size_t size) {
        for (size_t i = 0; i < size; ++i) {
            add(&"0123456789abcdef"[bytes[i] >> 4], 1);
            add(&"0123456789abcdef"[bytes[i] & 15], 1);
        }
        return *this;
    }
    const char* get() const { return bytes_; }
    size_t size() const { return size_; }
    bool fits() const { return fits_; }
    bool has(char wanted) const {
        for (size_t i = 0; i < size_; ++i)
            if (bytes_[i] == wanted) return true;
        return false;
    }
    // Lets go of everything from the last '/' on; false where there is none.
    bool cut() {
        while (size_ && bytes_[size_ - 1] != '/') --size_;
        if (!size_) return false;
        bytes_[--size_] = 0;
        return true;
    }
    void say(int file) const { write_all(file, reinterpret_cast<const unsigned char*>(bytes_), size_); }

private:
    char bytes_[4096] = {};
    size_t size_ = 0;
    bool fits_ = true;
};

}  // namespace launcher
