import type { QueueState } from './topics.ts';

interface Tail {
  readonly producerId: number;
  epoch: number;
  nextSequence: number;
  lastIndex: number;
}

/**
 * Sequences of the leader's entries that are proposed and not applied. A leader-only ack is given before apply decides, so
 * its batch must be the next one over what is applied plus these (DESIGN.md, Modes; F32).
 */
export class UncommittedSequences {
  readonly #byQueue = new Map<QueueState, Map<number, Tail>>();

  /** @returns whether the batch would certainly be accepted at apply as the next one */
  isNext(queue: QueueState, producerId: number, epoch: number, firstSequence: number): boolean {
    const tail = this.#byQueue.get(queue)?.get(producerId);
    const applied = queue.producers.get(producerId);
    const knownEpoch = tail?.epoch ?? applied?.epoch ?? -1;
    if (epoch > knownEpoch) return firstSequence === 0;
    return epoch === knownEpoch && firstSequence === (tail?.nextSequence ?? applied?.nextSequence);
  }

  /** Only for a batch that isNext(): what apply will refuse moves nothing. `nextSequence`: of the batch after it. */
  proposed(queue: QueueState, producerId: number, epoch: number, nextSequence: number, index: number): void {
    let producers = this.#byQueue.get(queue);
    if (producers === undefined) {
      producers = new Map();
      this.#byQueue.set(queue, producers);
    }
    const tail = producers.get(producerId) ?? { producerId, epoch, nextSequence: 0, lastIndex: 0 };
    tail.epoch = epoch;
    tail.nextSequence = nextSequence;
    tail.lastIndex = index;
    // Taken out and put in again: the map's order is that of the last index, so applied() stops at the first that stays.
    producers.delete(producerId);
    producers.set(producerId, tail);
  }

  /** An entry of this queue was applied: what it was the last of is in the state now. */
  applied(queue: QueueState, index: number): void {
    const producers = this.#byQueue.get(queue);
    if (producers === undefined) return;
    for (const tail of producers.values()) {
      if (tail.lastIndex > index) break;
      producers.delete(tail.producerId);
    }
    if (producers.size === 0) this.#byQueue.delete(queue);
  }

  clear(): void {
    this.#byQueue.clear();
  }
}
