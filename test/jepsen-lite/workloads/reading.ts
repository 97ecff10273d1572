import type { ConsumeContext, LedgerClient, MessageQueue, PullConsumer, ReceivedMessage } from '../../../src/index.ts';
import { decodeMessage } from '../message-body.ts';
import type { Lane, Outcome } from './lane.ts';
import { queueName, waitFor } from './workload.ts';

type Run = [offset: number, count: number, stream: string, n: number | string, logMs?: number];

/** Reads messages into runs: as long as offsets and numbers both go up by one. */
class Runs {
  readonly runs: Run[] = [];
  readonly #withLogTime: boolean;

  constructor(withLogTime: boolean) {
    this.#withLogTime = withLogTime;
  }

  add(message: ReceivedMessage): void {
    const { stream, n } = decodeMessage(message.body);
    const last = this.runs.at(-1);
    const follows =
      last !== undefined &&
      last[2] === stream &&
      typeof n === 'number' &&
      typeof last[3] === 'number' &&
      last[3] + last[1] === n &&
      last[0] + last[1] === message.offset;
    if (follows && (!this.#withLogTime || last[4] === message.storeTimeMs)) last[1]++;
    else this.runs.push(this.#withLogTime ? [message.offset, 1, stream, n, message.storeTimeMs] : [message.offset, 1, stream, n]);
  }
}

interface Poll {
  readonly queue: string;
  readonly token: number;
  readonly runs: Runs;
}

/** How long deliveries are gathered to one `poll`, and how many. */
const GATHER_MS = 100;
const GATHER_MESSAGES = 2_000;

/** Writes down what a member of a group is given: one `poll` for all calls of its handlers within a moment. */
export class PollRecorder {
  readonly #lane: Lane;
  readonly #said: { readonly group: string; readonly member: string };
  readonly #withLogTime: boolean;
  readonly #eachCall: boolean;
  #polls: Poll[] = [];
  #messages = 0;
  #complete: ((outcome: Outcome) => void) | null = null;
  #timer: NodeJS.Timeout | null = null;

  /** @param options eachCall: write before the handler returns, so that nothing is acknowledged that is not in the history */
  constructor(lane: Lane, group: string, member: string, options: { readonly withLogTime?: boolean; readonly eachCall?: boolean } = {}) {
    this.#lane = lane;
    this.#said = { group, member };
    this.#withLogTime = options.withLogTime ?? false;
    this.#eachCall = options.eachCall ?? false;
  }

  /** The handler: `batchHandler: recorder.take`. */
  readonly take = (messages: readonly ReceivedMessage[], { queue, fencingToken }: Pick<ConsumeContext, 'queue' | 'fencingToken'>): void => {
    this.#complete ??= this.#lane.begin('poll', this.#said);
    const name = queueName(queue);
    let poll = this.#polls.at(-1);
    if (poll?.queue !== name || poll.token !== fencingToken) {
      poll = { queue: name, token: fencingToken, runs: new Runs(this.#withLogTime) };
      this.#polls.push(poll);
    }
    for (const message of messages) poll.runs.add(message);
    this.#messages += messages.length;
    if (this.#eachCall || this.#messages >= GATHER_MESSAGES) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
  };

  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const polls = this.#polls.map(({ queue, token, runs }) => ({ queue, token, runs: runs.runs }));
    this.#complete?.({ type: 'ok', value: { ...this.#said, polls } });
    this.#complete = null;
    this.#polls = [];
    this.#messages = 0;
  }
}

export interface ReadOptions {
  readonly withLogTime?: boolean;
  /** For all queues of the topic. */
  readonly timeoutMs: number;
}

const READ_MESSAGES = 8_192;
const READ_BYTES = 4 * 1024 * 1024;

/** Reads all queues of a topic from their start to their end: what all else is held against. */
export async function readWholeTopic(lane: Lane, client: LedgerClient, topic: string, options: ReadOptions): Promise<void> {
  const puller = client.pullConsumer();
  const deadlineMs = performance.now() + options.timeoutMs;
  const leftMs = (): number => Math.max(0, deadlineMs - performance.now());
  let queues: readonly MessageQueue[] = [];
  const listed = await waitFor(async () => {
    queues = await puller.queues(topic).catch(() => []);
    return queues.length > 0;
  }, leftMs());
  if (!listed) return;
  for (const queue of queues) await readWholeQueue(lane, puller, queue, options.withLogTime ?? false, leftMs);
}

async function readWholeQueue(
  lane: Lane,
  puller: PullConsumer,
  queue: MessageQueue,
  withLogTime: boolean,
  leftMs: () => number,
): Promise<void> {
  let from = -1;
  let end = Number.POSITIVE_INFINITY;
  await waitFor(
    async () => {
      const { type, value } = await lane.ask('read', { queue: queueName(queue), from, final: true }, async () => {
        const start = from < 0 ? (await puller.range(queue)).minOffset : from;
        const { messages, nextOffset, minOffset, maxOffset } = await puller.pull(queue, start, {
          maxMessages: READ_MESSAGES,
          maxBytes: READ_BYTES,
        });
        const runs = new Runs(withLogTime);
        for (const message of messages) runs.add(message);
        return { from: start, next: nextOffset, min: minOffset, max: maxOffset, runs: runs.runs };
      });
      if (type === 'ok') ({ next: from, max: end } = value as { next: number; max: number });
      return from >= end;
    },
    leftMs(),
    0,
  );
}

/** Waits until the group has committed everything, and writes down how far it came. */
export async function drainGroup(lane: Lane, client: LedgerClient, group: string, topic: string, timeoutMs: number): Promise<void> {
  await lane.run('drain', { group, topic }, async () => {
    let committed: Record<string, number> = {};
    const drained = await waitFor(
      async () => {
        const backlog = await client
          .admin()
          .backlog(group, topic)
          .catch(() => null);
        if (backlog === null || backlog.failed.length > 0) return false;
        committed = Object.fromEntries(backlog.queues.map((queue) => [queueName(queue), queue.committedOffset ?? 0]));
        return backlog.lag === 0;
      },
      timeoutMs,
      200,
    );
    return drained
      ? { type: 'ok', value: { group, topic, committed } }
      : { type: 'info', value: { group, topic, committed }, error: `not drained within ${timeoutMs} ms` };
  });
}
