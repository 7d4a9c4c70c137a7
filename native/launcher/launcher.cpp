// The program at the front of a bundle: checks the file that it is part of, unpacks the engine where it is not unpacked
// yet, and starts it with the loader and the C library from inside. It uses no library itself.
#include "head.h"
#include "store.h"

namespace launcher {
namespace {

struct Environment {
    char** words;
    // The value of a variable, or nullptr where it is not set or empty.
    const char* get(const char* name) const {
        for (char** word = words; *word; ++word)
            if (starts_with(*word, name) && (*word)[length(name)] == '=' && (*word)[length(name) + 1])
                return *word + length(name) + 1;
        return nullptr;
    }
    // Takes out what would put strange libraries into the engine.
    void clean() {
        char** kept = words;
        for (char** word = words; *word; ++word)
            if (!starts_with(*word, "LD_")) *kept++ = *word;
        *kept = nullptr;
    }
};

const char* program_name(char** words) {
    const char* name = words[0] ? words[0] : "bundle";
    for (const char* at = name; *at; ++at)
        if (*at == '/' && at[1]) name = at + 1;
    return name;
}

class Launcher {
public:
    // chance: 16 random bytes.
    Launcher(char** words, Environment environment, const char* started_as, const unsigned char* chance)
        : words_(words), environment_(environment), own_path_(started_as) {
        mark_.number(static_cast<uint64_t>(call(GETPID))).add(".").hex(chance, 8);
    }

    [[noreturn]] void run() {
        open_self();
        Status root;
        if (status(HERE, "/", root)) fail("the kernel refuses it a call, statx", "use Linux 4.11 or later");
        index_ = map(file_, head_.engine_at, head_.index);
        if (head_.index && !index_) fail("it cannot be mapped into memory");
        check_index();
        find_stores();
        for (int i = 0; i < count_; ++i)
            if (stores_[i].holds(index_, head_.index)) start(stores_[i]);
        unpack();
        for (int i = 0; i < count_; ++i)
            if (stores_[i].fill(index_, head_.index, unpacked_)) start(stores_[i]);
        complain();
    }

private:
    [[noreturn]] void fail(const char* what, const char* advice = "fetch or make it again") {
        Text message(program_name(words_));
        message.add(": ").add(own_path_.get()).add(": ").add(what).add("; ").add(advice).add("\n").say(2);
        leave(1);
    }

    void open_self() {
        char path[4000];
        long size = call(READLINKAT, HERE, arg("/proc/self/exe"), arg(path), sizeof path);
        if (size > 0 && size < static_cast<long>(sizeof path)) {
            own_path_ = Text();
            own_path_.add(path, static_cast<size_t>(size));
        }
        file_ = static_cast<int>(open(HERE, "/proc/self/exe", READ_ONLY));
        if (file_ < 0) file_ = static_cast<int>(open(HERE, own_path_.get(), READ_ONLY));
        if (file_ < 0) fail("it cannot be read", "give it the right to be read (chmod +r), and mount /proc");
        constexpr long FROM_START = 0, FROM_END = 2;
        long total = call(LSEEK, file_, 0, FROM_END);
        auto* to = reinterpret_cast<unsigned char*>(&head_);
        call(LSEEK, file_, HEAD_AT, FROM_START);
        for (size_t done = 0; done < HEAD_SIZE;) {
            long got = call(READ, file_, arg(to + done), static_cast<long>(HEAD_SIZE - done));
            if (got <= 0) fail("it is cut short, or holds no bundle");
            done += static_cast<size_t>(got);
        }
        const char* wrong = head_.wrong(static_cast<uint64_t>(total));
        if (!wrong) return;
        Text what(wrong);
        if (static_cast<uint64_t>(total) != head_.total && starts_with(head_.magic, MAGIC))
            what.add(" (it has ").number(static_cast<uint64_t>(total)).add(" bytes, of ").number(head_.total).add(")");
        fail(what.get());
    }

    void check_index() {
        Index files(index_, head_.index);
        uint64_t sum = 0;
        for (Entry entry; files.next(entry);) {
            if (entry.size > head_.unpacked - sum) fail("the list of its engine's files is damaged");
            sum += entry.size;
        }
        if (!files.whole() || sum != head_.unpacked) fail("the list of its engine's files is damaged");
    }

    void find_stores() {
        Text shared("/llamero-");
        shared.number(user());
        const char *cache = environment_.get("XDG_CACHE_HOME"), *home = environment_.get("HOME");
        if (cache && !is_anothers(cache)) add(cache, "/llamero", false);
        if (home && !is_anothers(home)) add(home, "/.cache/llamero", false);
        const char* folders[] = {environment_.get("TMPDIR"), "/tmp", "/var/tmp", "/dev/shm"};
        for (const char* folder : folders) add(folder, shared.get(), true);
    }

