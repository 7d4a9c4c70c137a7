// Rows of floats, bfloats or halves, read and written as vectors of floats.
#pragma once
#include "rowvec.h"

namespace llamero {
namespace LLAMERO_LEVEL {
namespace {

// In bytes, since a file's rows may begin at odd addresses.
struct BFloat {
    uint8_t bits[2];
};

struct Half {
    uint8_t bits[2];
};

inline vf get(const float* p) { return load(p); }
inline vf get(const BFloat* p) { return (vf)(__builtin_convertvector(load_as<vh>(p), vu) << 16); }
inline vf get(const Half* p) { return from_half(reinterpret_cast<const uint16_t*>(p)); }

inline void put(float* p, vf v) { store(p, v); }
// To nearest even; NaN stays NaN.
inline void put(BFloat* p, vf v) {
    const vu bits = (vu)v, nan = (vu)(v != v);
    const vu rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const vh out = __builtin_convertvector((nan & (bits >> 16 | 0x40u)) | (~nan & rounded), vh);
    memcpy(p, &out, sizeof out);
}

// A whole vector, or the first n lanes of one and zeros after them.
struct Whole {
    template <class T>
    vf get(const T* p) const {
        return LLAMERO_LEVEL::get(p);
    }
    template <class T>
    void put(T* p, vf v) const {
        LLAMERO_LEVEL::put(p, v);
    }
};

struct Part {
    int64_t n;
    template <class T>
    vf get(const T* p) const {
        T lanes[W] = {};
        memcpy(lanes, p, sizeof(T) * static_cast<size_t>(n));
        return LLAMERO_LEVEL::get(lanes);
    }
    template <class T>
    void put(T* p, vf v) const {
        T lanes[W];
        LLAMERO_LEVEL::put(lanes, v);
        memcpy(p, lanes, sizeof(T) * static_cast<size_t>(n));
    }
};

// f(i, Whole) for every whole vector of `count` values and f(i, Part) for what is left.
template <class F>
inline __attribute__((always_inline)) void over(int64_t count, const F& f) {
    int64_t i = 0;
    for (; i + W <= count; i += W) f(i, Whole());
    if (i < count) f(i, Part{count - i});
}

}  // namespace
}  // namespace LLAMERO_LEVEL
}  // namespace llamero
