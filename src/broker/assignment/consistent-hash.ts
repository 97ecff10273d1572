import { finish, hashOf } from './hash.ts';
import type { AssignableMember, Strategy } from './types.ts';

/** Places of a member on the ring, as with RocketMQ. */
const VIRTUAL_NODES = 10;

interface Node {
  readonly hash: number;
  readonly member: number;
}

/** Equal hashes: the member that is first by name, whoever else is there. */
function ringOf(members: readonly AssignableMember[]): Node[] {
  const ring = members.flatMap(({ name }, member) =>
    Array.from({ length: VIRTUAL_NODES }, (_, node) => ({ hash: hashOf(`${name}-${node}`), member })),
  );
  return ring.sort((a, b) => a.hash - b.hash || a.member - b.member);
}

/**
 * Each queue goes to the next place clockwise on a ring on which every member has ten. A member that comes takes queues and
 * moves none between others; one that goes gives away its own only. Loads are uneven: with few members some have twice the mean.
 */
export const consistentHash: Strategy = (topic, queues, members) => {
  const ring = ringOf(members);
  const topicHash = hashOf(topic);
  return Int32Array.from(queues, ({ brokerName, queueId }) => {
    const hash = finish(finish(hashOf(brokerName) ^ topicHash) + Math.imul(queueId, 0x9e3779b1));
    let low = 0;
    let high = ring.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ring[middle] as Node).hash < hash) low = middle + 1;
      else high = middle;
    }
    return (ring[low % ring.length] as Node).member;
  });
};
