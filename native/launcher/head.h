// What a bundle says of itself, at a fixed place behind the launcher. Nothing is believed before it is checked: see
// "Bundles" in docs/formats.md.
#pragma once
#include "sha256.h"
#include "system.h"

namespace launcher {

constexpr uint64_t HEAD_AT = 65536, HEAD_SIZE = 256, PAGE = 65536;
constexpr uint64_t MOST_UNPACKED = uint64_t(1) << 31;  // bytes of an engine
constexpr char MAGIC[] = "llamero bundle\n";           // 16 bytes with the 0

struct Head {
    char magic[16];
    uint32_t version, zero;
    uint64_t total;                                   // bytes of the whole file
    uint64_t launcher;                                // bytes of the launcher, from the file's beginning
    uint64_t engine_at, engine, index, unpacked;      // the engine: an index, then packed files
    uint64_t manifest_at, manifest;                   // JSON
    unsigned char engine_digest[32], manifest_digest[32], reserved[72], digest[32];

    const char* wrong(uint64_t size) const {
        for (int i = 0; i < 16; ++i)
            if (magic[i] != MAGIC[i]) return "it holds no bundle, or its head is damaged";
        const auto* bytes = reinterpret_cast<const unsigned char*>(this);
        if (!digest_of(bytes, HEAD_SIZE - 32).equals(digest)) return "its head is damaged";
        if (version != 1) return "its layout is of a version that this launcher does not know";
        if (size < total) return "it is cut short";
        if (size > total) return "something was added at its end";
        if (!inside(engine_at, engine) || !inside(manifest_at, manifest)) return "its parts lie outside";
        if (manifest_at + manifest != total) return "its parts lie elsewhere than its head says";
        if (engine_at % PAGE) return "its engine is not at a page";
        if (index > engine || unpacked > MOST_UNPACKED) return "its engine cannot be of that size";
        return nullptr;
    }

private:
    bool inside(uint64_t at, uint64_t size) const {
        return at >= HEAD_AT + HEAD_SIZE && at <= total && size <= total - at;
    }
};
static_assert(sizeof(Head) == HEAD_SIZE);

}  // namespace launcher
