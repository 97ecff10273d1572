import type { Links } from './net-link.ts';
import type { Prng } from './prng.ts';
import type { SimProcess } from './process.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';

/** Unacknowledged bytes that the simulated kernels hold for one direction: beyond it the writer's bytes stay in the process. */
const SOCKET_BUFFER_BYTES = 256 * 1024;
const BYTES_PER_US = 1000;
const BASE_DELAY_US = 60;
const RETRANSMIT_US = 200_000;

interface Outgoing {
  readonly bytes: Uint8Array;
  readonly onFlushed: (() => void) | undefined;
}
interface OnTheWire {
  readonly bytes: Uint8Array;
  readonly arrivesUs: number;
}

/** A machine that does not answer: the sender's kernel tries again after this long. */
const RETRY_DEAD_US = 1_000_000;

/** What the pipe asks of its two ends. */
export interface PipeEnds {
  readonly from: SimProcess;
  readonly to: SimProcess;
  /** Not open yet, or the receiver stopped reading. */
  blocked(): boolean;
  /** The receiving life of the process has ended. */
  receiverDead(): boolean;
  /** Something arrived for a receiver that is dead. @returns false when its machine is down, too: nobody answers */
  bounce(): boolean;
  deliver(bytes: Uint8Array): void;
  /** Everything that was written has arrived. */
  drained(): void;
}

/**
 * One direction of a connection: bytes arrive whole, in order, late or never. A writer's memory is read only when the kernel
 * takes it (`onFlushed`), so a writer that changes it too early is found out.
 */
export class Pipe {
  readonly #scheduler: SimScheduler;
  readonly #prng: Prng;
  readonly #links: Links;
  readonly #ends: PipeEnds;
  readonly #outgoing: Outgoing[] = [];
  readonly #wire: OnTheWire[] = [];
  bufferedBytes = 0;
  #wireBytes = 0;
  #lastArrivalUs = 0;
  #flushing = false;
  #arriving = false;
  closed = false;

  constructor(scheduler: SimScheduler, prng: Prng, links: Links, ends: PipeEnds) {
    this.#scheduler = scheduler;
    this.#prng = prng;
    this.#links = links;
    this.#ends = ends;
  }

  get idle(): boolean {
    return this.#outgoing.length === 0 && this.#wire.length === 0;
  }

  write(bytes: Uint8Array, onFlushed: (() => void) | undefined): void {
    this.#outgoing.push({ bytes, onFlushed });
    this.bufferedBytes += bytes.length;
    if (!this.#flushing) {
      this.#flushing = true;
      this.#scheduler.schedule(this.#ends.from, this.#prng.between(0, 20), EventKind.net, () => this.#flush());
    }
  }

  /** The link was healed or the reader goes on: look again at what waits. */
  nudge(): void {
    if (this.#wire.length > 0 && !this.#arriving && !this.closed) this.#awaitArrival(0);
  }

  #flush(): void {
    this.#flushing = false;
    if (this.closed) return;
    let taken = 0;
    while (taken < this.#outgoing.length && this.#wireBytes < SOCKET_BUFFER_BYTES) {
      const { bytes, onFlushed } = this.#outgoing[taken++] as Outgoing;
      this.bufferedBytes -= bytes.length;
      this.#wireBytes += bytes.length;
      const copy = new Uint8Array(bytes);
      this.#scheduler.trace.mixBytes(copy);
      this.#wire.push({ bytes: copy, arrivesUs: this.#arrivalUs(bytes.length) });
      onFlushed?.();
      if (this.closed) return;
    }
    this.#outgoing.splice(0, taken);
    if (this.#wire.length > 0 && !this.#arriving) this.#awaitArrival((this.#wire[0] as OnTheWire).arrivesUs - this.#scheduler.nowUs);
  }

  #arrivalUs(sizeBytes: number): number {
    const link = this.#links.of(this.#ends.from.name, this.#ends.to.name);
    let delayUs = BASE_DELAY_US + this.#prng.exponential(20) + sizeBytes / BYTES_PER_US;
    if (link.delayMs > 0) delayUs += this.#prng.exponential(link.delayMs * 1000);
    for (let lost = link.lossRate, wait = RETRANSMIT_US; lost > 0 && wait < 4_000_000 && this.#prng.chance(lost); wait *= 2)
      delayUs += wait;
    this.#lastArrivalUs = Math.max(this.#lastArrivalUs, Math.ceil(this.#scheduler.nowUs + delayUs));
    return this.#lastArrivalUs;
  }

  /** The receiver's life ended: its events are gone, the sender's kernel goes on trying. */
  receiverDied(): void {
    this.#arriving = false;
    this.nudge();
  }

  #awaitArrival(delayUs: number): void {
    this.#arriving = true;
    // An event of the receiver: while it is paused the wire fills up, and then the sender waits.
    const owner = this.#ends.receiverDead() ? null : this.#ends.to;
    this.#scheduler.schedule(owner, delayUs, EventKind.net, () => this.#arrive());
  }

  #arrive(): void {
    this.#arriving = false;
    const link = this.#links.of(this.#ends.from.name, this.#ends.to.name);
    if (this.closed || link.cut) return;
    if (this.#ends.receiverDead()) {
      if (!this.#ends.bounce()) this.#awaitArrival(RETRY_DEAD_US);
      return;
    }
    if (this.#ends.blocked()) return;
    let arrived = 0;
    while (arrived < this.#wire.length && (this.#wire[arrived] as OnTheWire).arrivesUs <= this.#scheduler.nowUs) {
      const { bytes } = this.#wire[arrived++] as OnTheWire;
      this.#wireBytes -= bytes.length;
      this.#ends.deliver(bytes);
      if (this.closed) return;
    }
    this.#wire.splice(0, arrived);
    if (this.#wire.length > 0) this.#awaitArrival((this.#wire[0] as OnTheWire).arrivesUs - this.#scheduler.nowUs);
    if (this.#outgoing.length > 0 && !this.#flushing && this.#wireBytes < SOCKET_BUFFER_BYTES) {
      this.#flushing = true;
      this.#scheduler.schedule(this.#ends.from, 0, EventKind.net, () => this.#flush());
    }
    if (this.idle) this.#ends.drained();
  }
}
