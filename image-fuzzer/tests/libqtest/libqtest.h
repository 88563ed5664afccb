/*
 * The functions of QEMU's libqtest and of GLib that tests of findings call, with their types, for
 * a compiler that looks at such a test where neither is installed.
 */

#ifndef LIBQTEST_H
#define LIBQTEST_H

struct QTestState;
struct QDict;
typedef struct QTestState QTestState;
typedef struct QDict QDict;

/* What takes a format as printf(3) does. */
#define FORMATTED(type, name)                                                                     \
    type name(QTestState *, const char *, ...) __attribute__((format(printf, 2, 3)))

/* Accesses of each width. */
#define PORT(letter, type)                                                                         \
    type qtest_in##letter(QTestState *, uint16_t);                                                 \
    void qtest_out##letter(QTestState *, uint16_t, type)
#define MEMORY(letter, type)                                                                       \
    type qtest_read##letter(QTestState *, uint64_t);                                               \
    void qtest_write##letter(QTestState *, uint64_t, type)

PORT(b, uint8_t);
PORT(w, uint16_t);
PORT(l, uint32_t);
MEMORY(b, uint8_t);
MEMORY(w, uint16_t);
MEMORY(l, uint32_t);
MEMORY(q, uint64_t);

/* Blocks of memory. */
void qtest_bufread(QTestState *, uint64_t, void *, size_t), qtest_bufwrite(QTestState *, uint64_t, const void *, size_t);
void qtest_memset(QTestState *, uint64_t, uint8_t, size_t);

/* The machine and its monitor. */
QTestState *qtest_init(const char *);
void qtest_quit(QTestState *), qtest_system_reset(QTestState *);
FORMATTED(QDict *, qtest_qmp);
FORMATTED(char *, qtest_hmp);
int64_t qtest_clock_step_next(QTestState *), qtest_clock_step(QTestState *, int64_t);
void qtest_irq_intercept_in(QTestState *, const char *), qtest_irq_intercept_out(QTestState *, const char *);
bool qtest_big_endian(QTestState *);
void qtest_add_func(const char *, void (*)(void));

/* Of QObject and GLib. */
void qobject_unref(QDict *);
void g_test_init(int *, char ***, ...);
int g_test_run(void);
void *g_malloc(size_t);
void g_free(void *);

#endif
