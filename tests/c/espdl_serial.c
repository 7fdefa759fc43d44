#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "check.h"
#include "espdl/board.h"
#include "espdl_models.h"

/* A line of the board kit with its sum. */
static void line(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(Text *text, const char *format, ...)
{
    Text body = {0};
    va_list list;
    va_start(list, format);
    text_format_list(&body, format, list);
    va_end(list);
    unsigned sum = 0;
    for (size_t i = 0; i < body.length; i++)
        sum ^= (unsigned char)body.data[i];
    text_format(text, "@%s*%02x\n", body.data, sum);
    text_free(&body);
}

/* What a board prints that computes as espq does, but for the tensors whose index is in `wrong` (a bit mask): their first byte is one more. */
static void print_run(Text *text, const BoardRun *run, unsigned wrong)
{
    line(text, "espq:begin 1 %d small", run->count - 1);
    for (int i = 0; i < run->count; i++) {
        const BoardTensor *tensor = &run->tensors[i];
        size_t bytes = tensor_bytes(tensor->tensor);
        bool bad = wrong >> i & 1;
        text_format(text, "\x1b[0;32mI (%d) app: noise\x1b[0m\r\n", i);
        line(text, "espq:t %d INT8 %d 1x2x2x%d %zu %08x %s", i, tensor->exponent, (int)tensor->tensor->shape.dims[3], bytes,
             tensor->crc ^ (bad ? 1u : 0u), tensor->name);
        if (!bad) continue;
        Text hex = {0};
        for (size_t k = 0; k < bytes; k++)
            text_format(&hex, "%02x", (uint8_t)(tensor->tensor->data[k] + (k == 0)));
        line(text, "espq:d %d 0 %s", i, hex.data);
        text_free(&hex);
    }
    line(text, "espq:end %d", run->count - 1);
}

static const char *const tables = "I (10) dl::Model: model:m, version:0\n"
                                  "\x1b[0;32mI (11) dl::Model: +----+----+\x1b[0m\n"
                                  "I (11) dl::Model: |   memory summary    |\n"
                                  "I (11) dl::Model: |                | internal RAM | PSRAM    | FLASH    |\n"
                                  "I (11) dl::Model: |  -- parameter  |              |  -- 4.00KB |        |\n"
                                  "I (11) dl::Model: | variable       | 1.25KB       | 30.50KB  |          |\n"
                                  "I (11) dl::Model: | total          | 1.25KB       | 34.50KB  |          |\n"
                                  "I (12) dl::Model: |   module summary    |\n"
                                  "I (12) dl::Model: | name | type | latency |\n"
                                  "I (12) dl::Model: | /a|b: c/Conv | Conv I (13) wifi: something | 12\n"
                                  "I (12) dl::Model: | /a|b: c/Conv | Conv | 120us  |\n"
                                  "I (12) dl::Model: | /d/Swish     | Swish | 30us  |\n"
                                  "I (12) dl::Model: | total |  | 150us |\n"
                                  "Inconsistent values, ground truth: 3.0000000000, infer: 4.0000000000, epsilon:0.0000200000\n"
                                  "E (13) dl::Model: Test output y does not match\n";

/* Promise: the runtime's tables and its self-test are found behind prefixes and colours; rows that another task cut are left out. */
TEST(profiles_are_read)
{
    Error error = {0};
    SerialLog log;
    REQUIRE(serial_read(tables, strlen(tables), "log", &log, &error), "%s", error.what);
    CHECK(log.module_count == 2 && strcmp(log.modules[0].name, "/a|b: c/Conv") == 0 && log.modules[0].amount == 120 && log.total == 150,
          "%d modules, total %g", log.module_count, log.total);
    CHECK(log.memory_count == 3 && log.memory[1].kilobytes[0] == 1.25 && log.memory[1].kilobytes[1] == 30.5 &&
              log.memory[1].kilobytes[2] < 0 && log.memory[0].kilobytes[1] == 4,
          "%d rows of memory", log.memory_count);
    CHECK(log.test_failed && strcmp(log.test_failed, "y") == 0 && log.test_values, "the self-test");
    serial_free(&log);
}

/* Promise: a run as computed is equal, the first tensor that is not is found with its first element; missing ones are said to be. */
TEST(runs_are_compared)
{
    Error error = {0};
    EspdlModel *model = small_model(true);
    BoardRun run = {0};
    REQUIRE(model && board_run(model, target_find("esp32p4"), &run, &error), "%s: %s", error.where, error.what);
    REQUIRE(run.count == 3, "%d tensors", run.count);
    for (unsigned wrong = 0; wrong < 8; wrong++) {
        Text text = {0};
        SerialLog log;
        BoardRow *rows = NULL;
        print_run(&text, &run, wrong);
        REQUIRE(serial_read(text.data, text.length, "log", &log, &error) && board_compare(&run, &log, &rows, &error), "%s", error.what);
        CHECK(log.ended && log.damaged == 0, "%lld damaged", (long long)log.damaged);
        for (int i = 0; i < run.count; i++) {
            bool bad = wrong >> i & 1;
            CHECK(rows[i].state == (bad ? BOARD_DIFFERS : BOARD_EQUAL), "tensor %d of %x: state %d, %s", i, wrong, (int)rows[i].state,
                  rows[i].what ? rows[i].what : "");
            CHECK(!bad || (rows[i].first == 0 && rows[i].differing == 1 && (int8_t)(rows[i].found - rows[i].wanted) == 1), "its numbers");
        }
        memory_free(rows);
        serial_free(&log);
        text_free(&text);
    }
    board_run_free(&run);
    espdl_model_free(model);
}

/* Promise: a log cut anywhere or with any byte changed is read without harm, its damaged lines counted; nothing leaks. */
TEST(damaged_logs_do_no_harm)
{
    Error error = {0};
    EspdlModel *model = small_model(true);
    BoardRun run = {0};
    REQUIRE(model && board_run(model, target_find("esp32p4"), &run, &error), "%s", error.what);
    Text text = {0};
    print_run(&text, &run, 7);
    text_add(&text, tables);
    long before = fault_blocks();
    for (size_t at = 0; at < text.length; at++) {
        for (int how = 0; how < 3; how++) {
            char *copy = memory_new(text.length + 1);
            memcpy(copy, text.data, text.length);
            if (how) copy[at] ^= how == 1 ? 1 : '\n' ^ 0x20;
            SerialLog log;
            BoardRow *rows = NULL;
            Error said = {0};
            if (serial_read(copy, how ? text.length : at, "log", &log, &said)) {
                CHECK(board_compare(&run, &log, &rows, &said), "%s", said.what);
                memory_free(rows);
                serial_free(&log);
            } else {
                CHECK(*said.what && *said.cure, "refused without a word");
            }
            memory_free(copy);
        }
    }
    CHECK(fault_blocks() == before, "blocks leak");
    text_free(&text);
    board_run_free(&run);
    espdl_model_free(model);
}

/* Promise: a log with nothing of ours in it is refused, saying what is wanted. */
TEST(a_foreign_log_is_refused)
{
    Error error = {0};
    SerialLog log;
    const char *text = "I (1) boot: hello\n@espq:t 0 INT8 0 1 1 00000000 x*00\n";
    CHECK(!serial_read(text, strlen(text), "log", &log, &error) && strstr(error.what, "1 of them damaged") &&
              strstr(error.cure, "boardkit"),
          "%s", error.what);
}
