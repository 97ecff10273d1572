import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer, LedgerClient, ReceivedMessage, TransactionOutcome, TransactionProducer } from '../../../src/index.ts';
import { decodeMessage, encodeMessage } from '../message-body.ts';
import { codeOf, type Lane, type Outcome, Pace } from './lane.ts';
import { LanePool } from './lane-pool.ts';
import { drainGroup, PollRecorder, readWholeTopic } from './reading.ts';
import { ensureTopic, queueName, type Stage, type Workload, waitFor } from './workload.ts';

const TOPIC = 'chaos-transactions';
const QUEUES = 4;
const PRODUCER_GROUP = 'chaos-transactions';
const GROUP = 'chaos-transactions-readers';
const SEND_LANES = 8;
const POLL_LANE = 100;
const DRAIN_LANE = 101;
const CHECK_LANES = 200;
const DEFAULT_RATE = 100;
const BODY_BYTES = 64;
/** A local transaction's time. */
const WORK_MS = 20;
/** Asked for the first time after this: with the default of 6 s few would be asked in a short run. */
const CHECK_AFTER_S = 2;
/** A question that is lost comes again after `transactionCheckIntervalMs` (60 s by default). */
const SETTLE_TIMEOUT_MS = 180_000;
const DRAIN_TIMEOUT_MS = 60_000;
const READ_TIMEOUT_MS = 120_000;

/** How the transaction of message n ends, and whether its producer says so itself or leaves it to the check. */
export const planOf = (n: number): { readonly outcome: 'commit' | 'rollback'; readonly told: boolean } => ({
  outcome: n % 2 === 0 ? 'commit' : 'rollback',
  told: n % 8 < 6,
});

/** Transactions (F14): all or nothing, half messages invisible, check-back by whoever of the group is asked. */
export class TransactionsWorkload implements Workload {
  readonly #stage: Stage;
  readonly #client: LedgerClient;
  readonly #producer: TransactionProducer;
  readonly #consumer: Consumer;
  readonly #recorder: PollRecorder;
  readonly #checkLanes: LanePool;
  readonly #sending: Promise<void>[] = [];

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#client = stage.client();
    this.#checkLanes = new LanePool(stage, CHECK_LANES);
    this.#producer = this.#client.transactionProducer({
      group: PRODUCER_GROUP,
      checkLocalTransaction: (message) => this.#check(message),
    });
    this.#recorder = new PollRecorder(stage.lane(POLL_LANE), GROUP, `w${stage.id}`);
    this.#consumer = stage
      .client()
      .consumer({ group: GROUP, topics: [TOPIC], consumeFromWhere: 'first', batchHandler: this.#recorder.take });
  }

  async start(): Promise<void> {
    await ensureTopic(this.#client, TOPIC, { queues: QUEUES });
    await this.#consumer.start();
    for (let lane = 0; lane < SEND_LANES; lane++) this.#sending.push(this.#produce(lane));
  }

  async drain(): Promise<void> {
    await Promise.all(this.#sending);
    const lane = this.#stage.lane(DRAIN_LANE);
    await this.#settle(lane);
    await drainGroup(lane, this.#client, GROUP, TOPIC, DRAIN_TIMEOUT_MS);
    await this.#consumer.close();
    this.#recorder.flush();
    if (this.#stage.id === 0) await readWholeTopic(lane, this.#client, TOPIC, { timeoutMs: READ_TIMEOUT_MS });
  }

  /** Until no half message waits: each has its outcome then. */
  #settle(lane: Lane): Promise<Outcome> {
    const value = { group: PRODUCER_GROUP, topic: TOPIC };
    return lane.run('settle', value, async () => {
      const admin = this.#client.admin();
      const settled = await waitFor(
        async () => (await admin.pendingTransactions({ producerGroup: PRODUCER_GROUP }).catch(() => null))?.length === 0,
        SETTLE_TIMEOUT_MS,
        500,
      );
      return settled ? { type: 'ok', value } : { type: 'info', value, error: `transactions wait after ${SETTLE_TIMEOUT_MS} ms` };
    });
  }

  async #produce(laneNumber: number): Promise<void> {
    const { stop, rate, id, prng } = this.#stage;
    const lane = this.#stage.lane(laneNumber);
    const pace = new Pace((Number.isFinite(rate) ? rate : DEFAULT_RATE) / SEND_LANES);
    const stream = `transactions.w${id}.${laneNumber}/-`;
    for (let n = 0; !stop.aborted; n++) {
      await pace.next();
      if (stop.aborted) break;
      await this.#one(lane, stream, n, prng.exponential(WORK_MS));
    }
  }

  async #one(lane: Lane, stream: string, n: number, workMs: number): Promise<void> {
    const { outcome, told } = planOf(n);
    const value = { topic: TOPIC, runs: [[stream, n, 1]], plan: outcome };
    const complete = lane.begin('begin', value);
    const message = { topic: TOPIC, body: encodeMessage(stream, n, BODY_BYTES) };
    try {
      const transaction = await this.#producer.begin(message, { checkImmunityTimeInSeconds: CHECK_AFTER_S });
      complete({ type: 'ok', value });
      await sleep(workMs);
      if (!told) return;
      await lane.change('end', { topic: TOPIC, message: [stream, n], outcome }, async () => {
        if (outcome === 'rollback') {
          await transaction.rollback();
          return {};
        }
        const offset = await transaction.commit();
        return { runs: [[stream, n, 1, queueName(transaction), offset]] };
      });
    } catch (error) {
      const code = codeOf(error);
      complete({ type: code === 'OUTCOME_UNKNOWN' ? 'info' : 'fail', value, error: code });
    }
  }

  /** Written down before it is said: what the broker does with the answer comes after. */
  async #check(message: ReceivedMessage): Promise<TransactionOutcome> {
    const { stream, n } = decodeMessage(message.body);
    const { outcome } = planOf(Number(n));
    await this.#checkLanes.use((lane) => lane.ask('check', { topic: TOPIC, message: [stream, n], outcome }, async () => ({})));
    return outcome;
  }
}
