/* SHA-1 (FIPS 180-4): names of contents, not a safeguard. Trials of a search are called by it, and states that are equal. */
#ifndef ESPQ_BASE_SHA1_H
#define ESPQ_BASE_SHA1_H

#include <stddef.h>
#include <stdint.h>

typedef struct Sha1 {
    uint32_t state[5];
    uint64_t bytes;
    uint8_t block[64];
} Sha1;

void sha1_begin(Sha1 *sha1);
void sha1_add(Sha1 *sha1, const void *data, size_t bytes);
/* The same for megabytes, at the speed of memory: four lanes of 64 bits take the bytes, SHA-1 takes the lanes. Another name than sha1_add's.
 * fast: finds damage (the checksum of .native files, which fixes it). content: tells numbers apart that differ in few bits. */
void sha1_add_fast(Sha1 *sha1, const void *data, size_t bytes);
void sha1_add_content(Sha1 *sha1, const void *data, size_t bytes);
void sha1_end(Sha1 *sha1, char hex[41]); /* lower case, with its NUL */

#endif
