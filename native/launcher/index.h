// The list of an engine's files: for each, in the order of their bytes, its size (8 bytes), whether it is a program
// (1), the length of its path (1), and the path. Every path is checked to stay below the folder it is written to.
#pragma once
#include "text.h"

namespace launcher {

struct Entry {
    uint64_t size;
    bool program;
    Text path;  // relative, of plain names with '/' between
};

class Index {
public:
    Index(const unsigned char* data, uint64_t size) : data_(data), size_(size) {}

    // The next file; false at the end, or at something wrong: `whole` tells which.
    bool next(Entry& entry) {
        if (size_ - at_ < 10) return false;
        const unsigned char* from = data_ + at_;
        entry.size = 0;
        for (int i = 7; i >= 0; --i) entry.size = entry.size << 8 | from[i];
        entry.program = from[8];
        size_t length = from[9];
        if (length > size_ - at_ - 10 || !is_plain(from + 10, length)) return false;
        entry.path = Text();
        entry.path.add(reinterpret_cast<const char*>(from) + 10, length);
        at_ += 10 + length;
        return true;
    }
    bool whole() const { return at_ == size_; }

private:
    static bool is_plain(const unsigned char* path, size_t length) {
        size_t start = 0;
        for (size_t i = 0; i <= length; ++i) {
            if (i < length && path[i] != '/') {
                if (!path[i]) return false;
                continue;
            }
            size_t name = i - start;
            if (!name || (path[start] == '.' && (name == 1 || (name == 2 && path[start + 1] == '.')))) return false;
            start = i + 1;
        }
        return true;
    }

    const unsigned char* data_;
    uint64_t size_, at_ = 0;
};

}  // namespace launcher
