import type { ReceivedMessage } from '../../../src/client/message.ts';
import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { dlqTopicOf, retryTopicOf } from '../../../src/protocol/names.ts';
import type { Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, finishing, insist, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'retried';
const GROUP = 'retriers';
const QUEUES = 2;

interface Plan {
  readonly baseMs: number;
  readonly maxReconsumeTimes: number;
  readonly consumeTimeoutMs: number;
  readonly failing: number;
}

/** What lies at one place of the retry queue or of the dead letters. */
interface Place {
  readonly at: string;
  readonly attempts: number;
  readonly storeTimeMs: number;
}

/**
 * Retries and dead letters (F22, F23). What was stored is handled in the end or is a dead letter; a failed attempt makes one place in the
 * retry queue, however often its send-back is asked for and by whom; no retry has its place before its delay is over, in log time.
 */
class RetryReferee {
  readonly stored = new Map<string, SendResult>();
  readonly handled = new Set<string>();
  readonly #baseMs: number;
  readonly #retries = new Map<string, Place[]>();
  readonly #dead = new Map<string, Place>();
  readonly #ids = new Map<string, string>();

  constructor(baseMs: number) {
    this.#baseMs = baseMs;
  }

  retry(message: ReceivedMessage): void {
    const place = this.#place(message);
    if (place === null) return;
    const before = this.#retries.get(message.msgId) ?? [];
    this.#retries.set(message.msgId, before);
    const twice = before.find(({ attempts }) => attempts === place.attempts);
    if (twice !== undefined)
      throw new Violation('retried twice', `${message.msgId}, attempt ${place.attempts}, lies at ${twice.at} and at ${place.at}`);
    const last = before.at(-1);
    const delayMs = this.#baseMs * 2 ** (place.attempts - 1);
    if (last !== undefined && place.storeTimeMs < last.storeTimeMs + delayMs) {
      throw new Violation(
        'retried early',
        `${message.msgId}, attempt ${place.attempts}: ${place.storeTimeMs - last.storeTimeMs} ms of log time after the one before, not ${delayMs}`,
      );
    }
    before.push(place);
  }

  dead(message: ReceivedMessage): void {
    const place = this.#place(message);
    if (place === null) return;
    const twice = this.#dead.get(message.msgId);
    if (twice !== undefined) throw new Violation('retried twice', `${message.msgId} is dead at ${twice.at} and at ${place.at}`);
    this.#dead.set(message.msgId, place);
  }

  /** @returns null when that place was seen before; what lies there never changes */
  #place(message: ReceivedMessage): Place | null {
    const { queue, offset, msgId, reconsumeTimes: attempts, storeTimeMs } = message;
    const at = `${queue.brokerName}/${queue.topic}@${offset}`;
    const known = this.#ids.get(at);
    if (known !== undefined && known !== msgId) throw new Violation('retried twice', `${known} and ${msgId} both lie at ${at}`);
    if (known !== undefined) return null;
    this.#ids.set(at, msgId);
    if (message.topic !== TOPIC) throw new Violation('retried elsewhere', `${msgId} at ${at} says that it is of ${message.topic}`);
    return { at, attempts, storeTimeMs };
  }

  unfinished(retained: Retained): string | null {
    for (const [msgId, { brokerName, topic, queueId, offset }] of this.stored) {
      const done = this.handled.has(msgId) || this.#dead.has(msgId);
      if (done || !retained({ brokerName, topic, queueId, offset: offset ?? 0 })) this.stored.delete(msgId);
      else return `${msgId} was stored at ${brokerName}/${topic}/${queueId}@${offset}, and was neither handled nor given up`;
    }
    return null;
  }
}

async function produce(io: Io, stage: Stage, referee: RetryReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const producer = client.producer();
  const number = stage.nextProducer();
  let n = 0;
  const send = async (): Promise<void> => {
    const body = encodeBody(number, 0, n, prng.between(0, 200));
    stage.referee.fabricated.sent(number, n++);
    const result = await producer.send({ topic: TOPIC, body });
    referee.stored.set(result.msgId, result);
  };
  const meanMs = 30 + prng.exponential(150);
  while (stage.open) {
    const settled = stage.begin();
    // Neighbours in time come into one batch: a retry is one message of it.
    const burst = Array.from({ length: prng.pick([1, 1, 4]) }, send);
    void Promise.allSettled(burst).then(settled);
    await sleep(io, prng.exponential(meanMs));
  }
}

async function consume(io: Io, stage: Stage, referee: RetryReferee, plan: Plan): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const consumer = client.consumer({
    group: GROUP,
    topics: [TOPIC],
    consumeFromWhere: 'first',
    concurrency: prng.pick([1, 4, 20]),
    maxReconsumeTimes: plan.maxReconsumeTimes,
    consumeTimeoutMs: plan.consumeTimeoutMs,
    reconsumeBackoff: 'exponential',
    reconsumeBackoffBaseMs: plan.baseMs,
    reconsumeBackoffCapMs: 3_600_000,
    reconsumeBackoffJitter: false,
    handler: async (message) => {
      await sleep(io, stage.open && prng.chance(0.05) ? 2 * plan.consumeTimeoutMs : prng.exponential(10));
      if (stage.open && prng.chance(plan.failing)) throw new Error('not now');
      referee.handled.add(message.msgId);
    },
  });
  await insist(io, () => consumer.start());
  await new Promise<void>(() => {});
}

/** Reads the retry queues and the dead letters of all broker groups as they are. */
async function read(io: Io, stage: Stage, referee: RetryReferee, brokerNames: readonly string[]): Promise<void> {
  const client = clientOf(io, stage);
  const puller = client.pullConsumer();
  const queues = brokerNames.flatMap((brokerName) =>
    [retryTopicOf(GROUP), dlqTopicOf(GROUP)].map((topic) => ({ topic, brokerName, queueId: 0 })),
  );
  const next = new Map(queues.map((queue) => [queue, 0]));
  for (;;) {
    for (const queue of queues) {
      // Not there yet, nobody leads, the answer was lost: the next round sees it.
      const pulled = await puller.pull(queue, next.get(queue) as number).catch(() => null);
      for (const message of pulled?.messages ?? []) {
        if (queue.topic === retryTopicOf(GROUP)) referee.retry(message);
        else referee.dead(message);
      }
      if (pulled !== null) next.set(queue, pulled.nextOffset);
    }
    await sleep(io, 200);
  }
}

export function makeRetries(prng: Prng, brokerNames: readonly string[]): Workload {
  const plan: Plan = {
    baseMs: prng.between(20, 300),
    maxReconsumeTimes: prng.between(0, 3),
    consumeTimeoutMs: prng.between(200, 1_000),
    failing: prng.pick([0.1, 0.4, 0.8]),
  };
  const referee = new RetryReferee(plan.baseMs);
  const consumers = Array.from({ length: prng.between(1, 3) }, () => (io: Io, stage: Stage) => consume(io, stage, referee, plan));
  return {
    actors: [(io, stage) => produce(io, stage, referee), ...consumers, (io, stage) => read(io, stage, referee, brokerNames)],
    ...finishing(referee),
  };
}
