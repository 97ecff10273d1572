import type { PendingReferences } from './held-segments.ts';
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
export class HalfMessages implements PendingReferences {
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

  /** The oldest come first, carried or not. */
  referBefore(position: number): boolean {
    for (const half of this.all()) {
      if (half.position < position) return true;
      if (half.transaction >= position) break;
    }
    return false;
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
    const groupAt = new Map<string, number>();
    const numbers = new Float64Array(this.size * COLUMNS);
    let ids = '';
    let at = 0;
    for (const half of this.all()) {
      let group = groupAt.get(half.producerGroup);
      if (group === undefined) {
        group = groupAt.size;
        groupAt.set(half.producerGroup, group);
      }
      numbers[at] = half.transaction;
      numbers[at + 1] = half.position;
      numbers[at + 2] = half.sizeBytes;
      numbers[at + 3] = half.topicId;
      numbers[at + 4] = half.queueId;
      numbers[at + 5] = half.tagBloom;
      numbers[at + 6] = group;
      numbers[at + 7] = half.storedMs;
      numbers[at + 8] = half.checks;
      numbers[at + 9] = half.nextCheckMs;
      ids += half.messageId;
      at += COLUMNS;
    }
    return [new Uint8Array(numbers.buffer), [...groupAt.keys()], ids];
  }

  unpack([bytes, groups, ids]: [Uint8Array, string[], string]): void {
    // A copy: the packed bytes lie at any address, numbers at multiples of 8.
    const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
    for (let at = 0, id = 0; at < numbers.length; at += COLUMNS, id += ID_CHARACTERS) {
      this.add({
        transaction: numbers[at] as number,
        position: numbers[at + 1] as number,
        sizeBytes: numbers[at + 2] as number,
        topicId: numbers[at + 3] as number,
        queueId: numbers[at + 4] as number,
        tagBloom: numbers[at + 5] as number,
        producerGroup: groups[numbers[at + 6] as number] as string,
        messageId: ids.slice(id, id + ID_CHARACTERS),
        storedMs: numbers[at + 7] as number,
        checks: numbers[at + 8] as number,
        nextCheckMs: numbers[at + 9] as number,
      });
    }
  }
}
