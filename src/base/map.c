#include "base/map.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

struct MapEntry {
    const char *key; /* NULL: free; a removed entry keeps its place (removed) so that later ones are found */
    void *value;
    bool removed;
};

/* FNV-1a */
static uint64_t hash_of(const char *key)
{
    uint64_t hash = 14695981039346656037u;
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 1099511628211u;
    return hash ^ hash >> 32;
}

static MapEntry *find(const Map *map, const char *key)
{
    if (!map->capacity) return NULL;
    for (size_t i = hash_of(key) & (map->capacity - 1);; i = (i + 1) & (map->capacity - 1)) {
        MapEntry *entry = &map->entries[i];
        if (!entry->key) return NULL;
        if (!entry->removed && strcmp(entry->key, key) == 0) return entry;
    }
}

static void put(Map *map, const char *key, void *value)
{
    size_t i = hash_of(key) & (map->capacity - 1);
    while (map->entries[i].key)
        i = (i + 1) & (map->capacity - 1);
    map->entries[i] = (MapEntry){key, value, false};
    map->used++;
}

static bool rehash(Map *map)
{
    size_t live = 0;
    for (size_t i = 0; i < map->capacity; i++)
        live += map->entries[i].key && !map->entries[i].removed;
    Map bigger = {0};
    bigger.capacity = 16;
    while (bigger.capacity < (live + 1) * 2)
        bigger.capacity *= 2;
    bigger.entries = memory_new_array(bigger.capacity, sizeof(MapEntry));
    if (!bigger.entries) return false;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].key && !map->entries[i].removed) put(&bigger, map->entries[i].key, map->entries[i].value);
    memory_free(map->entries);
    *map = bigger;
    return true;
}

bool map_set(Map *map, const char *key, void *value)
{
    MapEntry *entry = find(map, key);
    if (entry) {
        *entry = (MapEntry){key, value, false};
        return true;
    }
    if ((map->used + 1) * 4 > map->capacity * 3 && !rehash(map)) return false;
    put(map, key, value);
    return true;
}

void *map_get(const Map *map, const char *key)
{
    MapEntry *entry = find(map, key);
    return entry ? entry->value : NULL;
}

bool map_has(const Map *map, const char *key)
{
    return find(map, key) != NULL;
}

void map_remove(Map *map, const char *key)
{
    MapEntry *entry = find(map, key);
    if (entry) entry->removed = true;
}

void map_free(Map *map)
{
    memory_free(map->entries);
    *map = (Map){0};
}
