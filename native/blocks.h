// Block layouts of stored weights, byte for byte as GGUF files hold them. No functions: see kernels/codec_*.h.
// Scales named `d` and `m` are IEEE half precision bits. A block of 256 values is a superblock with 6- or 4-bit
// scales of its own, which `d` (and `dmin`) multiply.
#pragma once
#include <cstdint>

namespace llamero {

#pragma pack(push, 1)

struct BlockQ4_0 {  // d * (q - 8)
    uint16_t d;
    uint8_t q[16];  // value j low, value j + 16 high
};

struct BlockQ4_1 {  // d * q + m
    uint16_t d, m;
    uint8_t q[16];
};

struct BlockQ5_0 {  // d * (q - 16)
    uint16_t d;
    uint32_t fifth;  // bit j is the top bit of value j
    uint8_t q[16];
};

struct BlockQ5_1 {  // d * q + m
    uint16_t d, m;
    uint32_t fifth;
    uint8_t q[16];
};

struct BlockQ8_0 {  // d * q
    uint16_t d;
    int8_t q[32];
};

struct BlockQ2_K {  // d * scale * q - dmin * min, in groups of 16
    uint8_t scales[16];  // scale low, min high
    uint8_t q[64];       // 32 bytes serve 128 values, two bits for each 32
    uint16_t d, dmin;
};

struct BlockQ3_K {  // d * (scale - 32) * (q - 4), in groups of 16
    uint8_t third[32];   // bit p of byte j is the top bit of value 32 p + j
    uint8_t q[64];       // as in Q2_K
    uint8_t scales[12];  // sixteen of six bits: 8 bytes of nibbles, then 4 bytes of upper pairs
    uint16_t d;
};

struct BlockQ4_K {  // d * scale * q - dmin * min, in groups of 32
    uint16_t d, dmin;
    uint8_t scales[12];  // eight six-bit scales and eight six-bit mins, see six_bit_pairs
    uint8_t q[128];      // 32 bytes serve 64 values: 32 low nibbles, then 32 high
};

struct BlockQ5_K {  // as Q4_K with a fifth bit
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t fifth[32];  // bit p of byte j is the top bit of value 32 p + j
    uint8_t q[128];
};

struct BlockQ6_K {  // d * scale * (q - 32), in groups of 16
    uint8_t q[128];     // per half of 128 values: 64 bytes of low nibbles for the first 64, high for the others
    uint8_t upper[64];  // per half: 32 bytes, two bits for each 32 values
    int8_t scales[16];
    uint16_t d;
};

struct BlockIQ4_NL {  // d * table[q]
    uint16_t d;
    uint8_t q[16];
};

struct BlockIQ4_XS {  // d * (scale - 32) * table[q], in groups of 32
    uint16_t d;
    uint16_t scales_high;  // two bits for each group
    uint8_t scales_low[4];
    uint8_t q[128];  // 16 bytes a group, as in IQ4_NL
};

#pragma pack(pop)

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_XS) == 136);

}  // namespace llamero
