#include "base/sha1.h"

#include <string.h>

static uint32_t rotate(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

void sha1_begin(Sha1 *sha1)
{
    *sha1 = (Sha1){.state = {0x67452301u, 0xEFCDAB89u, 0x98BADCFEu, 0x10325476u, 0xC3D2E1F0u}};
}

static void add_block(Sha1 *sha1, const uint8_t *block)
{
    uint32_t w[80];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 | (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    for (int t = 16; t < 80; t++)
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = sha1->state[0], b = sha1->state[1], c = sha1->state[2], d = sha1->state[3], e = sha1->state[4];
    for (int t = 0; t < 80; t++) {
        uint32_t mixed = t < 20   ? ((b & c) | (~b & d)) + 0x5A827999u
                         : t < 40 ? (b ^ c ^ d) + 0x6ED9EBA1u
                         : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDCu
                                  : (b ^ c ^ d) + 0xCA62C1D6u;
        uint32_t next = rotate(a, 5) + mixed + e + w[t];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    sha1->state[0] += a;
    sha1->state[1] += b;
    sha1->state[2] += c;
    sha1->state[3] += d;
    sha1->state[4] += e;
}

void sha1_add(Sha1 *sha1, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    size_t held = (size_t)(sha1->bytes % 64);
    sha1->bytes += bytes;
    while (bytes) {
        if (held == 0 && bytes >= 64) {
            add_block(sha1, from);
            from += 64;
            bytes -= 64;
            continue;
        }
        size_t part = bytes < 64 - held ? bytes : 64 - held;
        memcpy(sha1->block + held, from, part);
        from += part;
        bytes -= part;
        held += part;
        if (held == 64) {
            add_block(sha1, sha1->block);
            held = 0;
        }
    }
}

static inline uint64_t mix(uint64_t lane, uint64_t word)
{
    lane ^= word;
    return (lane << 29 | lane >> 35) * 0x9E3779B97F4A7C15u;
}

/* spread: words are multiplied by it first, an odd number. Without it (1) a bit of a word that the turn brings to the top leaves one bit in
 * the lane, which the sign of a float 32 bytes on takes away again. */
static inline void add_lanes(Sha1 *sha1, const uint8_t *from, size_t bytes, const uint64_t spread)
{
    uint64_t lanes[4] = {1, 2, 3, 4}, words[4];
    size_t at = 0;
    for (; at + sizeof words <= bytes; at += sizeof words) {
        memcpy(words, from + at, sizeof words);
        for (int i = 0; i < 4; i++)
            lanes[i] = mix(lanes[i], words[i] * spread);
    }
    sha1_add(sha1, lanes, sizeof lanes);
    if (at < bytes) sha1_add(sha1, from + at, bytes - at);
}

void sha1_add_fast(Sha1 *sha1, const void *data, size_t bytes)
{
    add_lanes(sha1, data, bytes, 1);
}

void sha1_add_content(Sha1 *sha1, const void *data, size_t bytes)
{
    add_lanes(sha1, data, bytes, 0xC2B2AE3D27D4EB4Fu);
}

void sha1_end(Sha1 *sha1, char hex[41])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = sha1->bytes * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    size_t held = (size_t)(sha1->bytes % 64);
    sha1_add(sha1, padding, held < 56 ? 56 - held : 120 - held);
    sha1_add(sha1, length, sizeof length);
    for (int i = 0; i < 40; i++)
        hex[i] = "0123456789abcdef"[sha1->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[40] = '\0';
}
