/* A small harness for C unit tests: every tests/c/NAME.c holds TEST(...) functions; tests/c/main.c runs them all and ends with
 * one line "N passed, N failed". A test states its promise in the comment above it. */
#ifndef ESPQ_TESTS_CHECK_H
#define ESPQ_TESTS_CHECK_H

#include <stdbool.h>
#include <stdio.h>

typedef void (*TestFunction)(void);
void test_register(const char *name, const char *file, TestFunction function);
void test_failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
void test_skip(const char *why);           /* the current test says why it cannot run here */
const char *test_shared(const char *path); /* "../shared/<path>", or NULL (the test then calls test_skip) */

#define TEST(name)                                                                                                                         \
    static void name(void);                                                                                                                \
    __attribute__((constructor)) static void register_##name(void)                                                                         \
    {                                                                                                                                      \
        test_register(#name, __FILE__, name);                                                                                              \
    }                                                                                                                                      \
    static void name(void)

/* CHECK(condition, "format", …): notes a failure and goes on. REQUIRE returns from the test. */
#define CHECK(condition, ...)                                                                                                              \
    do {                                                                                                                                   \
        if (!(condition)) test_failed(__FILE__, __LINE__, __VA_ARGS__);                                                                    \
    } while (0)
#define REQUIRE(condition, ...)                                                                                                            \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            test_failed(__FILE__, __LINE__, __VA_ARGS__);                                                                                  \
            return;                                                                                                                        \
        }                                                                                                                                  \
    } while (0)

#endif
