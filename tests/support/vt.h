/* A program under test in a terminal of our own: a pseudo-terminal with libvterm behind it. Type
 * keys, wait for text, read the screen. One thread. Every wait has a limit, so that no test hangs. */
#ifndef LAYERTOP_TESTS_VT_H
#define LAYERTOP_TESTS_VT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct vt;

/* Start argv in a terminal of this size, TERM=xterm-256color and a UTF-8 locale, with `environment`
 * ("NAME=VALUE", NULL-terminated, may be NULL) added. NULL if that fails. */
struct vt *vt_start(int rows, int cols, const char *const argv[], const char *const environment[]);
/* Kill what still runs and free everything. */
void vt_free(struct vt *vt);

pid_t vt_pid(const struct vt *vt);
/* Process ids of the program's children, 0 if there is none at `index`. */
pid_t vt_child(const struct vt *vt, int index);

void vt_type(struct vt *vt, const char *keys);
void vt_resize(struct vt *vt, int rows, int cols);
/* Close our end, as a lost connection does. */
void vt_hang_up(struct vt *vt);

/* Read what the program writes for so long. */
void vt_pump(struct vt *vt, int milliseconds);
/* Read until the screen holds text that matches the extended regular expression. False when the
 * time is up. */
bool vt_wait(struct vt *vt, const char *expression, int milliseconds);
/* Wait until the screen no longer matches. */
bool vt_wait_gone(struct vt *vt, const char *expression, int milliseconds);
/* Wait until the program ends; *status as waitpid() gives it. */
bool vt_wait_exit(struct vt *vt, int milliseconds, int *status);

/* The screen as text, rows ended by newlines. Valid until the next call. */
const char *vt_text(struct vt *vt);
/* First match of a group in the screen: the number there, NAN if there is none. */
double vt_number(struct vt *vt, const char *expression);

bool vt_alternate(const struct vt *vt); /* is the alternate screen shown? */
bool vt_cursor_visible(const struct vt *vt);
/* Where the cursor is; false if it is not shown. */
bool vt_cursor_at(const struct vt *vt, int *row, int *col);
void vt_size(const struct vt *vt, int *rows, int *cols);
/* libvterm's screen, for who looks at cells. */
struct VTermScreen;
struct VTermScreen *vt_screen(const struct vt *vt);
uint64_t vt_escapes(const struct vt *vt); /* ESC bytes among them */
uint64_t vt_bytes(const struct vt *vt);   /* written by the program so far */

#endif
