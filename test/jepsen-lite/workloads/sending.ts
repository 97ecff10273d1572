import { LedgerError, type Message, type Producer, type SendResult } from '../../../src/index.ts';
import type { SentRun, StoredRun } from '../history.ts';
import { encodeMessage } from '../message-body.ts';
import { codeOf, type Lane, type Outcome } from './lane.ts';
import { queueName } from './workload.ts';

/** `async`: all sends at once, each by itself · `batch`: stored together or not at all · `single`: one message, awaited. */
export type SendMode = 'single' | 'batch' | 'async';

export interface SendPlan {
  readonly topic: string;
  readonly mode: SendMode;
  readonly stream: string;
  readonly first: number;
  readonly count: number;
  /** '' = none. */
  readonly key: string;
  readonly sizeBytes: number;
  /** What besides the body is said to the client, and written to the history. */
  readonly deferral?: Pick<Message, 'delayMs' | 'delayTimeLevel' | 'deliverAt'>;
}

type Settled = SendResult | LedgerError;

/** Sends, and writes down what came of each message. */
export function send(lane: Lane, producer: Producer, plan: SendPlan): Promise<Outcome> {
  const { topic, mode, stream, first, count, key, sizeBytes, deferral = {} } = plan;
  const said = { topic, mode, ...deferral };
  const sent: SentRun = [stream, first, count];
  return lane.run('send', { ...said, runs: [sent] }, async () => {
    const messages = Array.from({ length: count }, (_, at) => ({
      topic,
      body: encodeMessage(stream, first + at, sizeBytes),
      ...(key === '' ? {} : { orderingKey: key }),
      ...deferral,
    }));
    const settled =
      mode === 'batch' ? await sendTogether(producer, messages) : await Promise.all(messages.map((each) => sendOne(producer, each)));
    return outcomeOf(said, stream, first, settled);
  });
}

async function sendOne(producer: Producer, message: Message): Promise<Settled> {
  try {
    return await producer.send(message);
  } catch (error) {
    codeOf(error);
    return error as LedgerError;
  }
}

async function sendTogether(producer: Producer, messages: readonly Message[]): Promise<readonly Settled[]> {
  try {
    return await producer.sendBatch(messages);
  } catch (error) {
    codeOf(error);
    return messages.map(() => error as LedgerError);
  }
}

/** By the client's promise: only OUTCOME_UNKNOWN leaves it open whether a message is stored. */
function outcomeOf(said: object, stream: string, first: number, settled: readonly Settled[]): Outcome {
  const stored: [string, number, number, string, number | null][] = [];
  const unknown: [string, number, number][] = [];
  const failed: [string, number, number][] = [];
  const codes = new Set<string>();
  settled.forEach((result, at) => {
    const n = first + at;
    if (result instanceof LedgerError) {
      codes.add(result.code);
      extend(result.code === 'OUTCOME_UNKNOWN' ? unknown : failed, stream, n);
      return;
    }
    const queue = queueName(result);
    const last = stored.at(-1);
    const follows = last !== undefined && last[1] + last[2] === n && last[3] === queue;
    const adjoins = follows && (result.offset === null ? last[4] === null : last[4] !== null && last[4] + last[2] === result.offset);
    if (adjoins) last[2]++;
    else stored.push([stream, n, 1, queue, result.offset]);
  });
  const runs: readonly StoredRun[] = stored;
  if (codes.size === 0) return { type: 'ok', value: { ...said, runs } };
  const error = [...codes].join(' ');
  if (stored.length === 0 && unknown.length === 0) return { type: 'fail', value: { ...said, runs: failed }, error };
  return { type: 'info', value: { ...said, runs, unknown, failed }, error };
}

function extend(runs: [string, number, number][], stream: string, n: number): void {
  const last = runs.at(-1);
  if (last !== undefined && last[1] + last[2] === n) last[2]++;
  else runs.push([stream, n, 1]);
}
