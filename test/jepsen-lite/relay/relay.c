/*
 * Delays and reorders what goes between a host and the switch, each packet by itself: the kernel's netem in a process of its own.
 *
 *     relay PORT PORT DELAY_US JITTER_US SEED
 *
 * Frames of one network interface go out at the other after DELAY_US and up to JITTER_US more; who draws less overtakes. They
 * travel with their virtio header, so that unfinished checksums and segments that are still to be cut stay what they are.
 * On standard output a line of counts a second: `packets reordered dropped`. Ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FRAME_BYTES = 72 * 1024, MAX_WAITING = 65536, MAX_WAITING_BYTES = 64 * 1024 * 1024, REPORT_MS = 1000 };

struct frame {
  uint64_t due_us, sequence;
  int to;
  size_t bytes;
  uint8_t data[];
};

/* Smallest due first. */
static struct frame *heap[MAX_WAITING];
static size_t waiting, waiting_bytes;
static uint64_t packets, reordered, dropped, sequences, last_sequence[2];
static uint32_t state;

static uint64_t now_us(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

static uint32_t draw(void) {
  uint32_t z = state += 0x9e3779b9u;
  z = (z ^ (z >> 16)) * 0x21f0aaadu;
  z = (z ^ (z >> 15)) * 0x735a2d97u;
  return z ^ (z >> 15);
}

static int before(const struct frame *a, const struct frame *b) {
  return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

static void push(struct frame *frame) {
  size_t at = waiting++;
  for (; at > 0 && before(frame, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = frame;
  waiting_bytes += frame->bytes;
}

static struct frame *pop(void) {
  struct frame *first = heap[0], *last = heap[--waiting];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < waiting; at = child) {
    if (child + 1 < waiting && before(heap[child + 1], heap[child])) child++;
    if (!before(heap[child], last)) break;
    heap[at] = heap[child];
  }
  heap[at] = last;
  waiting_bytes -= first->bytes;
  return first;
}

static int socket_of(const char *name) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)), on = 1, room = 16 * 1024 * 1024;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(name)};
  if (fd < 0 || address.sll_ifindex == 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0) return -1;
  /* What we send ourselves is not received again. */
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) return -1;
  return bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

static void receive(const int *sockets, int from, uint64_t delay_us, uint64_t jitter_us) {
  static uint8_t bytes[MAX_FRAME_BYTES];
  for (;;) {
    ssize_t size = recv(sockets[from], bytes, sizeof bytes, 0);
    if (size <= 0) return;
    packets++;
    struct frame *frame = NULL;
    if (waiting < MAX_WAITING && waiting_bytes + size <= MAX_WAITING_BYTES) frame = malloc(sizeof *frame + size);
    if (frame == NULL) {
      dropped++;
      continue;
    }
    frame->due_us = now_us() + delay_us + (jitter_us == 0 ? 0 : draw() % jitter_us);
    frame->sequence = ++sequences;
    frame->to = 1 - from;
    frame->bytes = size;
    memcpy(frame->data, bytes, size);
    push(frame);
  }
}

static void send_due(const int *sockets) {
  while (waiting > 0 && heap[0]->due_us <= now_us()) {
    struct frame *frame = pop();
    if (frame->sequence < last_sequence[frame->to]) reordered++;
    else last_sequence[frame->to] = frame->sequence;
    if (send(sockets[frame->to], frame->data, frame->bytes, 0) < 0) dropped++;
    free(frame);
  }
}

static void report(void) {
  printf("%llu %llu %llu\n", (unsigned long long)packets, (unsigned long long)reordered, (unsigned long long)dropped);
  fflush(stdout);
}

int main(int n, char **words) {
  if (n != 6) return 2;
  int sockets[2] = {socket_of(words[1]), socket_of(words[2])};
  if (sockets[0] < 0 || sockets[1] < 0) {
    perror("relay");
    return 1;
  }
  uint64_t delay_us = strtoull(words[3], NULL, 10), jitter_us = strtoull(words[4], NULL, 10), reported = now_us();
  state = strtoul(words[5], NULL, 10);
  struct pollfd ready[3] = {{sockets[0], POLLIN, 0}, {sockets[1], POLLIN, 0}, {0, POLLIN, 0}};
  report();
  for (;;) {
    uint64_t now = now_us(), wait_us = REPORT_MS * 1000;
    if (waiting > 0) wait_us = heap[0]->due_us > now ? heap[0]->due_us - now : 0;
    struct timespec wait = {wait_us / 1000000, wait_us % 1000000 * 1000};
    if (ppoll(ready, 3, &wait, NULL) < 0 && errno != EINTR) return 1;
    for (int from = 0; from < 2; from++) receive(sockets, from, delay_us, jitter_us);
    send_due(sockets);
    if (now_us() - reported >= REPORT_MS * 1000) {
      report();
      reported = now_us();
    }
    char end;
    if ((ready[2].revents & (POLLIN | POLLHUP)) != 0 && read(0, &end, 1) <= 0) break;
  }
  report();
  return 0;
}
