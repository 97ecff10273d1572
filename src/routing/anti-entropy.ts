import type { Clock, Timer } from '../io/clock.ts';
import type { ByteReader, ByteWriter } from './byte-cursor.ts';
import { BUCKETS, type Fingerprint, type Fingerprints } from './fingerprints.ts';
import type { HostPort } from './records.ts';

/** Datagrams of one answer; what is left out is found in the next round. */
const MAX_PAGES = 16;
const RANGE_HEADER_BYTES = 14;
const ENTRY_BYTES = 10;
const MAX_RANGE_ENTRIES = 100;
/** Rows on their way; more are dropped, and found again in the next round. */
const MAX_QUEUED_ROWS = 8_192;
/** So many datagrams are sent at once, that a receiver's buffer (200 KB by default) holds those of several senders. */
const BURST_DATAGRAMS = 16;
const BURST_INTERVAL_MS = 10;

export interface Item {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

export interface AntiEntropyPorts {
  begin(type: 'summary' | 'digest' | 'want' | 'equal' | 'rows'): ByteWriter;
  /** Bytes that are left for items. */
  room(to: ByteWriter): number;
  item(to: ByteWriter, item: Item): void;
  send(datagram: ByteWriter, to: HostPort): void;
  itemsOf(key: string): readonly Item[];
}

interface QueuedRow {
  readonly to: HostPort;
  /** The row as it is when its turn comes, or a word about somebody. */
  readonly row: string | Item;
}

/**
 * Finds what rumors missed. One side sends its sums, the other lists the rows of buckets that differ, and then each sends the
 * rows that the other lacks or has otherwise; merging decides which was the newer one. No side keeps a state of the exchange: any
 * datagram may be lost, and the next round finds what is left.
 */
export class AntiEntropy {
  readonly #clock: Clock;
  readonly #fingerprints: Fingerprints;
  readonly #ports: AntiEntropyPorts;
  readonly #queue: QueuedRow[] = [];
  #burst: Timer | null = null;
  dropped = 0;

  constructor(clock: Clock, fingerprints: Fingerprints, ports: AntiEntropyPorts) {
    this.#clock = clock;
    this.#fingerprints = fingerprints;
    this.#ports = ports;
  }

  stop(): void {
    if (this.#burst !== null) this.#clock.clearTimer(this.#burst);
    this.#queue.length = 0;
  }

  begin(to: HostPort): void {
    const datagram = this.#ports.begin('summary');
    const { a, b } = this.#fingerprints.sums;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      datagram.u32(a[bucket] as number);
      datagram.u32(b[bucket] as number);
    }
    this.#ports.send(datagram, to);
  }

  onSummary(body: ByteReader, from: HostPort): void {
    const a = new Uint32Array(BUCKETS);
    const b = new Uint32Array(BUCKETS);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      a[bucket] = body.u32();
      b[bucket] = body.u32();
    }
    const differing = this.#fingerprints.differing({ a, b });
    if (differing.length === 0) this.#ports.send(this.#ports.begin('equal'), from);
    else this.#list(differing, from);
  }

  /** The rows of these buckets, in as few datagrams as hold them. */
  #list(buckets: readonly number[], to: HostPort): void {
    let datagram = this.#ports.begin('digest');
    let pages = 1;
    for (const bucket of buckets) {
      for (const range of this.#fingerprints.ranges(bucket, MAX_RANGE_ENTRIES)) {
        if (this.#ports.room(datagram) < RANGE_HEADER_BYTES + range.entries.length * ENTRY_BYTES) {
          this.#ports.send(datagram, to);
          if (pages++ === MAX_PAGES) return;
          datagram = this.#ports.begin('digest');
        }
        datagram.u48(range.from);
        datagram.u48(range.to);
        datagram.u16(range.entries.length);
        for (const { id, hash } of range.entries) {
          datagram.u48(id);
          datagram.u32(hash);
        }
      }
    }
    this.#ports.send(datagram, to);
  }

  onDigest(body: ByteReader, from: HostPort): void {
    const wanted: number[] = [];
    while (body.left > 0) {
      const start = body.u48();
      const end = body.u48();
      const entries: Fingerprint[] = Array.from({ length: body.u16() }, () => ({ id: body.u48(), hash: body.u32() }));
      const listed = new Set<number>();
      for (const { id, hash } of entries) {
        listed.add(id);
        const own = this.#fingerprints.hashOf(id);
        if (own === hash) continue;
        wanted.push(id);
        if (own !== null) this.#queueId(id, from);
      }
      for (const id of this.#fingerprints.within(start, end)) if (!listed.has(id)) this.#queueId(id, from);
    }
    if (wanted.length === 0) return;
    const datagram = this.#ports.begin('want');
    for (const id of wanted) datagram.u48(id);
    this.#ports.send(datagram, from);
  }

  onWant(body: ByteReader, from: HostPort): void {
    while (body.left >= 6) this.#queueId(body.u48(), from);
  }

  /** Sends one item soon, in a datagram with others for the same receiver. */
  queue(row: string | Item, to: HostPort): void {
    if (this.#queue.length >= MAX_QUEUED_ROWS) {
      this.dropped++;
      return;
    }
    this.#queue.push({ to, row });
    this.#burst ??= this.#clock.setTimer(0, () => this.#sendBurst());
  }

  #queueId(id: number, to: HostPort): void {
    const key = this.#fingerprints.keyOf(id);
    if (key !== null) this.queue(key, to);
  }

  #sendBurst(): void {
    this.#burst = null;
    let taken = 0;
    for (let sent = 0; sent < BURST_DATAGRAMS && taken < this.#queue.length; sent++) taken = this.#sendRows(taken);
    this.#queue.splice(0, taken);
    if (this.#queue.length > 0) this.#burst = this.#clock.setTimer(BURST_INTERVAL_MS, () => this.#sendBurst());
  }

  /** One datagram, from the queue's place `at` on. @returns the place behind what it took */
  #sendRows(at: number): number {
    const { to } = this.#queue[at] as QueuedRow;
    const datagram = this.#ports.begin('rows');
    let next = at;
    for (; next < this.#queue.length; next++) {
      const queued = this.#queue[next] as QueuedRow;
      if (queued.to.host !== to.host || queued.to.port !== to.port) break;
      const items = typeof queued.row === 'string' ? this.#ports.itemsOf(queued.row) : [queued.row];
      const sizeBytes = items.reduce((sum, { bytes }) => sum + bytes.length + 3, 0);
      if (items.length > 1) {
        // A record in pieces: each has a datagram of its own, but for the last.
        if (next > at) break;
        for (const piece of items) {
          const own = this.#ports.begin('rows');
          this.#ports.item(own, piece);
          this.#ports.send(own, to);
        }
        return next + 1;
      }
      if (sizeBytes > this.#ports.room(datagram) + 3) break;
      for (const item of items) this.#ports.item(datagram, item);
    }
    this.#ports.send(datagram, to);
    return Math.max(next, at + 1);
  }
}
