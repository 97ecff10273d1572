import type { Message } from '../../src/index.ts';

/** What the pinned data directories hold: more than one segment of 16 MiB, made again from the number of each message alone. */
export const QUEUES = 3;
export const MESSAGES = 4_500;
const BODY_BYTES = 4_096;
/** What the group `billing` has committed on queue 0 of `orders`. */
export const COMMITTED = 700;

export const queueOf = (number: number): number => number % QUEUES;

export function messageOf(number: number): Message {
  return {
    topic: 'orders',
    queue: { topic: 'orders', brokerName: 'a', queueId: queueOf(number) },
    body: `${number} `.padEnd(BODY_BYTES, '.'),
    tag: number % 2 === 0 ? 'even' : 'odd',
    keys: [`order-${number}`],
    properties: { number: String(number) },
  };
}
