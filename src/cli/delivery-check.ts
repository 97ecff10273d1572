/**
 * Counts what a group of consumers received against what was sent: lost, duplicated, out of order per key.
 * Messages are numbered from 0 over all keys; the order of a key is that of its numbers.
 */
export class DeliveryCheck {
  readonly #seen: Uint8Array;
  readonly #lastOfKey = new Map<string, number>();
  /** Different messages received. */
  consumed = 0;
  duplicated = 0;
  /** Received after a later one of the same key. */
  outOfOrder = 0;
  /** Received, but never sent. */
  unknown = 0;

  constructor(messages: number) {
    this.#seen = new Uint8Array(messages);
  }

  received(key: string, number: number): void {
    if (!(Number.isInteger(number) && number >= 0 && number < this.#seen.length)) {
      this.unknown++;
      return;
    }
    if (this.#seen[number] === 1) {
      this.duplicated++;
      return;
    }
    this.#seen[number] = 1;
    this.consumed++;
    if (number < (this.#lastOfKey.get(key) ?? -1)) this.outOfOrder++;
    else this.#lastOfKey.set(key, number);
  }

  /** Messages among the first `sent` that nobody received. */
  lost(sent: number): number {
    let lost = 0;
    for (let number = 0; number < sent; number++) if (this.#seen[number] === 0) lost++;
    return lost;
  }
}

/** The longest pause between two acknowledgements from a moment on: what producers feel of a failover. */
export class GapMeter {
  #lastMs: number;
  #from: number | null = null;
  #longestMs = 0;

  constructor(nowMs: number) {
    this.#lastMs = nowMs;
  }

  acknowledged(nowMs: number): void {
    // The pause counts from the last acknowledgement before it, even when that came before the kill.
    if (this.#from !== null) this.#longestMs = Math.max(this.#longestMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
  }

  startAt(nowMs: number): void {
    this.#from = nowMs;
  }

  /** `nowMs`: a pause that has not ended counts, too. */
  longestMs(nowMs: number, ended: boolean): number {
    return ended || this.#from === null ? this.#longestMs : Math.max(this.#longestMs, nowMs - this.#lastMs);
  }
}
