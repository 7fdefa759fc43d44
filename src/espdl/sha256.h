/* SHA-256 (FIPS 180-4): the digest that a PDL3 package carries. */
#ifndef ESPQ_ESPDL_SHA256_H
#define ESPQ_ESPDL_SHA256_H

#include <stddef.h>
#include <stdint.h>

void sha256(const uint8_t *data, size_t bytes, uint8_t digest[32]);

#endif
