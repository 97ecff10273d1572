import type { PoppedMessage } from '../../../src/client/pop/popped-message.ts';
import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import type { Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, finishing, type Retained, sleep, type Workload } from './workload.ts';

const TOPIC = 'popped';
const GROUP = 'poppers';
const QUEUES = 2;
const MAX_INVISIBLE_MS = 3_000;

/**
 * Pop consumption (F25). What a consumer acknowledged, and was told so, is never given to anybody again; what was stored is handled; what
 * one consumer holds nobody else is given before its time, counted from the answer that gave it by a clock that runs like the log's.
 */
class PopReferee {
  readonly stored = new Map<string, SendResult>();
  /** The n-th confirmed acknowledgement. */
  readonly order = new Map<string, number>();
  /** Acknowledged by a consumer that may never have heard the answer: done, or given again. */
  readonly tried = new Set<string>();

  /** @param ackedBefore what was acknowledged when the pop was asked for: its answer may be long on its way, and others be given the same meanwhile */
  given(popped: PoppedMessage, ackedBefore: number): void {
    const { msgId } = popped.message;
    if ((this.order.get(msgId) ?? Number.POSITIVE_INFINITY) < ackedBefore)
      throw new Violation('popped again', `${msgId} was acknowledged, and given again`);
  }

  unfinished(retained: Retained): string | null {
    for (const [msgId, { brokerName, topic, queueId, offset }] of this.stored) {
      if (this.tried.has(msgId) || !retained({ brokerName, topic, queueId, offset: offset ?? 0 })) this.stored.delete(msgId);
      else return `${msgId} was stored at ${brokerName}/${topic}/${queueId}@${offset}, and no pop consumer has acknowledged it`;
    }
    return null;
  }
}

async function produce(io: Io, stage: Stage, referee: PopReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const producer = client.producer();
  const meanMs = 30 + prng.exponential(150);
  while (stage.open) {
    const settled = stage.begin();
    for (let burst = prng.pick([1, 1, 5]); burst > 1; burst--) void producer.send({ topic: TOPIC, body: 'x' }).catch(() => {});
    producer
      .send({ topic: TOPIC, body: 'x' })
      .then((result) => referee.stored.set(result.msgId, result))
      .catch(() => {})
      .finally(settled);
    await sleep(io, prng.exponential(meanMs));
  }
}

async function consume(io: Io, stage: Stage, referee: PopReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const consumer = client.popConsumer({
    group: GROUP,
    topic: TOPIC,
    consumeFromWhere: 'first',
    invisibleMs: prng.between(200, MAX_INVISIBLE_MS),
    maxAttempts: 1_000,
    waitMs: 500,
  });
  const failing = prng.chance(0.3) ? 0.3 : 0;
  for (;;) {
    try {
      const ackedBefore = referee.order.size;
      const popped = await consumer.pop(prng.pick([1, 4, 32]));
      for (const one of popped) referee.given(one, ackedBefore);
      await Promise.all(popped.map((one) => handle(io, stage, referee, prng, one, stage.open && prng.chance(failing))));
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      await sleep(io, 100);
    }
  }
}

async function handle(io: Io, stage: Stage, referee: PopReferee, prng: Prng, one: PoppedMessage, fails: boolean): Promise<void> {
  // Sometimes longer than it is kept from the others.
  await sleep(io, prng.exponential(stage.open ? 100 : 5));
  try {
    if (prng.chance(0.1)) await one.changeInvisibleTime(prng.between(0, MAX_INVISIBLE_MS));
    if (fails) return;
    referee.tried.add(one.message.msgId);
    await one.ack();
    referee.order.set(one.message.msgId, referee.order.size);
  } catch (error) {
    // Too late, or nobody answered: then it may come again.
    if (!(error instanceof LedgerError)) throw error;
  }
}

export function makePop(prng: Prng): Workload {
  const referee = new PopReferee();
  const consumers = Array.from({ length: prng.between(1, 4) }, () => (io: Io, stage: Stage) => consume(io, stage, referee));
  return {
    actors: [(io, stage) => produce(io, stage, referee), ...consumers],
    ...finishing(referee),
  };
}
