#include "exec/memo.h"

#include <string.h>

#include "base/map.h"
#include "base/memory.h"

typedef struct Entry Entry;
struct Entry {
    Name name;
    Tensor *tensor;
    Entry *newer, *older;
};

struct Memo {
    size_t limit, bytes;
    Map entries;
    Entry *newest, *oldest;
};

/* What an entry costs beside its numbers. */
#define ENTRY_BYTES (sizeof(Entry) + sizeof(Tensor) + 64)

static size_t entry_bytes(const Tensor *tensor)
{
    return tensor_bytes(tensor) + ENTRY_BYTES;
}

Memo *memo_new(size_t limit, Error *error)
{
    Memo *memo = memory_new(sizeof *memo);
    if (!memo)
        fail_memory(error, sizeof *memo);
    else
        memo->limit = limit;
    return memo;
}

static void unlink_entry(Memo *memo, Entry *entry)
{
    *(entry->newer ? &entry->newer->older : &memo->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &memo->oldest) = entry->newer;
}

static void link_newest(Memo *memo, Entry *entry)
{
    entry->newer = NULL;
    entry->older = memo->newest;
    *(memo->newest ? &memo->newest->newer : &memo->oldest) = entry;
    memo->newest = entry;
}

static void drop_oldest(Memo *memo)
{
    Entry *entry = memo->oldest;
    unlink_entry(memo, entry);
    map_remove(&memo->entries, entry->name.hex);
    memo->bytes -= entry_bytes(entry->tensor);
    tensor_release(entry->tensor);
    memory_free(entry);
}

void memo_free(Memo *memo)
{
    if (!memo) return;
    while (memo->oldest)
        drop_oldest(memo);
    map_free(&memo->entries);
    memory_free(memo);
}

size_t memo_limit(const Memo *memo)
{
    return memo->limit;
}

Tensor *memo_find(Memo *memo, const Name *name)
{
    Entry *entry = name->hex[0] ? map_get(&memo->entries, name->hex) : NULL;
    if (!entry) return NULL;
    unlink_entry(memo, entry);
    link_newest(memo, entry);
    return tensor_retain(entry->tensor);
}

void memo_keep(Memo *memo, const Name *name, Tensor *tensor)
{
    size_t bytes = entry_bytes(tensor);
    if (!name->hex[0] || bytes > memo->limit || map_has(&memo->entries, name->hex)) return;
    Entry *entry = memory_new(sizeof *entry);
    if (!entry) return;
    entry->name = *name;
    while (memo->bytes + bytes > memo->limit)
        drop_oldest(memo);
    if (!map_set(&memo->entries, entry->name.hex, entry)) {
        memory_free(entry);
        return;
    }
    entry->tensor = tensor_retain(tensor);
    memo->bytes += bytes;
    link_newest(memo, entry);
}
