/*
 * Disk faults under a replica, as a preload library: failed and short writes, failed syncs, torn writes, and a record of everything
 * that was written and not synced, from which a loss of power is made after the process was killed.
 *
 * CHAOS_CONTROL: control file, mapped; shim.ts writes it while the process runs. CHAOS_ARENA: undo records, mapped.
 * CHAOS_VOLUME: the file system that faults apply to, known by its device; a replica has one of its own.
 *
 * Durable are a write through a descriptor with O_SYNC or O_DSYNC, what fsync and fdatasync of a file cover, and names by fsync of
 * their directory. All else has a record with what was there before. Records outlive the process: whoever reads his own unsynced
 * bytes back from the page cache after kill -9, and relies on them, loses them at the next loss of power. When the ring of records
 * is full the oldest count as written back, as a kernel does by and by.
 */
#include "records.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct control *control;
static dev_t device;
static uint32_t draws;

static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off64_t);
static int (*real_ftruncate)(int, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
int (*real_unlink)(const char *);
int (*real_open)(const char *, int, ...);

void resolve(void) {
  if (__builtin_expect(real_open != NULL, 1)) return;
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  real_open = dlsym(RTLD_NEXT, "open64");
}

__attribute__((constructor)) static void begin(void) {
  resolve();
  const char *control_path = getenv("CHAOS_CONTROL"), *arena_path = getenv("CHAOS_ARENA"), *volume = getenv("CHAOS_VOLUME");
  struct stat st;
  if (control_path == NULL || volume == NULL || stat(volume, &st) != 0) return;
  device = st.st_dev;
  if (arena_path != NULL) open_records(arena_path, volume);
  control = mapped(control_path, NULL);
}

void count(uint64_t *counter) { __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }

/* ---- which calls are struck ---- */

static int in_scope(int fd, struct stat *st) {
  return control != NULL && fstat(fd, st) == 0 && st->st_dev == device && S_ISREG(st->st_mode);
}

static uint32_t draw(void) {
  uint32_t z = control->seed + 0x9e3779b9u * __atomic_add_fetch(&draws, 1, __ATOMIC_RELAXED);
  z = (z ^ (z >> 16)) * 0x21f0aaadu;
  z = (z ^ (z >> 15)) * 0x735a2d97u;
  return z ^ (z >> 15);
}

static int struck(uint32_t mode) {
  if (control == NULL || (control->mode & mode) == 0) return 0;
  return control->one_in <= 1 || draw() % control->one_in == 0;
}

static int syncs_each_write(int fd) { return (fcntl(fd, F_GETFL) & O_DSYNC) != 0; }

static int directory_of(const char *path, struct stat *st) {
  char parent[MAX_PATH];
  const char *slash = strrchr(path, '/');
  size_t bytes = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
  if (control == NULL || bytes >= sizeof parent) return 0;
  memcpy(parent, bytes == 0 ? "." : path, bytes == 0 ? 1 : bytes);
  parent[bytes == 0 ? 1 : bytes] = 0;
  return stat(parent, st) == 0 && st->st_dev == device && strstr(path, "/.undo") == NULL;
}

/* ---- writes ---- */

static size_t total_of(const struct iovec *parts, int n) {
  size_t total = 0;
  for (int i = 0; i < n; i++) total += parts[i].iov_len;
  return total;
}

/* Some of the sectors reach the disk, in no order, and then the power is gone. */
static void tear(int fd, const struct iovec *parts, int n, off64_t offset) {
  count(&control->torn_writes);
  size_t total = total_of(parts, n), done = 0;
  uint8_t *bytes = malloc(total);
  for (int i = 0; i < n; i++) {
    memcpy(bytes + done, parts[i].iov_base, parts[i].iov_len);
    done += parts[i].iov_len;
  }
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int own = real_open(path, O_WRONLY | O_CLOEXEC);
  for (size_t sector = 0; sector < total; sector += SECTOR_BYTES) {
    size_t length = total - sector < SECTOR_BYTES ? total - sector : SECTOR_BYTES;
    if (own >= 0 && draw() % 2 == 0 && real_pwrite(own, bytes + sector, length, offset + sector) < 0) break;
  }
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

static ssize_t part_of(int fd, const struct iovec *parts, size_t bytes, off64_t offset) {
  size_t first = parts[0].iov_len < bytes ? parts[0].iov_len : bytes;
  return real_pwrite(fd, parts[0].iov_base, first, offset);
}

/*
 * libuv goes on by itself where a write was short, and tells its caller only when that fails: so what follows at once in the same
 * thread finds no room, and the next attempt does again.
 */
static __thread struct {
  int left, fd;
  off64_t offset;
} short_of;

/* offset < 0: at the descriptor's own position, which is known before the call. */
static ssize_t on_write(int fd, const struct iovec *parts, int n, off64_t offset, ssize_t (*call)(int, const struct iovec *, int, off64_t)) {
  struct stat st;
  resolve();
  if (n < 1 || !in_scope(fd, &st)) return call(fd, parts, n, offset);
  count(&control->writes);
  off64_t position = offset >= 0 ? offset : (fcntl(fd, F_GETFL) & O_APPEND) ? st.st_size : lseek64(fd, 0, SEEK_CUR);
  size_t total = total_of(parts, n);
  int durable = syncs_each_write(fd);
  if (struck(FAIL_WRITE)) {
    count(&control->failed_writes);
    errno = EIO;
    return -1;
  }
  if (durable && total >= 2 * SECTOR_BYTES && struck(TEAR)) tear(fd, parts, n, position);
  int failing = durable && struck(FAIL_SYNC);
  struct record *record = recording() && (failing || !durable) ? record_change(fd, &st, KIND_WRITE, position, total) : NULL;
  ssize_t written;
  if (short_of.left && short_of.fd == fd && short_of.offset == offset) {
    written = -1;
    errno = ENOSPC;
  } else if (total >= 2 * ALIGN_BYTES && offset >= 0 && struck(SHORT_WRITE)) {
    count(&control->short_writes);
    written = part_of(fd, parts, total / 2 - total / 2 % SECTOR_BYTES, offset);
    short_of.left = written > 0;
    short_of.fd = fd;
    short_of.offset = offset + written;
    finish(record, written > 0);
    if (durable && written > 0 && recording()) note_durable(fd, st.st_ino, position, written);
    return written;
  } else {
    written = call(fd, parts, n, offset);
  }
  short_of.left = 0;
  int saved = errno;
  finish(record, written > 0);
  if (failing && written >= 0) {
    count(&control->failed_syncs);
    errno = EIO;
    return -1;
  }
  if (durable && written > 0 && recording()) note_durable(fd, st.st_ino, position, written);
  errno = saved;
  return written;
}

static ssize_t call_pwrite(int fd, const struct iovec *parts, int n, off64_t offset) {
  (void)n;
  return real_pwrite(fd, parts[0].iov_base, parts[0].iov_len, offset);
}
static ssize_t call_write(int fd, const struct iovec *parts, int n, off64_t offset) {
  (void)n, (void)offset;
  return real_write(fd, parts[0].iov_base, parts[0].iov_len);
}
static ssize_t call_pwritev(int fd, const struct iovec *parts, int n, off64_t offset) { return real_pwritev(fd, parts, n, offset); }
static ssize_t call_writev(int fd, const struct iovec *parts, int n, off64_t offset) {
  (void)offset;
  return real_writev(fd, parts, n);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
  struct iovec part = {(void *)bytes, size};
  return on_write(fd, &part, 1, offset, call_pwrite);
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) { return pwrite64(fd, bytes, size, offset); }
ssize_t write(int fd, const void *bytes, size_t size) {
  struct iovec part = {(void *)bytes, size};
  return on_write(fd, &part, 1, -1, call_write);
}
ssize_t writev(int fd, const struct iovec *parts, int n) { return on_write(fd, parts, n, -1, call_writev); }
ssize_t pwritev64(int fd, const struct iovec *parts, int n, off64_t offset) { return on_write(fd, parts, n, offset, call_pwritev); }
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t offset) { return pwritev64(fd, parts, n, offset); }

/* ---- the rest ---- */

int ftruncate64(int fd, off64_t length) {
  struct stat st;
  resolve();
  if (!in_scope(fd, &st)) return real_ftruncate(fd, length);
  count(&control->truncates);
  if (struck(FAIL_WRITE)) {
    count(&control->failed_truncates);
    errno = EIO;
    return -1;
  }
  off64_t cut = st.st_size - length;
  int recorded = recording() && cut <= MAX_TAIL_BYTES;
  if (recording() && !recorded) count(&control->skipped);
  struct record *record = recorded ? record_change(fd, &st, KIND_TRUNCATE, length, cut > 0 ? cut : 0) : NULL;
  int result = real_ftruncate(fd, length), saved = errno;
  finish(record, result == 0);
  errno = saved;
  return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int on_sync(int fd, int (*call)(int)) {
  struct stat st;
  if (control == NULL || fstat(fd, &st) != 0 || st.st_dev != device) return call(fd);
  count(&control->syncs);
  if (struck(FAIL_SYNC)) {
    count(&control->failed_syncs);
    errno = EIO;
    return -1;
  }
  uint64_t before = arena == NULL ? 0 : sequence_now();
  int result = call(fd), saved = errno;
  if (result == 0 && recording()) note_synced(st.st_ino, S_ISDIR(st.st_mode), before);
  errno = saved;
  return result;
}
int fsync(int fd) {
  resolve();
  return on_sync(fd, real_fsync);
}
int fdatasync(int fd) {
  resolve();
  return on_sync(fd, real_fdatasync);
}

int rename(const char *from, const char *to) {
  struct stat directory;
  resolve();
  if (!directory_of(to, &directory)) return real_rename(from, to);
  count(&control->renames);
  if (struck(FAIL_WRITE)) {
    count(&control->failed_renames);
    errno = EIO;
    return -1;
  }
  struct record *record = recording() ? record_name(KIND_RENAME, &directory, from, to, to) : NULL;
  int result = real_rename(from, to), saved = errno;
  finish(record, result == 0);
  errno = saved;
  return result;
}

int unlink(const char *path) {
  struct stat directory;
  resolve();
  if (!directory_of(path, &directory) || !recording()) return real_unlink(path);
  struct record *record = record_name(KIND_UNLINK, &directory, path, NULL, path);
  int result = real_unlink(path), saved = errno;
  finish(record, result == 0);
  errno = saved;
  return result;
}

static int on_open(const char *path, int flags, mode_t mode) {
  struct stat directory;
  resolve();
  int creates = (flags & O_CREAT) != 0 && directory_of(path, &directory) && recording() && access(path, F_OK) != 0;
  struct record *record = creates ? record_name(KIND_CREATE, &directory, path, NULL, NULL) : NULL;
  int fd = real_open(path, flags, mode), saved = errno;
  finish(record, fd >= 0);
  errno = saved;
  return fd;
}

#define WITH_MODE(flags, mode)                \
  mode_t mode = 0;                            \
  if (((flags) & (O_CREAT | O_TMPFILE)) != 0) { \
    va_list rest;                             \
    va_start(rest, flags);                    \
    mode = va_arg(rest, mode_t);              \
    va_end(rest);                             \
  }

int open64(const char *path, int flags, ...) {
  WITH_MODE(flags, mode)
  return on_open(path, flags, mode);
}
int open(const char *path, int flags, ...) {
  WITH_MODE(flags, mode)
  return on_open(path, flags, mode);
}
