import { randomFillSync } from 'node:crypto';
import type { Random } from '../random.ts';

/** One system call for this many numbers. */
const BUFFERED = 1_024;
const TWO_32 = 0x1_0000_0000;

export class NodeRandom implements Random {
  readonly #numbers = new Uint32Array(BUFFERED);
  #next = BUFFERED;

  u32(): number {
    if (this.#next === BUFFERED) {
      randomFillSync(this.#numbers);
      this.#next = 0;
    }
    return this.#numbers[this.#next++] as number;
  }

  unit(): number {
    return this.u32() / TWO_32;
  }

  fill(bytes: Uint8Array): void {
    randomFillSync(bytes);
  }
}
