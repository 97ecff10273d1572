import { LedgerError } from '../protocol/errors.ts';
import type { TopicRoute } from '../protocol/requests.ts';
import { tagHash } from '../protocol/tag-hash.ts';
import type { MessageQueue } from './message-queue.ts';
import type { MessageQueueSelector } from './types.ts';

const PERM_WRITE = 2;

/**
 * Configured queues of a topic over all groups, by brokerName, then queueId: the same list at every client. A group that is
 * down stays in it; one that an operator drains is configured away.
 */
export function configuredQueues(route: TopicRoute): MessageQueue[] {
  const open = route.placement.filter(({ perm }) => perm === undefined || (perm & PERM_WRITE) !== 0);
  const placement = open.sort((a, b) => (a.brokerName < b.brokerName ? -1 : a.brokerName > b.brokerName ? 1 : 0));
  return placement.flatMap(({ brokerName, queues }) =>
    Array.from({ length: queues }, (_, queueId) => ({ topic: route.topic, brokerName, queueId })),
  );
}

/** RocketMQ's SelectMessageQueueByHash: |hashCode of the key mod queues|, over the configured queues. */
export const selectByOrderingKeyHash: MessageQueueSelector = (queues, message) => {
  const hash = tagHash(message.orderingKey ?? '') | 0;
  return queues[Math.abs(hash % queues.length)] as MessageQueue;
};

/** A parsed tag expression; null wants everything. */
export type TagFilter = { readonly tags: ReadonlySet<string>; readonly hashes: readonly number[] } | null;

/** Parses `*` or `A || B`. @throws LedgerError BAD_REQUEST */
export function parseTagFilter(expression: string | undefined): TagFilter {
  if (expression === undefined || expression.trim() === '' || expression.trim() === '*') return null;
  const tags = expression.split('||').map((tag) => tag.trim());
  // Nobody means a tag with `&&` in it: `a && b` would match nothing in silence.
  if (tags.some((tag) => tag === '' || tag === '*' || /\||&&/.test(tag))) {
    throw new LedgerError('BAD_REQUEST', `the tag filter ${JSON.stringify(expression)} is not of the form * or A || B`);
  }
  return { tags: new Set(tags), hashes: [...new Set(tags.map(tagHash))] };
}
