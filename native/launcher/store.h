// Where unpacked engines are kept: a private folder for each, named by the hash of what it holds. A folder gets its
// name only when all is in it: two first runs at once do not disturb each other, one that was killed leaves no half.
#pragma once
#include "head.h"
#include "index.h"
#include "inflate.h"

namespace launcher {

class Store {
public:
    Store() = default;
    // base: a folder, made if its parent is there or can be. shared: others may write beside it, as in /tmp. digest: of
    // the engine. mark: of this process, like no other's, on whatever machine or in whatever container.
    Store(const Text& base, bool shared, const unsigned char* digest, const Text& mark)
        : folder_(base), mark_(mark), shared_(shared) {
        folder_.add("/engines");
        name_.hex(digest, 16);
    }

    const char* wrong() const { return wrong_; }
    // The path of the engine's folder.
    Text path() const {
        Text path = folder_;
        return path.add("/").add(name_.get(), name_.size());
    }

    // Whether the engine is there, with every file in its full size.
    bool holds(const unsigned char* index, uint64_t size) {
        wrong_ = nullptr;
        if (folder_.has(':') || folder_.has(';') || folder_.has('$') || !path().fits())  // the loader reads these
            return refuse("its name has a character that cannot be in a list of folders, or is too long");
        long folder = opened(false);
        if (folder < 0) return false;
        long engine = open(static_cast<int>(folder), name_.get(), FOLDER | NO_LINK);
        close(folder);
        if (engine < 0) return false;
        bool good = is_ours(static_cast<int>(engine)) && !forbids_programs(static_cast<int>(engine));
        Index files(index, size);
        for (Entry entry; good && files.next(entry);) {
            Status found;
            good = !status(static_cast<int>(engine), entry.path.get(), found) && found.is_file();
            good = good && found.size == entry.size;
        }
        close(engine);
        return good;
    }

    // Writes the engine, from its unpacked bytes. False, and `wrong` says why, where that cannot be.
    bool fill(const unsigned char* index, uint64_t size, const unsigned char* bytes) {
        if (wrong_) return false;
        long folder = opened(true);
        if (folder < 0) return wrong_ ? false : refuse("it cannot be made or written");
        Text partial = marked(".new");
        bool good = written(static_cast<int>(folder), partial, index, size, bytes) &&
                    placed(static_cast<int>(folder), partial, index, size);
        if (!good) clear(static_cast<int>(folder), partial.get(), index, size);
        close(folder);
        const char* why = wrong_;
        if (good || holds(index, size)) return true;  // or another process was first
        return refuse(why);
    }

private:
    bool refuse(const char* why) {
        wrong_ = why;
        return false;
    }

    // The name of a folder that this process alone uses for a while.
    Text marked(const char* ending) const {
        Text name(".");
        return name.add(name_.get(), name_.size()).add(".").add(mark_.get(), mark_.size()).add(ending);
    }

    // The folder of engines, open, or a negative number; `make` makes what is missing.
    long opened(bool make) {
        Text base = folder_;
        base.cut();
        if (make) {
            Text parent = base;
            if (parent.cut() && parent.size() && !shared_) make_folder(HERE, parent.get());  // such as ~/.cache
            make_folder(HERE, base.get());
        }
        long outer = open(HERE, base.get(), FOLDER | (shared_ ? NO_LINK : 0));
        if (outer < 0) return outer;
        if (shared_ && !is_ours(static_cast<int>(outer))) {
            close(outer);
            refuse("it belongs to somebody else, or others may write there");
            return -1;
        }
        if (make) make_folder(static_cast<int>(outer), "engines");
        long folder = open(static_cast<int>(outer), "engines", FOLDER | NO_LINK);
        close(outer);
        if (folder < 0) return folder;
        if (!is_ours(static_cast<int>(folder)))
            refuse("it belongs to somebody else, or others may write there");
        else if (forbids_programs(static_cast<int>(folder)))
            refuse("programs may not be run from there (mounted noexec)");
        else
            return folder;
        close(folder);
        return -1;
    }

    static bool is_ours(int folder) {
        Status found;
        constexpr uint16_t OTHERS_WRITE = 022;
        if (status(folder, "", found) || !found.is_folder() || found.mode & OTHERS_WRITE) return false;
        return found.owner == 0 || found.owner == user();
    }

    bool written(int folder, const Text& partial, const unsigned char* index, uint64_t size,
                 const unsigned char* bytes) {
        if (make_folder(folder, partial.get()) < 0) return refuse("it cannot be written");
        long root = open(folder, partial.get(), FOLDER | NO_LINK);
        if (root < 0) return refuse("it cannot be read");
        Index files(index, size);
        bool good = true;
        for (Entry entry; good && files.next(entry); bytes += entry.size)
            good = write(static_cast<int>(root), entry, bytes);
        close(root);
        return good || refuse("there is no room, or it cannot be written");
    }

    static bool write(int root, const Entry& entry, const unsigned char* bytes) {
        long file = create(root, entry);
        if (file == NOT_THERE) {  // the first file of its folder
            Text above;
            for (size_t i = 0; i < entry.path.size(); ++i) {
                if (entry.path.get()[i] == '/') make_folder(root, above.get());
                above.add(entry.path.get() + i, 1);
            }
            file = create(root, entry);
        }
        if (file < 0) return false;
        long result = write_all(static_cast<int>(file), bytes, entry.size);
        close(file);
        return result == 0;
    }

    static long create(int root, const Entry& entry) {
        return open(root, entry.path.get(), WRITE_NEW | NO_LINK, entry.program ? 0500 : 0400);
    }

    // Gives the finished folder its name. A damaged engine of that name is moved out of the way: who runs it keeps it.
    bool placed(int folder, const Text& partial, const unsigned char* index, uint64_t size) {
        if (rename_new(folder, partial.get(), name_.get()) == 0) return true;
        if (holds(index, size)) return false;
        Text old = marked(".old");
        rename(folder, name_.get(), old.get());
        bool good = rename_new(folder, partial.get(), name_.get()) == 0;
        clear(folder, old.get(), index, size);
        return good || refuse("a damaged engine there cannot be replaced");
    }

    // Removes a folder of an engine, as far as it holds nothing else.
    static void clear(int folder, const char* name, const unsigned char* index, uint64_t size) {
        long root = open(folder, name, FOLDER | NO_LINK);
        if (root < 0) return;
        Index files(index, size);
        for (Entry entry; files.next(entry);) remove(static_cast<int>(root), entry.path.get());
        // A folder goes once all below it is gone, which may be one round later.
        for (int depth = 0; depth < 8; ++depth) {
            Index again(index, size);
            for (Entry entry; again.next(entry);)
                while (entry.path.cut())
                    if (remove(static_cast<int>(root), entry.path.get(), REMOVE_FOLDER) < 0) break;
        }
        close(root);
        remove(folder, name, REMOVE_FOLDER);
    }

    Text folder_, name_, mark_;
    bool shared_ = false;
    const char* wrong_ = nullptr;
};

}  // namespace launcher
