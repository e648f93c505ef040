/* A stage for the screen: the real tui_run() in a terminal of ours (a pseudo-terminal with libvterm
 * behind it), in front of an actor, at a time that stands still. A script says what is typed and how
 * much time passes; what the terminal then shows is written down as text.
 *
 * A script is a file of lines, one action each; '#' begins a comment line.
 *
 *   before the screen starts (`size 80x24` if nothing else is said):
 *     size COLSxROWS    env NAME=VALUE    history LINE    command LINE (what the program submits)
 *   then:
 *     type TEXT         characters; \e \t \r \n \\ \xHH stand for others
 *     line TEXT         the same and Enter
 *     key NAME...       one after the other: Enter Tab BackTab Esc Space Backspace Delete Up Down Left Right Home End PgUp
 *                       PgDn F1..F12, C-x, M-x, or a single character; after Esc pass 25 ms
 *     paste TEXT        as a terminal sends what was pasted
 *     press COL ROW / wheel up|down COL ROW   the mouse, counted from 0
 *     size COLSxROWS    the terminal changes its size
 *     tick MS           time passes
 *     kill              the worker dies of signal 9
 *     print TEXT        somebody writes a line to standard output
 *     expect TEXT / absent TEXT      some row holds TEXT, or none does
 *     snapshot [TITLE]  write the screen down
 *     looks [TITLE]     the same with bold, reverse and colours: a letter for each kind of cell
 *
 * The screen runs in `home`, where `data` is tests/data. Keys are drawn at once; what else happens is drawn when time passes, ten times a second. */
#ifndef LAYERTOP_TESTS_STAGE_H
#define LAYERTOP_TESTS_STAGE_H

/* Perform a script in a process of its own and write its snapshots to `output`. `home` is a folder
 * for history and settings, empty at first. Returns NULL, or what went wrong, to be freed. */
char *stage_perform(const char *script, const char *output, const char *home);

/* What main() of a program with a stage calls first: does not return if the program was started as a
 * worker. */
void stage_worker(int argc, char *const argv[]);

#endif
