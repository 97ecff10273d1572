import { type QueueName, Violation } from './violation.ts';

/**
 * Invariant: a group's committed offset never goes back. A fetch that began after a commit was acknowledged, or after another
 * fetch was answered, shows at least that offset.
 */
export class OffsetBackChecker {
  readonly #floors = new Map<string, number>();

  /** At the start of a fetch: what its answer must at least show. */
  floor(group: string, queue: QueueName): number {
    return this.#floors.get(`${group} ${queue}`) ?? -1;
  }

  committed(group: string, queue: QueueName, offset: number): void {
    const name = `${group} ${queue}`;
    this.#floors.set(name, Math.max(offset, this.#floors.get(name) ?? -1));
  }

  fetched(group: string, queue: QueueName, floor: number, offset: number): void {
    if (offset < floor) throw new Violation('offset gone back', `group ${group}, ${queue}: ${offset} was read after ${floor}`);
    this.committed(group, queue, offset);
  }
}
