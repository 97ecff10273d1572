import { assert } from '../base/assert.ts';
import type { Session } from './session.ts';

/** One send of several parts: answered when the last part has its result. */
export class SendGather {
  readonly session: Session;
  readonly requestId: number;
  readonly #answered: (error: number) => void;
  #error = 0;
  /** error, base offset, log time of each part. */
  readonly results: Float64Array;
  #missing: number;

  /** @param answered called after the answer, with the error of the first part that failed, or 0 */
  constructor(session: Session, requestId: number, parts: number, answered: (error: number) => void) {
    this.#answered = answered;
    this.session = session;
    this.requestId = requestId;
    this.results = new Float64Array(3 * parts);
    this.#missing = parts;
  }

  set(part: number, error: number, baseOffset: number, logTimeMs: number): void {
    this.results[3 * part] = error;
    this.results[3 * part + 1] = baseOffset;
    this.results[3 * part + 2] = logTimeMs;
    if (this.#error === 0) this.#error = error;
    this.#missing--;
    if (this.#missing > 0) return;
    if (this.results.length === 3) this.session.sendAck(this.requestId, error, baseOffset, logTimeMs);
    else this.session.sendAckParts(this.requestId, this.results);
    this.#answered(this.#error);
  }
}

/**
 * Send parts that were proposed and wait for their entry to be applied, oldest first: a ring keyed by index (I8: bounded by
 * its capacity; the sender gets BUSY at it).
 */
export class PendingSends {
  readonly #capacity: number;
  readonly #index: Float64Array;
  readonly #part: Uint32Array;
  readonly #mode: Uint8Array;
  readonly #gather: (SendGather | null)[];
  #head = 0;
  #size = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#index = new Float64Array(capacity);
    this.#part = new Uint32Array(capacity);
    this.#mode = new Uint8Array(capacity);
    this.#gather = new Array<SendGather | null>(capacity).fill(null);
  }

  get size(): number {
    return this.#size;
  }

  get full(): boolean {
    return this.#size === this.#capacity;
  }

  push(index: number, gather: SendGather, part: number, mode: number): void {
    assert(this.#size < this.#capacity, 'pending sends are bounded');
    const at = (this.#head + this.#size) % this.#capacity;
    assert(
      this.#size === 0 || index > (this.#index[(at + this.#capacity - 1) % this.#capacity] as number),
      'entries are proposed in order',
    );
    this.#index[at] = index;
    this.#part[at] = part;
    this.#mode[at] = mode;
    this.#gather[at] = gather;
    this.#size++;
  }

  /** Index of the oldest; Infinity when there is none. */
  firstIndex(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : (this.#index[this.#head] as number);
  }
  firstPart(): number {
    return this.#part[this.#head] as number;
  }
  firstMode(): number {
    return this.#mode[this.#head] as number;
  }

  /** Takes the oldest out. */
  shift(): SendGather {
    const gather = this.#gather[this.#head];
    assert(gather !== null && gather !== undefined, 'a pending send');
    this.#gather[this.#head] = null;
    this.#head = (this.#head + 1) % this.#capacity;
    this.#size--;
    return gather;
  }
}
