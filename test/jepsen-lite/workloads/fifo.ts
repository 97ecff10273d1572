import type { Consumer, Producer } from '../../../src/index.ts';
import { Pace } from './lane.ts';
import { drainGroup, PollRecorder, readWholeTopic } from './reading.ts';
import { type SendMode, type SendPlan, send } from './sending.ts';
import { ensureTopic, type Stage, type Workload } from './workload.ts';

const TOPIC = 'chaos-fifo';
const QUEUES = 8;
/** Shared by all workers, so that several producers send under one key. */
const KEYS = 32;
/** A lane's way of sending, again and again; keys of a worker are dealt to its keyed lanes. */
const LANES: readonly { readonly mode: SendMode; readonly keyed: boolean; readonly messages: number }[] = [
  { mode: 'async', keyed: true, messages: 128 },
  { mode: 'async', keyed: true, messages: 128 },
  { mode: 'batch', keyed: true, messages: 32 },
  { mode: 'batch', keyed: false, messages: 32 },
  { mode: 'async', keyed: false, messages: 128 },
  { mode: 'single', keyed: true, messages: 1 },
];
const KEYED = LANES.flatMap(({ keyed }, at) => (keyed ? [at] : []));
const CONSUMER_LANE = 900;
const DRAIN_LANE = 901;
const MIN_BODY_BYTES = 64;
const MAX_BODY_BYTES = 1_024;

/** Sends that are under way end by their delivery deadline, 30 s. */
const CONSUMED_TIMEOUT_MS = 120_000;
const READ_TIMEOUT_MS = 300_000;

/**
 * Produce and consume with total accounting, FIFO per key (F12): all ways to send, with keys and without, from several producers; two
 * groups read everything, one in order, one with many handlers at once.
 */
export class FifoWorkload implements Workload {
  readonly #stage: Stage;
  readonly #producer: Producer;
  readonly #consumer: Consumer;
  readonly #recorder: PollRecorder;
  readonly #group: string;
  readonly #next = new Map<string, number>();
  readonly #sending: Promise<void>[] = [];

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#producer = stage.client().producer();
    const ordered = stage.id % 3 !== 2;
    this.#group = ordered ? 'chaos-fifo-ordered' : 'chaos-fifo-shared';
    this.#recorder = new PollRecorder(stage.lane(CONSUMER_LANE), this.#group, `w${stage.id}`);
    this.#consumer = stage.client().consumer({
      group: this.#group,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered,
      consumeMessageBatchMaxSize: 256,
      batchHandler: this.#recorder.take,
    });
  }

  async start(): Promise<void> {
    await ensureTopic(this.#stage.client(), TOPIC, { queues: QUEUES });
    await this.#consumer.start();
    LANES.forEach((_, at) => {
      this.#sending.push(this.#produce(at));
    });
  }

  async drain(): Promise<void> {
    await Promise.all(this.#sending);
    const lane = this.#stage.lane(DRAIN_LANE);
    const client = this.#stage.client();
    await drainGroup(lane, client, this.#group, TOPIC, CONSUMED_TIMEOUT_MS);
    await this.#consumer.close();
    this.#recorder.flush();
    if (this.#stage.id === 0) await readWholeTopic(lane, client, TOPIC, { timeoutMs: READ_TIMEOUT_MS });
  }

  async #produce(at: number): Promise<void> {
    const { stop, rate } = this.#stage;
    const lane = this.#stage.lane(at);
    const pace = new Pace(rate / LANES.length);
    while (!stop.aborted) {
      const plan = this.#plan(at);
      await pace.next(plan.count);
      if (stop.aborted) break;
      this.#next.set(plan.stream, plan.first + plan.count);
      await send(lane, this.#producer, plan);
    }
  }

  #plan(at: number): SendPlan {
    const { id, prng } = this.#stage;
    const { mode, keyed, messages } = LANES[at] as (typeof LANES)[number];
    // A key belongs to one lane of a worker, so that the order of its calls is that of the numbers.
    const share = KEYED.indexOf(at);
    const key = keyed ? `k${share + KEYED.length * prng.between(0, Math.floor((KEYS - 1 - share) / KEYED.length))}` : '';
    const stream = keyed ? `fifo.w${id}/${key}` : `fifo.w${id}.${at}/-`;
    const count = prng.between(1, messages);
    return {
      topic: TOPIC,
      mode,
      stream,
      first: this.#next.get(stream) ?? 0,
      count,
      key,
      sizeBytes: prng.between(MIN_BODY_BYTES, MAX_BODY_BYTES),
    };
  }
}
