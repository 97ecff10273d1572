import { ERRORS, errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import type { OffsetOwner, OffsetStore, StoredOffset, StoredQueue } from './offset-store.ts';

/** A member's offsets are those of a group of its own that nobody joins. */
export const broadcastGroupOf = ({ group, instanceName }: OffsetOwner): string => `%BROADCAST%${group}%${instanceName}`;

const brokersOf = (queues: readonly StoredQueue[]): string[] => [...new Set(queues.map(({ brokerName }) => brokerName))];

/** Offsets of broadcasting members at the brokers, each under its own name: they are replicated, and `group lag` shows them. */
export class BrokerOffsetStore implements OffsetStore {
  readonly #core: ClientCore;

  constructor(core: ClientCore) {
    this.#core = core;
  }

  async load(owner: OffsetOwner, queues: readonly StoredQueue[]): Promise<readonly number[]> {
    const group = broadcastGroupOf(owner);
    const found = new Map<StoredQueue, number>();
    for (const brokerName of brokersOf(queues)) {
      const mine = queues.filter((queue) => queue.brokerName === brokerName);
      const asked = mine.map(({ topic, queueId }) => ({ topic, queueId }));
      const { body } = await this.#core.askLeader(brokerName, Op.offsetFetch, { group, queues: asked });
      mine.forEach((queue, i) => void found.set(queue, body.offsets[i] ?? -1));
    }
    return queues.map((queue) => found.get(queue) ?? -1);
  }

  async save(owner: OffsetOwner, offsets: readonly StoredOffset[]): Promise<void> {
    const group = broadcastGroupOf(owner);
    for (const brokerName of brokersOf(offsets)) {
      const mine = offsets.filter((offset) => offset.brokerName === brokerName);
      const request = { group, member: '', epoch: 0, offsets: mine.map(({ topic, queueId, offset }) => ({ topic, queueId, offset })) };
      const { body } = await this.#core.askLeader(brokerName, Op.offsetCommit, request);
      // A queue that went with its topic has nothing to keep.
      const error = body.errors.find(
        (number) => number !== 0 && number !== ERRORS.QUEUE_NOT_FOUND.number && number !== ERRORS.TOPIC_NOT_FOUND.number,
      );
      if (error !== undefined) throw new LedgerError(errorCodeOf(error), `offsets of ${group}`);
    }
  }
}