    // Whether a folder is another user's, as HOME may be under sudo: who owns it could change what is put there.
    static bool is_anothers(const char* folder) {
        long file = open(HERE, folder, FOLDER);
        if (file < 0) return false;
        Status found;
        bool others = status(static_cast<int>(file), "", found) || (found.owner && found.owner != user());
        close(file);
        return others;
    }

    void add(const char* base, const char* below, bool shared) {
        if (!base || *base != '/') return;
        Text folder(base);
        folder.add(below);
        stores_[count_++] = Store(folder, shared, head_.engine_digest, mark_);
    }

    void unpack() {
        const unsigned char* engine = map(file_, head_.engine_at, head_.engine);
        if (!engine) fail("its engine cannot be mapped into memory");
        if (!digest_of(engine, head_.engine).equals(head_.engine_digest)) fail("its engine is damaged");
        unpacked_ = allocate(head_.unpacked + 1);
        auto* inflater = reinterpret_cast<Inflater*>(allocate(sizeof(Inflater)));
        if (!unpacked_ || !inflater) fail("there is no memory to unpack its engine", "free some");
        if (is_terminal(2)) {
            Text message(program_name(words_));
            message.add(": unpacking the engine, ").number(head_.unpacked >> 20).add(" MB, this once\n").say(2);
        }
        if (!inflater->run(engine + head_.index, head_.engine - head_.index, unpacked_, head_.unpacked))
            fail("its engine does not unpack");
    }

    // Gives this process to the engine. Comes back only where the kernel refuses.
    void start(const Store& store) {
        Text root = store.path(), loader = root, libraries = root, python = root, script = root;
        loader.add("/lib/loader");
        libraries.add("/lib");
        python.add("/bin/python3");
        script.add("/start.py");
        int given = 0;
        while (words_[given]) ++given;
        const char* before[] = {words_[0] ? words_[0] : "bundle", "--inhibit-cache", "--library-path", libraries.get(),
                                python.get(), "-I", "-S", "-B", "-X", "utf8", script.get(), own_path_.get()};
        constexpr int FIXED = sizeof before / sizeof *before;
        auto** all = reinterpret_cast<const char**>(allocate(static_cast<uint64_t>(FIXED + given + 1) * sizeof(char*)));
        if (!all) return;
        for (int i = 0; i < FIXED; ++i) all[i] = before[i];
        for (int i = 1; i < given; ++i) all[FIXED + i - 1] = words_[i];
        environment_.clean();
        call(EXECVE, arg(loader.get()), arg(all), arg(environment_.words));
    }

    [[noreturn]] void complain() {
        Text message(program_name(words_));
        message.add(": the engine must be unpacked once, and there is no place for it:\n").say(2);
        for (int i = 0; i < count_; ++i) {
            Text line("  ");
            line.add(stores_[i].path().get()).add(": ");
            line.add(stores_[i].wrong() ? stores_[i].wrong() : "it does not start from there").add("\n").say(2);
        }
        Text("set XDG_CACHE_HOME to a folder that you may write, and run programs from\n").say(2);
        leave(1);
    }

    static constexpr int MOST_STORES = 6;
    char** words_;
    Environment environment_;
    Text own_path_, mark_;
    Head head_;
    int file_ = -1, count_ = 0;
    const unsigned char* index_ = nullptr;
    unsigned char* unpacked_ = nullptr;
    Store stores_[MOST_STORES];
};

}  // namespace
}  // namespace launcher

// The compiler may call these for its own copies.
extern "C" void* memcpy(void* to, const void* from, size_t size) {
    for (size_t i = 0; i < size; ++i) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
    return to;
}
extern "C" void* memmove(void* to, const void* from, size_t size) {
    if (to <= from) return memcpy(to, from, size);
    while (size--) static_cast<char*>(to)[size] = static_cast<const char*>(from)[size];
    return to;
}
extern "C" void* memset(void* to, int value, size_t size) {
    for (size_t i = 0; i < size; ++i) static_cast<char*>(to)[i] = static_cast<char>(value);
    return to;
}

// stack: what the kernel leaves there: the number of words, the words, 0, the environment, 0, pairs about the process.
extern "C" [[noreturn]] void launch(long* stack) {
    char** words = reinterpret_cast<char**>(stack + 1);
    char** environment = words + stack[0] + 1;
    char** end = environment;
    while (*end) ++end;
    const char* started_as = words[0] ? words[0] : "";
    const unsigned char none[16] = {}, *chance = none;
    constexpr long RANDOM_BYTES = 25, EXECUTED_FILE = 31;
    for (long* pair = reinterpret_cast<long*>(end + 1); pair[0]; pair += 2) {
        if (pair[0] == EXECUTED_FILE) started_as = reinterpret_cast<const char*>(pair[1]);
        if (pair[0] == RANDOM_BYTES) chance = reinterpret_cast<const unsigned char*>(pair[1]);
    }
    launcher::Launcher(words, {environment}, started_as, chance).run();
}

#if defined(__x86_64__)
asm(".text\n.global _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call launch\n");
#else
asm(".text\n.global _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n bl launch\n");
#endif
