import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, LedgerClient, Message, Producer } from '../../../src/index.ts';
import { Pace } from './lane.ts';
import { drainGroup, PollRecorder, readWholeTopic } from './reading.ts';
import { send } from './sending.ts';
import { ensureTopic, type Stage, type Workload, waitFor } from './workload.ts';

const TOPIC = 'chaos-delay';
const QUEUES = 4;
const GROUP = 'chaos-delay-readers';
const LANES = ['level', 'delay', 'time', 'none'] as const;
const POLL_LANE = 100;
const DRAIN_LANE = 101;
const DEFAULT_RATE = 100;
/** Of levels 1 to 3: 1, 5 and 10 s. */
const MAX_LEVEL = 3;
const MAX_DELAY_MS = 12_000;
const BODY_BYTES = 64;
const BATCH = 8;
/** Messages without delay, by which log time is known: a few in each second are enough. */
const MARKERS_PER_S = 10;
/** The longest delay, an election, and log time that is slewed. */
const DUE_TIMEOUT_MS = 90_000;
const DRAIN_TIMEOUT_MS = 60_000;
const READ_TIMEOUT_MS = 120_000;

/** Delayed messages (F13), by level, by delay and by time: never early by log time, none lost, none twice. */
export class DelayWorkload implements Workload {
  readonly #stage: Stage;
  readonly #client: LedgerClient;
  readonly #producer: Producer;
  readonly #consumer: Consumer;
  readonly #recorder: PollRecorder;
  readonly #sending: Promise<void>[] = [];
  /** Newest log time that was read. Times of delivery are set by it: clocks of brokers are moved in a run. */
  #logMs = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#client = stage.client();
    this.#producer = this.#client.producer();
    this.#recorder = new PollRecorder(stage.lane(POLL_LANE), GROUP, `w${stage.id}`, { withLogTime: true });
    this.#consumer = stage.client().consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      consumeMessageBatchMaxSize: 64,
      batchHandler: (messages, context) => {
        for (const { storeTimeMs } of messages) this.#logMs = Math.max(this.#logMs, storeTimeMs);
        this.#recorder.take(messages, context);
      },
    });
  }

  async start(): Promise<void> {
    await ensureTopic(this.#client, TOPIC, { queues: QUEUES });
    await this.#consumer.start();
    LANES.forEach((_, at) => {
      this.#sending.push(this.#produce(at));
    });
  }

  async drain(): Promise<void> {
    await Promise.all(this.#sending);
    const lane = this.#stage.lane(DRAIN_LANE);
    const admin = this.#client.admin();
    await waitFor(
      async () => {
        const groups = await admin.delayed(1).catch(() => null);
        return groups?.every(({ timers, levels }) => timers === 0 && levels.every(({ pending }) => pending === 0)) === true;
      },
      DUE_TIMEOUT_MS,
      500,
    );
    await drainGroup(lane, this.#client, GROUP, TOPIC, DRAIN_TIMEOUT_MS);
    await this.#consumer.close();
    this.#recorder.flush();
    if (this.#stage.id === 0) await readWholeTopic(lane, this.#client, TOPIC, { timeoutMs: READ_TIMEOUT_MS, withLogTime: true });
  }

  async #produce(at: number): Promise<void> {
    const { stop, rate, id, prng } = this.#stage;
    const lane = this.#stage.lane(at);
    const kind = LANES[at] as (typeof LANES)[number];
    const messagesPerS = (Number.isFinite(rate) ? rate : DEFAULT_RATE) / LANES.length;
    const pace = new Pace(kind === 'none' ? MARKERS_PER_S : messagesPerS);
    const stream = `delay.w${id}.${at}/-`;
    let first = 0;
    while (!stop.aborted) {
      const count = kind === 'none' ? 1 : prng.between(1, BATCH);
      await pace.next(count);
      if (kind === 'time' && this.#logMs === 0) {
        await sleep(1_000 / MARKERS_PER_S);
        continue;
      }
      const mode = prng.chance(0.5) ? 'batch' : 'async';
      await send(lane, this.#producer, {
        topic: TOPIC,
        mode,
        stream,
        first,
        count,
        key: '',
        sizeBytes: BODY_BYTES,
        deferral: this.#deferral(kind),
      });
      first += count;
    }
  }

  #deferral(kind: (typeof LANES)[number]): Pick<Message, 'delayMs' | 'delayTimeLevel' | 'deliverAt'> {
    const { prng } = this.#stage;
    const delayMs = prng.between(100, MAX_DELAY_MS);
    if (kind === 'level') return { delayTimeLevel: prng.between(1, MAX_LEVEL) };
    if (kind === 'delay') return { delayMs };
    return kind === 'time' ? { deliverAt: this.#logMs + delayMs } : {};
  }
}
