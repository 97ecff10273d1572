import { StateLimits } from './limits.ts';

/** A message that is stored, and that nobody sees until its transaction's outcome is known (F14). */
export interface HalfMessage {
  /** Position of its entry when it was stored: names the transaction for good. */
  readonly transaction: number;
  /** Position of the entry that has its bytes now, and that entry's size. */
  position: number;
  readonly sizeBytes: number;
  /** Where it goes when it is committed. */
  readonly topicId: number;
  readonly queueId: number;
  readonly tagBloom: number;
  readonly producerGroup: string;
  readonly messageId: string;
  /** Log time, ms. */
  readonly storedMs: number;
  /** Times that the producer group was asked. */
  checks: number;
  /** Log time at which it is asked next, or rolled back after the last check. */
  nextCheckMs: number;
}

const COLUMNS = 10;
const ID_CHARACTERS = 32;

/** Half messages that wait for their outcome, oldest first. */
export class HalfMessages {
  readonly #byTransaction = new Map<number, HalfMessage>();
  readonly #ofGroup = new Map<string, number>();

  get size(): number {
    return this.#byTransaction.size;
  }

  get(transaction: number): HalfMessage | undefined {
    return this.#byTransaction.get(transaction);
  }

  /** In the order of the log. */
  all(): IterableIterator<HalfMessage> {
    return this.#byTransaction.values();
  }

  ofGroup(producerGroup: string): number {
    return this.#ofGroup.get(producerGroup) ?? 0;
  }

  /**
   * A producer group may hold as many as are still free: one alone fills half of the table, two fill a third each. So a group that
   * never answers leaves room for every other, without anybody dividing the table beforehand.
   */
  hasRoomFor(producerGroup: string): boolean {
    return this.ofGroup(producerGroup) < StateLimits.maxHalfMessages - this.size;
  }

  add(half: HalfMessage): void {
    this.#byTransaction.set(half.transaction, half);
    this.#ofGroup.set(half.producerGroup, this.ofGroup(half.producerGroup) + 1);
  }

  delete(half: HalfMessage): void {
    this.#byTransaction.delete(half.transaction);
    const left = this.ofGroup(half.producerGroup) - 1;
    if (left > 0) this.#ofGroup.set(half.producerGroup, left);
    else this.#ofGroup.delete(half.producerGroup);
  }

  clear(): void {
    this.#byTransaction.clear();
    this.#ofGroup.clear();
  }

  /** [numbers of 8 bytes, producer groups, message ids in one text]: as lists, many of them would hold up the event loop. */
  pack(): [Uint8Array, string[], string] {
    const groups = [...new Set([...this.all()].map(({ producerGroup }) => producerGroup))];
    const groupAt = new Map(groups.map((group, at) => [group, at]));
    const numbers = new Float64Array(this.size * COLUMNS);
    const ids: string[] = [];
    let at = 0;
    for (const half of this.all()) {
      const { transaction, position, sizeBytes, topicId, queueId, tagBloom, storedMs, checks, nextCheckMs } = half;
      const group = groupAt.get(half.producerGroup) as number;
      numbers.set([transaction, position, sizeBytes, topicId, queueId, tagBloom, group, storedMs, checks, nextCheckMs], at);
      ids.push(half.messageId);
      at += COLUMNS;
    }
    return [new Uint8Array(numbers.buffer), groups, ids.join('')];
  }

  unpack([bytes, groups, ids]: [Uint8Array, string[], string]): void {
    // A copy: the packed bytes lie at any address, numbers at multiples of 8.
    const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
    for (let i = 0; i * COLUMNS < numbers.length; i++) {
      const row = numbers.subarray(i * COLUMNS, (i + 1) * COLUMNS);
      const [transaction, position, sizeBytes, topicId, queueId, tagBloom, group, storedMs, checks, nextCheckMs] = row as unknown as [
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      this.add({
        transaction,
        position,
        sizeBytes,
        topicId,
        queueId,
        tagBloom,
        producerGroup: groups[group] as string,
        messageId: ids.slice(i * ID_CHARACTERS, (i + 1) * ID_CHARACTERS),
        storedMs,
        checks,
        nextCheckMs,
      });
    }
  }
}
