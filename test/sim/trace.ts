import { crc32 } from '../../src/base/crc.ts';

/** One line of a readable trace. */
export type TraceSink = (line: string) => void;

/**
 * What happened, as a running 64-bit hash (same seed, same hash: FAULTS 9) and, when somebody listens, as text.
 * Two 32-bit lanes with different multipliers: no BigInt on a path that runs at each event.
 */
export class Trace {
  #low = 0x811c9dc5 | 0;
  #high = 0x9747b28c | 0;
  #events = 0;
  readonly #sink: TraceSink | null;

  constructor(sink: TraceSink | null = null) {
    this.#sink = sink;
  }

  /** Text is built only when it is wanted. */
  get verbose(): boolean {
    return this.#sink !== null;
  }

  get events(): number {
    return this.#events;
  }

  mix(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#high = Math.imul((this.#high << 5) ^ (this.#high >>> 27) ^ value, 0x5bd1e995);
    this.#events++;
  }

  mixBytes(bytes: Uint8Array): void {
    this.mix(crc32(bytes));
  }

  say(timeUs: number, who: string, what: string): void {
    this.#sink?.(`${(timeUs / 1000).toFixed(3).padStart(11)} ${who.padEnd(10)} ${what}`);
  }

  hash(): string {
    const hex = (lane: number): string => (lane >>> 0).toString(16).padStart(8, '0');
    return hex(this.#high) + hex(this.#low);
  }
}
