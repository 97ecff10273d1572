import type { StateLimits } from './limits.ts';

/** Which messages of a waiting batch are not to be delivered. */
export class Cancellations {
  readonly #max: number;
  /** By position of the entry; message indexes, ascending. */
  readonly #byPosition = new Map<number, number[]>();
  #messages = 0;

  /** @param max messages in all */
  constructor(max: typeof StateLimits.maxCancelledMessages) {
    this.#max = max;
  }

  get messages(): number {
    return this.#messages;
  }

  get full(): boolean {
    return this.#messages >= this.#max;
  }

  clear(): void {
    this.#byPosition.clear();
    this.#messages = 0;
  }

  pack(): unknown {
    return [...this.#byPosition].sort(([a], [b]) => a - b);
  }

  unpack(packed: unknown): void {
    for (const [position, indexes] of packed as [number, number[]][]) {
      this.#byPosition.set(position, [...indexes]);
      this.#messages += indexes.length;
    }
  }

  /** Undefined: none of it. */
  of(position: number): readonly number[] | undefined {
    return this.#messages === 0 ? undefined : this.#byPosition.get(position);
  }

  has(position: number, messageIndex: number): boolean {
    return this.of(position)?.includes(messageIndex) === true;
  }

  add(position: number, messageIndex: number): void {
    const indexes = this.#byPosition.get(position) ?? [];
    const at = indexes.findIndex((index) => index > messageIndex);
    indexes.splice(at < 0 ? indexes.length : at, 0, messageIndex);
    this.#byPosition.set(position, indexes);
    this.#messages++;
  }

  /** The batch waits under another position. */
  move(from: number, to: number): void {
    const indexes = this.#byPosition.get(from);
    if (indexes === undefined || from === to) return;
    this.#byPosition.delete(from);
    this.#byPosition.set(to, indexes);
  }

  /** The batch waits no longer. */
  forget(position: number): void {
    const indexes = this.#byPosition.get(position);
    if (indexes === undefined) return;
    this.#byPosition.delete(position);
    this.#messages -= indexes.length;
  }
}
