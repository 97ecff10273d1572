import type { LedgerClient } from '../../../src/client/ledger-client.ts';
import type { ReceivedMessage } from '../../../src/client/message.ts';
import type { MessageQueue } from '../../../src/client/message-queue.ts';
import type { Producer } from '../../../src/client/producer.ts';
import type { PullConsumer } from '../../../src/client/pull-consumer.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import type { Stage } from '../actors.ts';
import { Violation } from '../checkers/violation.ts';
import { decodeBody, encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, ensureTopic, sleep, type Workload } from './workload.ts';

const TOPIC = 'delayed';
const QUEUES = 2;
/** Of levels 1 and 2. */
const LEVEL_MS = [1_000, 5_000] as const;
const MAX_DELAY_MS = 6_000;
/** Of a few, which the log's start comes past while they wait. */
const LONG_DELAY_MS = 15_000;

/**
 * Delayed delivery (F13): none early by the group's log time, none twice, none lost, and none after a cancellation that was confirmed.
 * Log time never goes back in the log, so a message is due no earlier than its delay after that of any entry of its group that was read
 * before it was sent. (What a leader's clock says of log time is no promise: the next leader begins behind the last entry.)
 */
class DelayReferee {
  /** Confirmed, not seen yet: the broker group, by body. */
  readonly waiting = new Map<string, string>();
  /** Where each was seen. */
  readonly seen = new Map<string, string>();
  /** The log times that were known before each was sent, and its delay. */
  readonly sends = new Map<string, { readonly logTimes: ReadonlyMap<string, number>; readonly delayMs: number }>();
  readonly cancelled = new Set<string>();
  /** Newest log time of an entry that was read, by group. */
  readonly logTimes = new Map<string, number>();

  read(message: ReceivedMessage): void {
    const { producer, n } = decodeBody(message.body);
    const body = `${producer}:${n}`;
    const { brokerName, queueId } = message.queue;
    const place = `${brokerName}/${queueId}@${message.offset}`;
    const before = this.seen.get(body);
    if (before !== undefined && before !== place) throw new Violation('delivered twice', `${body} at ${before} and at ${place}`);
    this.seen.set(body, place);
    this.waiting.delete(body);
    if (this.cancelled.has(body)) throw new Violation('delivered though cancelled', `${body} at ${place}`);
    const sent = this.sends.get(body);
    const earliestMs = (sent?.logTimes.get(brokerName) ?? 0) + (sent?.delayMs ?? 0);
    if (message.storeTimeMs < earliestMs)
      throw new Violation('early', `${body} at ${place}: at ${message.storeTimeMs}, not due before ${earliestMs}`);
    this.logTimes.set(brokerName, Math.max(message.storeTimeMs, this.logTimes.get(brokerName) ?? 0));
  }

  wasCancelled(body: string): void {
    const place = this.seen.get(body);
    if (place !== undefined) throw new Violation('delivered though cancelled', `${body} at ${place}`);
    this.cancelled.add(body);
    this.waiting.delete(body);
  }

  /** Retention cut what nobody had read: what was due there by then is not missed. */
  skipped(brokerName: string): void {
    for (const [body, group] of this.waiting) if (group === brokerName) this.waiting.delete(body);
  }

  unfinished(): string | null {
    for (const [body, brokerName] of this.waiting) return `${body} was stored at ${brokerName}, and is delivered nowhere`;
    return null;
  }
}

async function produce(io: Io, stage: Stage, referee: DelayReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const producer = client.producer();
  const life = stage.nextProducer();
  const meanMs = 30 + prng.exponential(200);
  for (let number = 0; stage.open; ) {
    for (let burst = prng.pick([1, 1, 1, 20]); burst > 0; burst--) send(stage, referee, prng, client, producer, life, number++);
    await sleep(io, prng.exponential(meanMs));
  }
}

function send(
  stage: Stage,
  referee: DelayReferee,
  prng: Prng,
  client: LedgerClient,
  producer: Producer,
  life: number,
  number: number,
): void {
  const body = `${life}:${number}`;
  stage.referee.fabricated.sent(life, number);
  const level = prng.pick([0, 0, 1, 2]);
  const delayMs = level > 0 ? (LEVEL_MS[level - 1] as number) : prng.between(1, prng.chance(0.1) ? LONG_DELAY_MS : MAX_DELAY_MS);
  const settled = stage.begin();
  const cancels = prng.chance(0.1);
  referee.sends.set(body, { logTimes: new Map(referee.logTimes), delayMs });
  producer
    .send({
      topic: TOPIC,
      body: encodeBody(life, 0, number, prng.between(0, 300)),
      ...(level > 0 ? { delayTimeLevel: level } : { delayMs }),
    })
    .then(async ({ msgId, brokerName }) => {
      if (cancels) await cancel(client, referee, body, msgId);
      else if (!referee.seen.has(body)) referee.waiting.set(body, brokerName);
    })
    .catch((error: unknown) => {
      if (!(error instanceof LedgerError)) throw error;
    })
    .finally(settled);
}

/** Without a confirmation it may be either. */
async function cancel(client: LedgerClient, referee: DelayReferee, body: string, msgId: string): Promise<void> {
  await client.admin().cancelDelayed(msgId, TOPIC);
  referee.wasCancelled(body);
}

/** Where a reader is told to go on, it must have been given everything up to there that is still retained. */
async function expectNoHole(
  puller: PullConsumer,
  queue: MessageQueue,
  from: number,
  offsets: readonly number[],
  to: number,
): Promise<void> {
  const given = new Set(offsets);
  for (let offset = from; offset < to; offset++) {
    if (given.has(offset)) continue;
    // The log may have been cut since.
    if ((await puller.range(queue)).minOffset > offset) return;
    throw new Violation('lost', `${queue.brokerName}/${queue.queueId}@${offset} is retained, and was passed over`);
  }
}

/** Reads all queues from their beginning, over and over: what was seen must be where it was. */
async function read(io: Io, stage: Stage, referee: DelayReferee): Promise<void> {
  const client = clientOf(io, stage);
  await ensureTopic(io, client, TOPIC, QUEUES);
  const puller = client.pullConsumer();
  const prng = new Prng(io.random.u32());
  const next = new Map<string, number>();
  const keyOf = ({ brokerName, queueId }: MessageQueue): string => `${brokerName}/${queueId}`;
  for (;;) {
    try {
      for (const queue of await puller.queues(TOPIC)) {
        const from = next.get(keyOf(queue)) ?? 0;
        const { minOffset } = await puller.range(queue);
        if (minOffset > from) referee.skipped(queue.brokerName);
        const { messages, nextOffset } = await puller.pull(queue, Math.max(from, minOffset), { maxMessages: 256 });
        for (const message of messages) referee.read(message);
        const offsets = messages.map(({ offset }) => offset);
        await expectNoHole(puller, queue, Math.max(from, minOffset), offsets, nextOffset);
        next.set(keyOf(queue), messages.length === 0 && prng.chance(0.02) ? 0 : nextOffset);
      }
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
    await sleep(io, 100);
  }
}

export function makeDelay(prng: Prng): Workload {
  const referee = new DelayReferee();
  const producers = Array.from({ length: prng.between(1, 2) }, () => (io: Io, stage: Stage) => produce(io, stage, referee));
  return {
    actors: [(io, stage) => read(io, stage, referee), ...producers],
    unfinished: () => referee.unfinished(),
    judge: () => {
      const left = referee.unfinished();
      if (left !== null) throw new Violation('lost', left);
    },
  };
}
