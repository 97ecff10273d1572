import { LedgerError } from '../protocol/errors.ts';
import { topicNotFound } from '../protocol/names.ts';
import type { MessageQueryResponse, QueryCursor } from '../protocol/query-requests.ts';
import { Op, type RequestOp, type Requests, type Responses } from '../protocol/requests.ts';
import { ReceivedBatch, ReceivedMessage } from './message.ts';

/** Messages of one answer when nothing is said. */
const DEFAULT_MAX = 32;
const MAX_PER_PAGE = 256;

export interface MessageQuery {
  readonly topic: string;
  /** One of the message's keys, whole. A message is found by its first eight. */
  readonly key: string;
  /** Log time (storeTimeMs), ms since 1970, both included. Default: all that is retained. */
  readonly fromTimeMs?: number;
  readonly toTimeMs?: number;
  /** Messages of this answer at most, 1…256; default 32. */
  readonly max?: number;
  /** `next` of an earlier answer to the same query: goes on there. */
  readonly cursor?: string;
  /** For how long a broker group without a leader is asked; default: the client's requestTimeoutMs. */
  readonly timeoutMs?: number;
}

/**
 * found: all was looked at, and something was found · notFound: all was looked at, nothing was · truncated: there may be more,
 * ask for the next page · failed: it could not be asked, which says nothing about what it has.
 */
export type SearchStatus = 'found' | 'notFound' | 'truncated' | 'failed';

export interface SearchedGroup {
  readonly brokerName: string;
  readonly status: SearchStatus;
  /** Why it failed. */
  readonly error?: LedgerError;
}

export interface MessageQueryResult {
  /** failed when one group failed, though others found messages; else truncated when one was. */
  readonly status: SearchStatus;
  /** Newest first, over all broker groups. */
  readonly messages: readonly ReceivedMessage[];
  /** Those that were asked for this page. */
  readonly groups: readonly SearchedGroup[];
  /** Give it back as `cursor` for the next page; null: who answered has nothing more. Groups that failed are asked again by it. */
  readonly next: string | null;
}

/** How a search reaches the broker groups. */
export interface GroupPort {
  /** All groups of the cluster, those that are down now, too. */
  brokerNames(): Promise<readonly string[]>;
  /** Follows redirects and elections. Rejects with LedgerError. */
  askLeader<O extends RequestOp>(
    brokerName: string,
    op: O,
    body: Requests[O],
    timeoutMs: number,
  ): Promise<{ readonly body: Responses[O]; readonly raw: Uint8Array }>;
}

/** Where each group goes on. A group that is done is not in it. */
type Cursors = ReadonlyMap<string, QueryCursor | null>;

interface Hit {
  readonly message: ReceivedMessage;
  readonly cursor: QueryCursor;
}

interface Answered {
  readonly brokerName: string;
  readonly before: QueryCursor | null;
  readonly hits: readonly Hit[];
  readonly next: QueryCursor | null;
  readonly error: LedgerError | null;
}

/** @throws LedgerError TOPIC_NOT_FOUND when all groups say so, BAD_NAME (key), BAD_REQUEST (cursor, times) */
export async function queryMessages(port: GroupPort, query: MessageQuery, timeoutMs: number): Promise<MessageQueryResult> {
  const { topic, key, fromTimeMs = 0, toTimeMs = Number.MAX_SAFE_INTEGER } = query;
  const max = Math.min(query.max ?? DEFAULT_MAX, MAX_PER_PAGE);
  const cursors = query.cursor === undefined ? await everywhere(port) : decodeCursors(query.cursor);
  const ask = async ([brokerName, before]: readonly [string, QueryCursor | null]): Promise<Answered> => {
    const request = { topic, key, fromTimeMs, toTimeMs, max, ...(before === null ? {} : { before }) };
    try {
      const { body, raw } = await port.askLeader(brokerName, Op.messageQuery, request, timeoutMs);
      return { brokerName, before, hits: hitsOf(topic, brokerName, body, raw), next: body.next, error: null };
    } catch (error) {
      if (!(error instanceof LedgerError) || error.code === 'BAD_NAME' || error.code === 'BAD_REQUEST') throw error;
      return { brokerName, before, hits: [], next: null, error };
    }
  };
  const answers = await Promise.all([...cursors].map(ask));
  if (answers.length > 0 && answers.every(({ error }) => error?.code === 'TOPIC_NOT_FOUND')) throw topicNotFound(topic);
  // A group without a place in the topic has none of its messages: that is an answer.
  return merged(
    answers.map((answer) => (answer.error?.code === 'TOPIC_NOT_FOUND' ? { ...answer, error: null } : answer)),
    max,
  );
}

async function everywhere(port: GroupPort): Promise<Cursors> {
  return new Map((await port.brokerNames()).map((brokerName) => [brokerName, null]));
}

