/* A hash table from node id to op, open addressing, rebuilt when it fills. */
#include "profiler/cupti_nodes.h"

#include "profiler/gpu_trace.h"

#include <pthread.h>
#include <stdlib.h>

struct entry {
    uint64_t node;    /* 0: empty */
    uint64_t removed; /* 0: alive; else the number of its removal */
    int op;
};

struct cupti_nodes {
    pthread_mutex_t lock;
    struct entry *entries;
    size_t capacity, used; /* capacity is a power of two; used counts removed entries too */
    uint64_t removals;
};

struct cupti_nodes *cupti_nodes_new(void)
{
    struct cupti_nodes *nodes = xcalloc(1, sizeof *nodes);
    pthread_mutex_init(&nodes->lock, NULL);
    nodes->capacity = 1024;
    nodes->entries = xcalloc(nodes->capacity, sizeof *nodes->entries);
    return nodes;
}

void cupti_nodes_free(struct cupti_nodes *nodes)
{
    pthread_mutex_destroy(&nodes->lock);
    free(nodes->entries);
    free(nodes);
}

static struct entry *slot_of(const struct cupti_nodes *nodes, uint64_t node)
{
    size_t at = (size_t)(node * UINT64_C(0x9e3779b97f4a7c15) >> 20);
    for (;; at++) {
        struct entry *entry = &nodes->entries[at & (nodes->capacity - 1)];
        if (entry->node == 0 || entry->node == node)
            return entry;
    }
}

static bool forgotten(const struct cupti_nodes *nodes, const struct entry *entry)
{
    return entry->removed && nodes->removals - entry->removed >= NODES_KEPT;
}

/* Double the table, or only drop what is long removed */
static void rebuild(struct cupti_nodes *nodes)
{
    struct entry *old = nodes->entries;
    size_t count = nodes->capacity;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        kept += old[i].node && !forgotten(nodes, &old[i]);
    while (nodes->capacity < kept * 4)
        nodes->capacity *= 2;
    nodes->entries = xcalloc(nodes->capacity, sizeof *nodes->entries);
    nodes->used = kept;
    for (size_t i = 0; i < count; i++) {
        if (old[i].node && !forgotten(nodes, &old[i]))
            *slot_of(nodes, old[i].node) = old[i];
    }
    free(old);
}

void cupti_nodes_set(struct cupti_nodes *nodes, uint64_t node, int op)
{
    if (node == 0)
        return;
    pthread_mutex_lock(&nodes->lock);
    if (nodes->used * 2 >= nodes->capacity)
        rebuild(nodes);
    struct entry *entry = slot_of(nodes, node);
    nodes->used += entry->node == 0;
    *entry = (struct entry){.node = node, .op = op};
    pthread_mutex_unlock(&nodes->lock);
}

int cupti_nodes_find(const struct cupti_nodes *nodes, uint64_t node)
{
    /* the lock is no part of the value */
    pthread_mutex_t *lock = &((struct cupti_nodes *)(uintptr_t)nodes)->lock;
    pthread_mutex_lock(lock);
    const struct entry *entry = slot_of(nodes, node);
    int op = node && entry->node == node ? entry->op : GPU_OP_NONE;
    pthread_mutex_unlock(lock);
    return op;
}

void cupti_nodes_remove(struct cupti_nodes *nodes, uint64_t node)
{
    pthread_mutex_lock(&nodes->lock);
    struct entry *entry = slot_of(nodes, node);
    if (node && entry->node == node && !entry->removed)
        entry->removed = ++nodes->removals;
    pthread_mutex_unlock(&nodes->lock);
}
