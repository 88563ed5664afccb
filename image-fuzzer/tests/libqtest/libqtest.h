/*
 * The functions of QEMU's libqtest and of GLib that tests of findings call, with their types, for
 * a compiler that looks at such a test where neither is installed.
 */

#ifndef LIBQTEST_H
#define LIBQTEST_H

typedef struct QTestState QTestState;
typedef struct QDict QDict;

#define FORMATTED(text, first) __attribute__((format(printf, text, first)))

QTestState *qtest_init(const char *extra_args);
void qtest_quit(QTestState *s);

QDict *qtest_qmp(QTestState *s, const char *fmt, ...) FORMATTED(2, 3);
char *qtest_hmp(QTestState *s, const char *fmt, ...) FORMATTED(2, 3);
void qtest_system_reset(QTestState *s);

uint8_t qtest_inb(QTestState *s, uint16_t addr);
uint16_t qtest_inw(QTestState *s, uint16_t addr);
uint32_t qtest_inl(QTestState *s, uint16_t addr);
void qtest_outb(QTestState *s, uint16_t addr, uint8_t value);
void qtest_outw(QTestState *s, uint16_t addr, uint16_t value);
void qtest_outl(QTestState *s, uint16_t addr, uint32_t value);

uint8_t qtest_readb(QTestState *s, uint64_t addr);
uint16_t qtest_readw(QTestState *s, uint64_t addr);
uint32_t qtest_readl(QTestState *s, uint64_t addr);
uint64_t qtest_readq(QTestState *s, uint64_t addr);
void qtest_writeb(QTestState *s, uint64_t addr, uint8_t value);
void qtest_writew(QTestState *s, uint64_t addr, uint16_t value);
void qtest_writel(QTestState *s, uint64_t addr, uint32_t value);
void qtest_writeq(QTestState *s, uint64_t addr, uint64_t value);

void qtest_bufread(QTestState *s, uint64_t addr, void *data, size_t size);
void qtest_bufwrite(QTestState *s, uint64_t addr, const void *data, size_t size);
void qtest_memset(QTestState *s, uint64_t addr, uint8_t pattern, size_t size);

int64_t qtest_clock_step_next(QTestState *s);
int64_t qtest_clock_step(QTestState *s, int64_t step);
void qtest_irq_intercept_in(QTestState *s, const char *path);
void qtest_irq_intercept_out(QTestState *s, const char *path);
bool qtest_big_endian(QTestState *s);

void qtest_add_func(const char *str, void (*fn)(void));

void qobject_unref(QDict *object);
void g_test_init(int *argc, char ***argv, ...);
int g_test_run(void);
void *g_malloc(size_t size);
void g_free(void *memory);

#endif
