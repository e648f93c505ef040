/* The worker's standard output and error: a pipe that the I/O thread reads in lines, so that what
 * libraries print becomes LOG events and can never damage the stream.
 *
 * If the process dies by a signal or calls exit(), what is still in the pipe goes to the standard
 * error it was started with: the front gets its last words from there. One log pipe a process.
 */
#ifndef LAYERTOP_ENGINE_LOG_PIPE_H
#define LAYERTOP_ENGINE_LOG_PIPE_H

typedef void log_line(void *context, const char *line);

struct log_pipe;

/* Point descriptors 1 and 2 at the pipe and 0 at /dev/null. Never NULL: without descriptors for a
 * pipe, standard error stays and nothing is read. */
struct log_pipe *log_pipe_new(void);
/* Give 1 and 2 back to the standard error it was started with. */
void log_pipe_free(struct log_pipe *log);

/* To poll for reading. */
int log_pipe_fd(const struct log_pipe *log);
/* Call `line` for every whole line that arrived (I/O thread only). */
void log_pipe_read(struct log_pipe *log, log_line *line, void *context);
/* To the standard error it was started with: for when the stream cannot carry it. */
void log_pipe_last_words(const struct log_pipe *log, const char *text);

#endif
