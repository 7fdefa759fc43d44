/* Who owns what when Lua raises (STYLE: ask first, box first, engine apart, callbacks through one door, tell the collector).
 * Nothing is decided in this room: arguments come in, the engine works, results and errors go out. */
#ifndef ESPQ_BIND_BOX_H
#define ESPQ_BIND_BOX_H

#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

#include "base/error.h"
#include "base/text.h"
#include "tensor/tensor.h"

/* ---- boxes ---- */

typedef struct Box {
    void *object; /* NULL: empty or closed */
} Box;

/* An empty box with its metatable; the engine's object is put in afterwards with no Lua call in between. */
Box *push_box(lua_State *L, const char *type);
void *check_box(lua_State *L, int index, const char *type, const char *what); /* the object; raises on another type and on a closed box */
void *test_box(lua_State *L, int index, const char *type);                    /* NULL when it is something else */
/* A metatable with methods, __name, and __gc = __close = release. */
void make_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *metamethods, lua_CFunction release);

/* A Text that is freed whatever happens: `Text *text = push_text(L)`; finish_text replaces the box by the string. */
Text *push_text(lua_State *L);
int finish_text(lua_State *L, Text *text);

/* Memory that is freed whatever happens. */
void *push_memory(lua_State *L, size_t bytes); /* a plain userdata, zeroed */

/* ---- errors ---- */

#define ERROR_TYPE "espq.error"
static inline void error_begin(Error *error)
{
    error->code = ERROR_NONE;
    error->what[0] = error->where[0] = error->cure[0] = '\0';
}
int raise_error(lua_State *L, const Error *error); /* as an error object; the user's own one when a callback raised it */
int raise_text(lua_State *L, const char *where, const char *cure, const char *format, ...) __attribute__((format(printf, 4, 5)));
int raise_argument(lua_State *L, int index, const char *wanted); /* "…: a tensor is wanted as argument 1, this is a string" */
void open_error(lua_State *L);                                   /* leaves the table of its functions */

/* ---- arguments ---- */

int64_t check_integer(lua_State *L, int index, const char *what);
double check_number(lua_State *L, int index, const char *what);
const char *check_text(lua_State *L, int index, const char *what);
Shape check_shape(lua_State *L, int index, const char *what);                              /* a list of sizes, or one number */
int check_integers(lua_State *L, int index, int64_t *out, int capacity, const char *what); /* of a list, or one number; the count */
Dtype check_dtype(lua_State *L, int index, Dtype otherwise);                               /* nil: otherwise */
/* A table at `index` has only these fields (a NULL ends them), else an error that names the nearest; anything else is let pass. */
void check_option_names(lua_State *L, int index, const char *const *names);
bool field_boolean(lua_State *L, int table, const char *name, bool otherwise);
int64_t field_integer(lua_State *L, int table, const char *name, int64_t otherwise);
double field_number(lua_State *L, int table, const char *name, double otherwise);
const char *field_text(lua_State *L, int table, const char *name, const char *otherwise); /* lives as long as the table's field does */
void push_shape(lua_State *L, const Shape *shape);                                        /* a list that prints as [1, 3, 224, 224] */

/* ---- the collector ---- */

void account(lua_State *L, size_t bytes); /* after an object of that many bytes was boxed */

/* ---- callbacks ---- */

/* Enter Lua from inside the engine: body runs protected with the payload as its only argument (a light pointer). What it raises waits,
 * with its traceback, until the binding raises it again; the engine gets ERROR_CALLBACK. */
bool door(lua_State *L, lua_CFunction body, void *payload, Error *error);

/* The state that entered the engine last, for callbacks that come without one (passes, operators, observers of scripts). Every binding
 * function from which such a callback can come calls enter first. */
void enter(lua_State *L);
lua_State *entered(void);
/* A callback that cannot fail towards the engine (an operator's run) notes its failure; the entry function asks when the engine is back. */
void note_callback_failure(void);
bool callback_failed(Error *error); /* true once after a noted failure, and fills in error */

/* ---- the registry ---- */

void remember(lua_State *L, int index, const void *pointer); /* a weak link from an engine object to its userdata */
void push_remembered(lua_State *L, const void *pointer);     /* the userdata, nil when it is gone */
int keep(lua_State *L, int index);                           /* a reference to the value */
void push_kept(lua_State *L, int reference);
void drop(lua_State *L, int reference);

/* ---- the parts, each leaves a table on the stack ---- */

void open_tensor(lua_State *L);
void open_setting(lua_State *L);
void open_graph(lua_State *L);
void open_executor(lua_State *L);
void open_road(lua_State *L);
void open_analyse(lua_State *L);
void open_compare(lua_State *L);
void open_espdl(lua_State *L);
void open_chip(lua_State *L);
void open_train(lua_State *L);
void open_custom(lua_State *L);
void open_base(lua_State *L);
void open_system(lua_State *L);
void open_process(lua_State *L);

#endif
