/* Records of what was done and not synced, in a mapped ring; undo.ts reads them when the process is gone. See shim.c. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { CONTROL_BYTES = 4096, SECTOR_BYTES = 512, MAX_PATH = 1024, ALIGN_BYTES = 4096 };
/* Bits of control->mode; shim.ts has the same. */
enum { FAIL_SYNC = 1, FAIL_WRITE = 2, SHORT_WRITE = 4, TEAR = 8, RECORD = 16 };
enum { STATE_FREE = 0, STATE_OPEN = 1, STATE_DONE = 2 };
enum { KIND_PAD = 0, KIND_WRITE = 1, KIND_TRUNCATE = 2, KIND_CREATE = 3, KIND_RENAME = 4, KIND_UNLINK = 5 };
/* A tail that is cut off is kept up to this; a longer one counts as cut durably. */
enum { MAX_TAIL_BYTES = 4 * 1024 * 1024 };

struct control {
  uint32_t mode;
  /* A fault strikes one call in so many. */
  uint32_t one_in;
  uint32_t seed;
  uint32_t reserved;
  uint64_t failed_syncs, failed_writes, short_writes, torn_writes, failed_renames, failed_truncates;
  uint64_t writes, syncs, renames, truncates;
  uint64_t records, evicted, skipped;
};

struct arena {
  uint64_t magic, size, head, tail, sequence, links;
  char reserved[4096 - 48];
};

struct record {
  uint32_t size, kind;
  uint32_t state, path_bytes;
  uint64_t sequence, done_sequence;
  /* Of the file; of the directory for names. */
  uint64_t inode;
  uint64_t offset, old_length, data_bytes;
  /* Name of the hard link that keeps a file whose name was taken away; 0 = none. */
  uint64_t link;
  /* path NUL [second path NUL] then data */
};

/* Of this library alone: a name that the program has too would take its place. */
#pragma GCC visibility push(hidden)

extern struct control *control;
extern struct arena *arena;

/* Also before the constructor: those of other libraries write and open. */
void resolve(void);
extern int (*real_open)(const char *, int, ...);
extern int (*real_unlink)(const char *);

void count(uint64_t *counter);
/* @param volume for hard links that keep files whose names go away */
void open_records(const char *arena_path, const char *volume);
int recording(void);

/* Before a change of a file, and `finish` behind it. */
struct record *record_change(int fd, const struct stat *st, uint32_t kind, off64_t offset, size_t bytes);
/* `lost`: a file whose name goes away; a hard link keeps it. */
struct record *record_name(uint32_t kind, const struct stat *directory, const char *path, const char *second, const char *lost);
void finish(struct record *record, int happened);

/* What has become durable below older records is what a loss of power goes back to. */
void note_durable(int fd, ino_t inode, off64_t offset, size_t bytes);
uint64_t sequence_now(void);
/* Only what was done before the sync began (`sequence_now`) is covered by it. */
void note_synced(ino_t inode, int directory, uint64_t before);
void *mapped(const char *path, uint64_t *size);

#pragma GCC visibility pop