function hitsOf(topic: string, brokerName: string, { found }: MessageQueryResponse, raw: Uint8Array): Hit[] {
  let at = 0;
  let bytes = raw.subarray(0, 0);
  return found.flatMap(({ queueId, baseOffset, logTimeMs, position, sizeBytes, messageIndexes, reference }) => {
    if (sizeBytes > 0) bytes = raw.subarray(at, at + sizeBytes);
    at += sizeBytes;
    const batch = new ReceivedBatch(bytes, { topic, brokerName, queueId }, baseOffset, logTimeMs, reference);
    return messageIndexes.map((messageIndex) => ({ message: messageAt(batch, messageIndex), cursor: { position, messageIndex } }));
  });
}

function messageAt(batch: ReceivedBatch, messageIndex: number): ReceivedMessage {
  return batch.reference === null ? new ReceivedMessage(batch, messageIndex) : batch.at(batch.baseOffset);
}

/** The newest `max` of all; what a group gave beyond them it gives again on the next page. */
function merged(answers: readonly Answered[], max: number): MessageQueryResult {
  const all = answers.flatMap((answer) => answer.hits.map((hit, order) => ({ hit, answer, order })));
  all.sort((a, b) => b.hit.message.storeTimeMs - a.hit.message.storeTimeMs || byName(a.answer, b.answer) || a.order - b.order);
  const taken = all.slice(0, max);
  const cursors = new Map<string, QueryCursor | null>();
  const groups = answers.map((answer): SearchedGroup => {
    const { brokerName, before, hits, next, error } = answer;
    if (error !== null) {
      cursors.set(brokerName, before);
      return { brokerName, status: 'failed', error };
    }
    const mine = taken.filter((each) => each.answer === answer);
    const whole = mine.length === hits.length;
    if (!whole) cursors.set(brokerName, mine.at(-1)?.hit.cursor ?? before);
    else if (next !== null) cursors.set(brokerName, next);
    else return { brokerName, status: hits.length > 0 ? 'found' : 'notFound' };
    return { brokerName, status: 'truncated' };
  });
  const has = (status: SearchStatus): boolean => groups.some((group) => group.status === status);
  const status = has('failed') ? 'failed' : has('truncated') ? 'truncated' : taken.length > 0 ? 'found' : 'notFound';
  return { status, messages: taken.map(({ hit }) => hit.message), groups, next: has('truncated') ? encodeCursors(cursors) : null };
}

function byName(a: Answered, b: Answered): number {
  return a.brokerName < b.brokerName ? -1 : Number(a.brokerName > b.brokerName);
}

function encodeCursors(cursors: Cursors): string {
  const rows = [...cursors].map(([brokerName, cursor]) => [brokerName, cursor?.position ?? -1, cursor?.messageIndex ?? 0]);
  return Buffer.from(JSON.stringify(rows)).toString('base64url');
}

/** @throws LedgerError BAD_REQUEST */
function decodeCursors(text: string): Cursors {
  try {
    const rows = JSON.parse(Buffer.from(text, 'base64url').toString()) as [string, number, number][];
    const cursors = rows.map(([brokerName, position, messageIndex]): [string, QueryCursor | null] => {
      if (typeof brokerName !== 'string' || !Number.isSafeInteger(position) || !Number.isSafeInteger(messageIndex)) throw new TypeError();
      return [brokerName, position < 0 ? null : { position, messageIndex }];
    });
    return new Map(cursors);
  } catch {
    throw new LedgerError('BAD_REQUEST', 'cursor: give `next` of an earlier answer as it is');
  }
}

/**
 * The message of this id, from whichever group has it.
 * @throws LedgerError MESSAGE_NOT_FOUND when every group was asked and none has it; what a group failed with when none of the others has it
 */
export async function findMessage(port: GroupPort, id: string, timeoutMs: number): Promise<FoundMessage> {
  const request = { id, topic: '', queueId: 0, offset: 0 };
  const asked = (await port.brokerNames()).map(async (brokerName) => {
    const { body, raw } = await port.askLeader(brokerName, Op.messageGet, request, timeoutMs);
    return foundMessage(brokerName, body, raw);
  });
  try {
    return await Promise.any(asked);
  } catch (error) {
    const failures = (error as AggregateError).errors as unknown[];
    const other = failures.find((failure) => !(failure instanceof LedgerError && failure.code === 'MESSAGE_NOT_FOUND'));
    throw other ?? new LedgerError('MESSAGE_NOT_FOUND', id);
  }
}

export interface FoundMessage {
  readonly message: ReceivedMessage;
  /** Of its batch in the CommitLog of its group. */
  readonly position: number;
  /** A delayed message that is in no queue yet is due then, ms of log time; null: it is in its queue. */
  readonly pendingUntilMs: number | null;
}

export function foundMessage(brokerName: string, body: Responses[typeof Op.messageGet], raw: Uint8Array): FoundMessage {
  const queue = { topic: body.topic, brokerName, queueId: body.queueId };
  const batch = new ReceivedBatch(raw, queue, body.baseOffset, body.logTimeMs, body.reference);
  return { message: messageAt(batch, body.messageIndex), position: body.position, pendingUntilMs: body.pendingUntilMs ?? null };
}
