#include "records.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t MAGIC = 0x31554d4c; /* "LMU1" */

struct arena *arena;
static uint8_t *ring;
static char links[MAX_PATH];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct record *at(uint64_t position) { return (struct record *)(ring + position % arena->size); }

void *mapped(const char *path, uint64_t *size) {
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) return NULL;
  void *at = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (size != NULL) *size = st.st_size;
  return at == MAP_FAILED ? NULL : at;
}
void open_records(const char *arena_path, const char *volume) {
  uint64_t size = 0;
  snprintf(links, sizeof links, "%s/.undo", volume);
  arena = mapped(arena_path, &size);
  if (arena == NULL) return;
  ring = (uint8_t *)arena + sizeof *arena;
  if (arena->magic != MAGIC) {
    arena->size = size - sizeof *arena;
    arena->head = arena->tail = 0;
    arena->magic = MAGIC;
  }
  /* Calls of a process that is gone: they may have happened. */
  for (uint64_t position = arena->tail; position < arena->head; position += at(position)->size) {
    if (at(position)->state == STATE_OPEN) at(position)->state = STATE_DONE;
  }
}

int recording(void) { return arena != NULL && (control->mode & RECORD) != 0; }

static void forget_link(const struct record *record) {
  if (record->link == 0) return;
  char path[MAX_PATH + 32];
  snprintf(path, sizeof path, "%s/%llu", links, (unsigned long long)record->link);
  real_unlink(path);
}

/* Under `lock`. The oldest make room; one whose call is under way does not. */
static struct record *allocate(uint32_t kind, size_t extra) {
  uint64_t need = (sizeof(struct record) + extra + 7) & ~(uint64_t)7;
  if (need > arena->size / 4) {
    count(&control->skipped);
    return NULL;
  }
  uint64_t to_end = arena->size - arena->head % arena->size;
  uint64_t pad = to_end < need ? to_end : 0;
  while (arena->head + pad + need - arena->tail > arena->size) {
    struct record *oldest = at(arena->tail);
    if (oldest->kind != KIND_PAD && oldest->state == STATE_OPEN) {
      count(&control->skipped);
      return NULL;
    }
    if (oldest->kind != KIND_PAD && oldest->state != STATE_FREE) {
      count(&control->evicted);
      forget_link(oldest);
    }
    arena->tail += oldest->size;
  }
  if (pad > 0) {
    struct record *filler = at(arena->head);
    filler->size = pad;
    filler->kind = KIND_PAD;
    arena->head += pad;
  }
  struct record *record = at(arena->head);
  memset(record, 0, sizeof *record);
  record->size = need;
  record->kind = kind;
  record->state = STATE_OPEN;
  record->sequence = ++arena->sequence;
  return record;
}

/* Behind it the record counts, also when the process is killed the next moment. */
static void publish(struct record *record) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  arena->head += record->size;
  count(&control->records);
}

void finish(struct record *record, int happened) {
  if (record == NULL) return;
  pthread_mutex_lock(&lock);
  record->done_sequence = ++arena->sequence;
  record->state = happened ? STATE_DONE : STATE_FREE;
  pthread_mutex_unlock(&lock);
}

#define EACH_RECORD(record)                                                                                              \
  for (uint64_t position_ = arena->tail; position_ < arena->head; position_ += at(position_)->size)                       \
    for (struct record *record = at(position_); record != NULL; record = NULL)                                           \
      if (record->kind != KIND_PAD && record->state != STATE_FREE)

static uint8_t *data_of(struct record *record) { return (uint8_t *)(record + 1) + record->path_bytes; }

/* Old bytes are read through a descriptor of our own: the caller's may be for writing alone, or ask for alignment. */
static size_t read_old(int fd, uint8_t *into, size_t bytes, off64_t offset) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int own = real_open(path, O_RDONLY | O_CLOEXEC);
  if (own < 0) return 0;
  size_t total = 0;
  while (total < bytes) {
    ssize_t got = pread64(own, into + total, bytes - total, offset + total);
    if (got <= 0) break;
    total += got;
  }
  close(own);
  return total;
}

struct record *record_change(int fd, const struct stat *st, uint32_t kind, off64_t offset, size_t bytes) {
  size_t old = offset >= st->st_size ? 0 : (size_t)(st->st_size - offset) < bytes ? (size_t)(st->st_size - offset) : bytes;
  pthread_mutex_lock(&lock);
  struct record *record = allocate(kind, old);
  if (record != NULL) {
    record->inode = st->st_ino;
    record->offset = offset;
    record->old_length = st->st_size;
    record->data_bytes = read_old(fd, data_of(record), old, offset);
    publish(record);
  }
  pthread_mutex_unlock(&lock);
  return record;
}

void note_durable(int fd, ino_t inode, off64_t offset, size_t bytes) {
  pthread_mutex_lock(&lock);
  EACH_RECORD(record) {
    if (record->inode != inode || (record->kind != KIND_WRITE && record->kind != KIND_TRUNCATE)) continue;
    uint64_t from = record->offset > (uint64_t)offset ? record->offset : (uint64_t)offset;
    uint64_t record_end = record->offset + record->data_bytes, end = offset + bytes;
    uint64_t to = record_end < end ? record_end : end;
    if (from < to) read_old(fd, data_of(record) + (from - record->offset), to - from, from);
    if (record->old_length < end) record->old_length = end;
  }
  pthread_mutex_unlock(&lock);
}

uint64_t sequence_now(void) {
  pthread_mutex_lock(&lock);
  uint64_t now = arena->sequence;
  pthread_mutex_unlock(&lock);
  return now;
}

void note_synced(ino_t inode, int directory, uint64_t before) {
  pthread_mutex_lock(&lock);
  EACH_RECORD(record) {
    int is_name = record->kind != KIND_WRITE && record->kind != KIND_TRUNCATE;
    if (record->inode != inode || is_name != directory || record->state != STATE_DONE || record->done_sequence > before) continue;
    record->state = STATE_FREE;
    forget_link(record);
  }
  pthread_mutex_unlock(&lock);
}

struct record *record_name(uint32_t kind, const struct stat *directory, const char *path, const char *second, const char *lost) {
  size_t first_bytes = strlen(path) + 1, second_bytes = second == NULL ? 0 : strlen(second) + 1;
  pthread_mutex_lock(&lock);
  struct record *record = allocate(kind, first_bytes + second_bytes);
  if (record != NULL) {
    record->inode = directory->st_ino;
    record->path_bytes = first_bytes + second_bytes;
    memcpy(record + 1, path, first_bytes);
    if (second != NULL) memcpy((char *)(record + 1) + first_bytes, second, second_bytes);
    int kept = 1;
    if (lost != NULL && access(lost, F_OK) == 0) {
      char link_path[MAX_PATH + 32];
      record->link = ++arena->links;
      snprintf(link_path, sizeof link_path, "%s/%llu", links, (unsigned long long)record->link);
      mkdir(links, 0755);
      kept = link(lost, link_path) == 0;
    }
    if (kept) publish(record);
    else {
      count(&control->skipped);
      record = NULL;
    }
  }
  pthread_mutex_unlock(&lock);
  return record;
}
