import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumeContext, Consumer, LedgerClient, MessageQueue, Producer, ReceivedMessage } from '../../../src/index.ts';
import { Pace } from './lane.ts';
import { LanePool } from './lane-pool.ts';
import { drainGroup, PollRecorder, readWholeTopic } from './reading.ts';
import { send } from './sending.ts';
import { ensureTopic, queueName, type Stage, type Workload, waitFor } from './workload.ts';

const TOPIC = 'chaos-offsets';
const QUEUES = 4;
/** The store that handlers write to: its order is that of the effects. */
const EFFECTS = 'chaos-effects';
const ORDERED_GROUP = 'chaos-offsets-ordered';
const COMMIT_GROUP = 'chaos-commits';
const DEFAULT_RATE = 200;
const PRODUCE_LANE = 0;
const POLL_LANE = 1;
const DRAIN_LANE = 2;
const RESET_LANE = 3;
const COMMIT_LANES = [10, 11];
const FETCH_LANES = [20, 21, 22];
const EFFECT_LANES = 100;
const RESET_EVERY_MS = 1_500;
const ASK_EVERY_MS = 50;
const MAX_STEP = 20;
const SUSPEND_MS = 200;
const BODY_BYTES = 64;
const DRAIN_TIMEOUT_MS = 120_000;
const READ_TIMEOUT_MS = 120_000;

/**
 * Consumer offsets (F21): commits, reads and resets of groups that nobody is a member of, from all workers at once. And the locks of
 * orderly consumers (F17): handlers write what they did into a topic under their fencing token, as a store would that refuses lower ones.
 */
