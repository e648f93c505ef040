/* What was measured for a plan, on disk for the next start: one small text file a plan.
 *
 * A file's name is a hash of its key; the key names everything that the choices depend on (graph,
 * shapes, precision, layout, kind of GPU, library versions), so a file of another version is simply
 * never found. Files are replaced by renaming, so that readers and several writers at once see whole
 * ones; a checksum in the last line tells a damaged one. The folder is kept below PLAN_CACHE_FILES
 * files and PLAN_CACHE_BYTES by removing what was used longest ago.
 *
 * Knows nothing of CUDA: problems and choices are words. Threads: the engine thread.
 */
#ifndef LAYERTOP_ENGINE_CUDA_PLAN_CACHE_H
#define LAYERTOP_ENGINE_CUDA_PLAN_CACHE_H

#include "engine/graph/graph.h"

#define PLAN_CACHE_FORMAT 1
#define PLAN_CACHE_FILES  256
#define PLAN_CACHE_BYTES  (8u << 20)

/* What a key is made of, besides the graph. */
struct plan_key {
    const char *precision, *layout;
    int compute_major, compute_minor, multiprocessors;
    size_t cudnn_version, cublaslt_version;
};

struct plan_cache_row {
    char problem[24]; /* "conv:" or "matmul:" and a hash */
    int64_t time_ns;  /* as measured; 0: not known */
    char *choice;     /* words, without a line break */
};

struct plan_cache {
    char key[256];
    struct plan_cache_row *rows;
    size_t count;
};

/* FNV-1a of some bytes, continued from `hash` (PLAN_HASH_START at first). */
#define PLAN_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t plan_hash(uint64_t hash, const void *data, size_t bytes);
/* A graph's ops with their geometry, fused functions and shapes; weights do not matter. */
uint64_t plan_graph_hash(const struct graph *graph);
/* The key's text into cache->key. */
void plan_cache_name(struct plan_cache *cache, const struct graph *graph,
                     const struct plan_key *key);

/* $XDG_CACHE_HOME/layertop/plans, or below ~/.cache; false if neither variable is set. */
bool plan_cache_folder(char *out, size_t size);

/* Fill the rows from the file of cache->key. False if there is none; `note` (size bytes, "" for
 * nothing to say) tells when one is there and damaged. */
bool plan_cache_load(struct plan_cache *cache, const char *folder, char *note, size_t size);
/* Write the file, atomically, making the folder if need be, and bound the folder. */
bool plan_cache_save(const struct plan_cache *cache, const char *folder, struct error *error);
/* The row of a problem, or NULL. */
const struct plan_cache_row *plan_cache_find(const struct plan_cache *cache, const char *problem);
/* Add a row or replace the one of its problem; copies the words. */
void plan_cache_put(struct plan_cache *cache, const char *problem, const char *choice,
                    int64_t time_ns);
void plan_cache_clear(struct plan_cache *cache); /* the key stays */

#endif
