import { type QueueName, Violation } from './violation.ts';

interface Owner {
  readonly member: string;
  readonly epoch: number;
}

/**
 * Invariant: a queue has never two valid owners. Within a group an epoch of a queue belongs to one member, and once the broker
 * has accepted the word of a higher epoch, a request that was begun after that under a lower epoch is refused.
 */
export class OwnersChecker {
  readonly #holders = new Map<string, string>();
  readonly #newest = new Map<string, Owner>();

  /** When a member's request begins: the newest epoch that was accepted by then. */
  newest(group: string, queue: QueueName): number {
    return this.#newest.get(`${group} ${queue}`)?.epoch ?? -1;
  }

  /** A member's request for a queue was accepted. @param newestAtStart what newest() said when it began */
  accepted(group: string, queue: QueueName, member: string, epoch: number, newestAtStart: number): void {
    const name = `${group} ${queue}`;
    const holder = this.#holders.get(`${name} ${epoch}`);
    if (holder !== undefined && holder !== member)
      throw new Violation('two owners', `${name}: ${holder} and ${member} both own it in epoch ${epoch}`);
    this.#holders.set(`${name} ${epoch}`, member);
    if (epoch < newestAtStart) {
      throw new Violation('two owners', `${name}: ${member} was served in epoch ${epoch} after ${newestAtStart} had been in force`);
    }
    if (epoch > (this.#newest.get(name)?.epoch ?? -1)) this.#newest.set(name, { member, epoch });
  }
}
