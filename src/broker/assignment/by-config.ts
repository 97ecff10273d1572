import type { Strategy } from './types.ts';
import { NOBODY } from './types.ts';

/**
 * Every member says which queues it wants. Two that want the same one would both own it with RocketMQ; here it is the one that is
 * first by name. A queue that nobody wants is nobody's: it is not consumed, and its lag shows it.
 */
export const byConfig: Strategy = (topic, queues, members) => {
  const wanted = new Map<string, number>();
  members.forEach((member, at) => {
    for (const [configuredTopic, brokerName, queueId] of member.queues) {
      const key = `${queueId}@${brokerName}`;
      if (configuredTopic === topic && !wanted.has(key)) wanted.set(key, at);
    }
  });
  return Int32Array.from(queues, ({ brokerName, queueId }) => wanted.get(`${queueId}@${brokerName}`) ?? NOBODY);
};
