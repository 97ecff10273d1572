import { type FinalLog, type QueueName, Violation } from './violation.ts';

export interface Acked {
  readonly queue: QueueName;
  /** −1: an acknowledgement without offset (leader-only), which promises less and is not checked here. */
  readonly offset: number;
  readonly identity: string;
}

/** Invariant (I2): what was acknowledged with an offset is in the healed log at that offset, unless retention took it. */
export function checkLost(acked: Iterable<Acked>, log: FinalLog): void {
  for (const ack of acked) {
    if (ack.offset < 0) continue;
    const queue = log.queues.get(ack.queue);
    if (queue !== undefined && ack.offset < queue.minOffset) continue;
    const found = queue?.messages[ack.offset - queue.minOffset];
    if (found === undefined)
      throw new Violation('lost', `${ack.identity} was acknowledged at ${ack.queue}@${ack.offset}, and nothing is there`);
    if (found.identity !== ack.identity) {
      throw new Violation('lost', `${ack.identity} was acknowledged at ${ack.queue}@${ack.offset}, where ${found.identity} is`);
    }
  }
}