export class OffsetsWorkload implements Workload {
  readonly #stage: Stage;
  readonly #client: LedgerClient;
  readonly #producer: Producer;
  readonly #effects: Producer;
  readonly #consumer: Consumer;
  readonly #recorder: PollRecorder;
  readonly #effectLanes: LanePool;
  readonly #running: Promise<void>[] = [];
  /** A reset that nobody knows the end of may come at any time: then another group is used. */
  #resetGroup = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#client = stage.client();
    this.#producer = this.#client.producer();
    this.#effects = stage.client().producer();
    this.#recorder = new PollRecorder(stage.lane(POLL_LANE), ORDERED_GROUP, this.#member);
    this.#effectLanes = new LanePool(stage, EFFECT_LANES);
    this.#consumer = stage.client().consumer({
      group: ORDERED_GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered: true,
      consumeMessageBatchMaxSize: 32,
      suspendCurrentQueueTimeMillis: SUSPEND_MS,
      batchHandler: (messages, context) => this.#handle(messages, context),
    });
  }

  get #member(): string {
    return `w${this.#stage.id}`;
  }

  async start(): Promise<void> {
    await ensureTopic(this.#client, TOPIC, { queues: QUEUES });
    await ensureTopic(this.#client, EFFECTS, { queues: QUEUES });
    await this.#consumer.start();
    this.#running.push(this.#produce(), this.#reset());
    for (const lane of COMMIT_LANES) this.#running.push(this.#commit(lane));
    for (const lane of FETCH_LANES) this.#running.push(this.#fetch(lane));
  }

  async drain(): Promise<void> {
    await Promise.all(this.#running);
    const lane = this.#stage.lane(DRAIN_LANE);
    await drainGroup(lane, this.#client, ORDERED_GROUP, TOPIC, DRAIN_TIMEOUT_MS);
    await this.#consumer.close();
    this.#recorder.flush();
    if (this.#stage.id === 0) await readWholeTopic(lane, this.#client, TOPIC, { timeoutMs: READ_TIMEOUT_MS });
  }

  /** Done when the store has it; a write that failed, or may have, is done again. */
  async #handle(messages: readonly ReceivedMessage[], context: ConsumeContext): Promise<void> {
    this.#recorder.take(messages, context);
    const queue = queueName(context.queue);
    const first = messages[0] as ReceivedMessage;
    const effect = {
      group: ORDERED_GROUP,
      member: this.#member,
      queue,
      token: context.fencingToken,
      offset: first.offset,
      count: messages.length,
    };
    const written = await this.#effectLanes.use((lane) =>
      lane.change('effect', effect, async () => {
        const { offset } = await this.#effects.send({ topic: EFFECTS, orderingKey: queue, body: JSON.stringify(effect) });
        return { at: offset };
      }),
    );
    if (written.type !== 'ok') throw new Error(`the effect is not written: ${written.error}`);
  }

  async #produce(): Promise<void> {
    const { stop, prng, rate, id } = this.#stage;
    const lane = this.#stage.lane(PRODUCE_LANE);
    const pace = new Pace(Number.isFinite(rate) ? rate : DEFAULT_RATE);
    const next = new Map<string, number>();
    while (!stop.aborted) {
      const key = `k${prng.between(0, 4 * QUEUES - 1)}`;
      const stream = `offsets.w${id}/${key}`;
      const first = next.get(stream) ?? 0;
      const count = prng.between(1, 16);
      await pace.next(count);
      next.set(stream, first + count);
      await send(lane, this.#producer, { topic: TOPIC, mode: 'async', stream, first, count, key, sizeBytes: BODY_BYTES });
    }
  }

  async #queues(): Promise<readonly MessageQueue[]> {
    let queues: readonly MessageQueue[] = [];
    const { stop } = this.#stage;
    const puller = this.#client.pullConsumer();
    await waitFor(async () => {
      queues = await puller.queues(TOPIC).catch(() => []);
      return queues.length > 0 || stop.aborted;
    }, Number.POSITIVE_INFINITY);
    return queues;
  }

  /** Each goes on from what it knows to be committed: never beyond the end, which would be refused. */
  async #commit(laneNumber: number): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(laneNumber);
    const puller = this.#client.pullConsumer();
    const queues = await this.#queues();
    while (!stop.aborted) {
      const queue = prng.pick(queues);
      const group = this.#group(prng.chance(0.5));
      const range = await puller.range(queue).catch(() => null);
      const committed = await puller.committed(group, queue).catch(() => null);
      if (range === null) continue;
      const offset = Math.min((committed ?? 0) + prng.between(1, MAX_STEP), range.maxOffset);
      await lane.change('commit', { group, queue: queueName(queue), offset }, async () => {
        await puller.commit(group, queue, offset);
        return {};
      });
    }
  }

  async #fetch(laneNumber: number): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(laneNumber);
    const puller = this.#client.pullConsumer();
    const queues = await this.#queues();
    while (!stop.aborted) {
      const queue = prng.pick(queues);
      const group = this.#group(prng.chance(0.5));
      await lane.ask('fetch', { group, queue: queueName(queue), offset: null }, async () => ({
        offset: await puller.committed(group, queue),
      }));
      await sleep(prng.exponential(ASK_EVERY_MS));
    }
  }

  /** One group of each worker is reset now and then, to anywhere between its start and its end. */
  async #reset(): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(RESET_LANE);
    const puller = this.#client.pullConsumer();
    const admin = this.#client.admin();
    const queues = await this.#queues();
    while (!stop.aborted) {
      await sleep(prng.exponential(RESET_EVERY_MS));
      const queue = prng.pick(queues);
      const group = this.#group(true);
      const range = await puller.range(queue).catch(() => null);
      if (range === null) continue;
      const offset = prng.between(range.minOffset, range.maxOffset);
      const { type } = await lane.change('reset', { group, queue: queueName(queue), offset }, async () => {
        await admin.resetOffset(group, queue, offset);
        return {};
      });
      if (type === 'info') this.#resetGroup++;
    }
  }

  #group(isReset: boolean): string {
    return isReset ? `chaos-resets-w${this.#stage.id}-${this.#resetGroup}` : COMMIT_GROUP;
  }
}
