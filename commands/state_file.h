/* Files that keep what a user did: below $XDG_STATE_HOME/layertop, else ~/.local/state/layertop. */
#ifndef LAYERTOP_COMMANDS_STATE_FILE_H
#define LAYERTOP_COMMANDS_STATE_FILE_H

/* The path of a file there; NULL if neither variable is an absolute path. Caller frees. */
char *state_file_path(const char *name);

/* mkdir -p of the folder that `path` lies in, private to the user. What cannot be made is found out
 * when the file is opened. */
void state_file_make_folders(const char *path);

#endif
