const FIRST_ROOM = 1_024;

/** Numbers by index, 0 … 2^31 − 1, with one value where nothing was set. */
export class GrowingInts {
  #values: Int32Array;
  readonly #absent: number;

  constructor(absent: number) {
    this.#absent = absent;
    this.#values = new Int32Array(FIRST_ROOM).fill(absent);
  }

  /** Indexes that may hold something. */
  get room(): number {
    return this.#values.length;
  }

  get(index: number): number {
    return index < this.#values.length ? (this.#values[index] as number) : this.#absent;
  }

  set(index: number, value: number): void {
    if (index >= this.#values.length) {
      const grown = new Int32Array(Math.max(index + 1, 2 * this.#values.length)).fill(this.#absent, this.#values.length);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[index] = value;
  }
}
