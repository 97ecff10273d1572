import type { Strategy } from './types.ts';

/**
 * RocketMQ's default: contiguous ranges, the first `queues mod members` members one queue more. Over several topics those are
 * always the same members, and one that comes or goes moves about half of all queues: what `sticky` avoids.
 */
export const averagely: Strategy = (_topic, queues, members) => {
  const least = Math.floor(queues.length / members.length);
  const larger = queues.length % members.length;
  const inLarger = larger * (least + 1);
  return Int32Array.from(queues, (_, at) => (at < inLarger ? Math.floor(at / (least + 1)) : larger + Math.floor((at - inLarger) / least)));
};

/** As dealing cards: the n-th queue to the n-th member, round and round. Neighbours, and so one broker group's queues, are spread. */
export const averagelyByCircle: Strategy = (_topic, queues, members) => Int32Array.from(queues, (_, at) => at % members.length);
