/* Text → pointer. Keys are not copied: they must live as long as the map (an arena's texts do). Iteration is not offered,
 * so that nothing can depend on the order of hashes. */
#ifndef ESPQ_BASE_MAP_H
#define ESPQ_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct MapEntry MapEntry;
typedef struct Map {
    MapEntry *entries;
    size_t capacity, used;
} Map; /* all zero: empty */

bool map_set(Map *map, const char *key, void *value); /* false when memory ends; replaces an equal key */
void *map_get(const Map *map, const char *key);       /* NULL when absent */
bool map_has(const Map *map, const char *key);
void map_remove(Map *map, const char *key);
void map_free(Map *map);

#endif
