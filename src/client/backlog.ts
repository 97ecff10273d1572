import { LedgerError } from '../protocol/errors.ts';
import { topicNotFound } from '../protocol/names.ts';
import { Op } from '../protocol/requests.ts';
import type { GroupPort } from './message-search.ts';

/** Requests of one reset under way at a time, for each broker group. */
const RESETS_AT_ONCE = 32;

export interface QueueLag {
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
  /** The member that owns it; '' = none. */
  readonly owner: string;
  /** null: never committed. */
  readonly committedOffset: number | null;
  readonly maxOffset: number;
  /** Messages stored and not committed. */
  readonly lag: number;
  /** How long the oldest of them has been stored, by log time; 0 when there is none, null when it could not be read. */
  readonly ageMs: number | null;
}

/** A broker group that could not be asked. */
export interface FailedGroup {
  readonly brokerName: string;
  readonly error: LedgerError;
}

export interface Backlog {
  /** Sum over the queues; without those of `failed`. */
  readonly lag: number;
  /** Of the oldest message of all. */
  readonly ageMs: number;
  readonly queues: readonly QueueLag[];
  readonly failed: readonly FailedGroup[];
}

/** first, last: of what is retained now · timeMs: the first message stored at or after · offset: of one queue. */
export type ResetTarget = 'first' | 'last' | { readonly timeMs: number } | { readonly offset: number };

export interface ResetScope {
  /** Default: all broker groups of the topic. */
  readonly brokerName?: string;
  /** Default: all queues. */
  readonly queueId?: number;
}

export interface QueueReset {
  readonly brokerName: string;
  readonly queueId: number;
  /** null: never committed. */
  readonly previous: number | null;
  readonly offset: number;
}

export interface ResetOutcome {
  readonly queues: readonly QueueReset[];
  /** Broker groups that could not be asked, or refused: their other queues may have moved. Again is fine. */
  readonly failed: readonly FailedGroup[];
}

/** @throws LedgerError GROUP_NOT_FOUND when all broker groups say so */
export async function backlog(port: GroupPort, group: string, topic: string, timeoutMs: number): Promise<Backlog> {
  const { answers, failed } = await askAll(await port.brokerNames(), async (brokerName): Promise<QueueLag[]> => {
    const { body } = await port.askLeader(brokerName, Op.groupLag, { group, topic }, timeoutMs);
    return body.queues.map(({ oldestTimeMs, committedOffset, ...queue }) => ({
      ...queue,
      brokerName,
      committedOffset: committedOffset < 0 ? null : committedOffset,
      ageMs: queue.lag === 0 ? 0 : oldestTimeMs < 0 ? null : Math.max(0, body.logTimeMs - oldestTimeMs),
    }));
  });
  const known = failed.filter(({ error }) => error.code !== 'GROUP_NOT_FOUND');
  if (answers.length === 0 && known.length === 0) throw new LedgerError('GROUP_NOT_FOUND', group);
  const queues = answers.flat();
  return {
    lag: queues.reduce((sum, { lag }) => sum + lag, 0),
    ageMs: queues.reduce((oldest, { ageMs }) => Math.max(oldest, ageMs ?? 0), 0),
    queues,
    failed: known,
  };
}

/**
 * Moves the committed offsets of a group, either way, while its members go on: each takes its queues up again at the new place.
 * What a handler has at hand then may be handled twice.
 * @throws LedgerError TOPIC_NOT_FOUND, QUEUE_NOT_FOUND, BAD_REQUEST (an offset without one queue)
 */
export async function resetOffsets(
  port: GroupPort,
  group: string,
  topic: string,
  to: ResetTarget,
  scope: ResetScope,
  timeoutMs: number,
): Promise<ResetOutcome> {
  const placed = await queuesOf(port, topic, scope, timeoutMs);
  const chosen = placed.queues.length;
  if (chosen === 0 && placed.failed.length === 0) {
    throw placed.found ? new LedgerError('QUEUE_NOT_FOUND', `${topic} has no such queue`) : topicNotFound(topic);
  }
  if (typeof to === 'object' && 'offset' in to && chosen > 1)
    throw new LedgerError('BAD_REQUEST', 'an offset is of one queue: give broker group and queue');
  const done: QueueReset[] = [];
  const one = async (brokerName: string, queueId: number): Promise<void> => {
    const offset = await targetOffset(port, brokerName, topic, queueId, to, timeoutMs);
    const { body } = await port.askLeader(brokerName, Op.groupResetOffset, { group, topic, queueId, offset }, timeoutMs);
    done.push({ brokerName, queueId, previous: body.previous < 0 ? null : body.previous, offset });
  };
  const byGroup = Map.groupBy(placed.queues, ({ brokerName }) => brokerName);
  const { failed } = await askAll([...byGroup.keys()], async (brokerName) => {
    const queues = byGroup.get(brokerName) ?? [];
    for (let at = 0; at < queues.length; at += RESETS_AT_ONCE) {
      const settled = await Promise.allSettled(queues.slice(at, at + RESETS_AT_ONCE).map(({ queueId }) => one(brokerName, queueId)));
      for (const result of settled) if (result.status === 'rejected') throw result.reason;
    }
  });
  const queues = done.toSorted((a, b) => (a.brokerName === b.brokerName ? a.queueId - b.queueId : a.brokerName < b.brokerName ? -1 : 1));
  return { queues, failed: [...placed.failed, ...failed] };
}

async function queuesOf(
  port: GroupPort,
  topic: string,
  { brokerName: wantedGroup, queueId: wantedQueue }: ResetScope,
  timeoutMs: number,
): Promise<{ found: boolean; queues: { brokerName: string; queueId: number }[]; failed: readonly FailedGroup[] }> {
  const names = wantedGroup === undefined ? await port.brokerNames() : [wantedGroup];
  const { answers, failed } = await askAll(names, async (brokerName) => {
    const { body } = await port.askLeader(brokerName, Op.topicList, { topics: [topic] }, timeoutMs);
    return (body.topics[0]?.queues ?? []).map(({ queueId }) => ({ brokerName, queueId }));
  });
  const all = answers.flat();
  return { found: all.length > 0, queues: all.filter(({ queueId }) => wantedQueue === undefined || queueId === wantedQueue), failed };
}

async function targetOffset(
  port: GroupPort,
  brokerName: string,
  topic: string,
  queueId: number,
  to: ResetTarget,
  timeoutMs: number,
): Promise<number> {
  if (typeof to === 'object' && 'offset' in to) return to.offset;
  const timeMs = typeof to === 'object' ? to.timeMs : 0;
  const { body } = await port.askLeader(brokerName, Op.queueRange, { topic, queueId, timeMs }, timeoutMs);
  if (to === 'first') return body.minOffset;
  return to === 'last' ? body.maxOffset : body.timeOffset;
}

async function askAll<T>(
  brokerNames: readonly string[],
  ask: (brokerName: string) => Promise<T>,
): Promise<{ readonly answers: readonly T[]; readonly failed: readonly FailedGroup[] }> {
  const answers: T[] = [];
  const failed: FailedGroup[] = [];
  await Promise.all(
    brokerNames.map(async (brokerName) => {
      try {
        answers.push(await ask(brokerName));
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
        failed.push({ brokerName, error });
      }
    }),
  );
  return { answers, failed };
}
