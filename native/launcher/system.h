// What the launcher asks of the kernel, without a C library, so that one file runs whatever libc a machine has.
// Calls return what the kernel does: a negative number is an error (-errno).
#pragma once
#include <cstddef>
#include <cstdint>

namespace launcher {

#if defined(__x86_64__)
enum Call : long {
    READ = 0, WRITE = 1, CLOSE = 3, LSEEK = 8, MMAP = 9, MUNMAP = 11, IOCTL = 16, GETPID = 39, EXECVE = 59,
    GETEUID = 107, FSTATFS = 138, EXIT = 231, OPENAT = 257, MKDIRAT = 258, UNLINKAT = 263, RENAMEAT = 264,
    READLINKAT = 267, RENAMEAT2 = 316, STATX = 332
};

inline long call(Call number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = f;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(static_cast<long>(number)), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum Call : long {
    READ = 63, WRITE = 64, CLOSE = 57, LSEEK = 62, MMAP = 222, MUNMAP = 215, IOCTL = 29, GETPID = 172, EXECVE = 221,
    GETEUID = 175, FSTATFS = 44, EXIT = 94, OPENAT = 56, MKDIRAT = 34, UNLINKAT = 35, RENAMEAT = 38,
    READLINKAT = 78, RENAMEAT2 = 276, STATX = 291
};

inline long call(Call number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    register long x4 asm("x4") = e;
    register long x5 asm("x5") = f;
    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "the launcher knows x86-64 and aarch64"
#endif

constexpr int HERE = -100;  // AT_FDCWD: paths are relative to the working folder
constexpr int READ_ONLY = 0, WRITE_NEW = 01 | 0100 | 0200, CLOSE_ON_EXEC = 02000000;
#if defined(__x86_64__)
constexpr int FOLDER = 0200000, NO_LINK = 0400000;
#else
constexpr int FOLDER = 040000, NO_LINK = 0100000;
#endif
constexpr int REMOVE_FOLDER = 0x200;           // AT_REMOVEDIR
constexpr int NO_REPLACE = 1;                  // RENAME_NOREPLACE
constexpr long NOT_THERE = -2, NOT_KNOWN = -38, INVALID = -22;

inline long arg(const void* pointer) { return reinterpret_cast<long>(pointer); }

inline long open(int folder, const char* path, int flags, int mode = 0) {
    return call(OPENAT, folder, arg(path), flags | CLOSE_ON_EXEC, mode);
}
inline void close(long file) { call(CLOSE, file); }
inline uint32_t user() { return static_cast<uint32_t>(call(GETEUID)); }
inline long make_folder(int folder, const char* path) { return call(MKDIRAT, folder, arg(path), 0700); }
inline long remove(int folder, const char* path, int flags = 0) { return call(UNLINKAT, folder, arg(path), flags); }

inline long rename(int folder, const char* from, const char* to) {
    return call(RENAMEAT, folder, arg(from), folder, arg(to));
}
// Gives a name only if nothing has it; where kernel or file system cannot promise that, renaming a folder onto another
// that is not empty fails all the same.
inline long rename_new(int folder, const char* from, const char* to) {
    long result = call(RENAMEAT2, folder, arg(from), folder, arg(to), NO_REPLACE);
    return result == NOT_KNOWN || result == INVALID ? rename(folder, from, to) : result;
}

// The kernel's struct statx, as far as it is looked at.
struct Status {
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t links, owner, group;
    uint16_t mode, spare;
    uint64_t inode, size, rest[26];
    bool is_file() const { return (mode & 0170000) == 0100000; }
    bool is_folder() const { return (mode & 0170000) == 040000; }
};
static_assert(sizeof(Status) == 256);

inline long status(int folder, const char* path, Status& found) {
    constexpr long NOT_FOLLOWED = 0x100, EMPTY_PATH = 0x1000, BASIC = 0x7ff;
    return call(STATX, folder, arg(path), NOT_FOLLOWED | (*path ? 0 : EMPTY_PATH), BASIC, arg(&found));
}

// Whether programs may not be run from the file system of an open folder.
inline bool forbids_programs(int folder) {
    uint64_t found[16] = {};  // struct statfs: the flags are its eleventh word
    constexpr uint64_t NO_EXEC = 8;
    return call(FSTATFS, folder, arg(found)) == 0 && (found[10] & NO_EXEC);
}

inline bool is_terminal(int file) {
    char settings[64];
    constexpr long GET_SETTINGS = 0x5401;
    return call(IOCTL, file, GET_SETTINGS, arg(settings)) == 0;
}

// Fresh memory, or a file's bytes; nullptr where there are none to be had.
inline const unsigned char* map(int file, uint64_t offset, uint64_t size) {
    constexpr long READABLE = 1, PRIVATE = 2;
    long result = call(MMAP, 0, size, READABLE, PRIVATE, file, offset);
    return result < 0 && result > -4096 ? nullptr : reinterpret_cast<const unsigned char*>(result);
}
inline unsigned char* allocate(uint64_t size) {
    constexpr long READ_WRITE = 3, PRIVATE_ANONYMOUS = 0x22;
    long result = call(MMAP, 0, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
    return result < 0 && result > -4096 ? nullptr : reinterpret_cast<unsigned char*>(result);
}
inline void release(const unsigned char* memory, uint64_t size) { call(MUNMAP, arg(memory), size); }

inline long write_all(int file, const unsigned char* data, uint64_t size) {
    while (size) {
        long written = call(WRITE, file, arg(data), size);
        if (written == -4) continue;  // interrupted
        if (written <= 0) return written ? written : -28;
        data += written;
        size -= static_cast<uint64_t>(written);
    }
    return 0;
}

[[noreturn]] inline void leave(int code) {
    for (;;) call(EXIT, code);
}

}  // namespace launcher
