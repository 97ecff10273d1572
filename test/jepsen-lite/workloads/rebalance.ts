import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient, Producer } from '../../../src/index.ts';
import { type Lane, Pace } from './lane.ts';
import { memberOf, REBALANCE_GROUP, REBALANCE_TOPIC } from './member.ts';
import { drainGroup, PollRecorder, readWholeTopic } from './reading.ts';
import { send } from './sending.ts';
import { ensureTopic, type Stage, type Workload } from './workload.ts';

const QUEUES = 8;
const DEFAULT_RATE = 500;
const PRODUCE_LANE = 0;
const DRAIN_LANE = 1;
/** Members of this process that join and leave, and one of a process of its own that is killed. */
const LIVING_SLOTS = [10, 11];
const DYING_SLOT = 12;
const POLL_LANES = 100;
const CHILD_LANES = 200;
/** Processes of members that are killed: each has a lane of its own. */
const MAX_CHILDREN = 700;
const LIFE_MS = 4_000;
const PAUSE_MS = 1_000;
const BODY_BYTES = 64;
const KEYS = 32;
const DRAIN_TIMEOUT_MS = 120_000;
const READ_TIMEOUT_MS = 120_000;
const MEMBER = join(import.meta.dirname, 'member.ts');

/** Rebalance under churn (F07): members join, leave and die while messages flow; no two valid owners, nothing skipped, nothing lost. */
export class RebalanceWorkload implements Workload {
  readonly #stage: Stage;
  readonly #client: LedgerClient;
  readonly #producer: Producer;
  readonly #running: Promise<void>[] = [];
  readonly #draining = Promise.withResolvers<void>();
  readonly #living: Promise<void>[] = [];
  #isDrained = false;
  #members = 0;
  #children = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#client = stage.client();
    this.#producer = this.#client.producer();
  }

  async start(): Promise<void> {
    await ensureTopic(this.#client, REBALANCE_TOPIC, { queues: QUEUES });
    this.#running.push(this.#produce(), this.#dieAgainAndAgain());
    for (const slot of LIVING_SLOTS) this.#living.push(this.#liveAgainAndAgain(slot));
  }

  async drain(): Promise<void> {
    await Promise.all(this.#running);
    const lane = this.#stage.lane(DRAIN_LANE);
    await drainGroup(lane, this.#client, REBALANCE_GROUP, REBALANCE_TOPIC, DRAIN_TIMEOUT_MS);
    this.#isDrained = true;
    this.#draining.resolve();
    await Promise.all(this.#living);
    if (this.#stage.id === 0) await readWholeTopic(lane, this.#client, REBALANCE_TOPIC, { timeoutMs: READ_TIMEOUT_MS });
  }

  async #produce(): Promise<void> {
    const { stop, rate, id, prng } = this.#stage;
    const lane = this.#stage.lane(PRODUCE_LANE);
    const pace = new Pace(Number.isFinite(rate) ? rate : DEFAULT_RATE);
    const next = new Map<string, number>();
    while (!stop.aborted) {
      const key = `k${prng.between(0, KEYS - 1)}`;
      const stream = `rebalance.w${id}/${key}`;
      const first = next.get(stream) ?? 0;
      const count = prng.between(1, 32);
      await pace.next(count);
      next.set(stream, first + count);
      await send(lane, this.#producer, { topic: REBALANCE_TOPIC, mode: 'async', stream, first, count, key, sizeBytes: BODY_BYTES });
    }
  }

  /** The last life lasts until everything is consumed. */
  async #liveAgainAndAgain(slot: number): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(slot);
    for (let isOver = false; !isOver; isOver = await this.#live(lane, slot)) {
      await Promise.race([sleep(prng.exponential(PAUSE_MS), undefined, { ref: false }), stopped(stop)]);
    }
  }

  /** @returns true when it lived until everything was consumed */
  async #live(lane: Lane, slot: number): Promise<boolean> {
    const { id, prng, stop } = this.#stage;
    const member = `w${id}.m${this.#members++}`;
    const recorder = new PollRecorder(this.#stage.lane(POLL_LANES + slot), REBALANCE_GROUP, member);
    const consumer = memberOf(this.#client, recorder);
    const { type } = await lane.ask('join', { group: REBALANCE_GROUP, member }, async () => {
      await consumer.start();
      return {};
    });
    const hasJoined = type === 'ok';
    if (hasJoined) {
      await Promise.race([sleep(prng.exponential(LIFE_MS), undefined, { ref: false }), stopped(stop)]);
      if (stop.aborted) await this.#draining.promise;
    }
    await lane.run('leave', { group: REBALANCE_GROUP, member }, async () => {
      await consumer.close();
      recorder.flush();
      return { type: 'ok', value: { group: REBALANCE_GROUP, member } };
    });
    return this.#isDrained;
  }

  /** Killed with -9 in the middle of its work: what it had handled is in its own file before it was acknowledged. */
  async #dieAgainAndAgain(): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(DYING_SLOT);
    while (!stop.aborted && this.#children < MAX_CHILDREN) {
      const number = this.#children++;
      const child = this.#spawnMember(number);
      await Promise.race([sleep(prng.exponential(LIFE_MS), undefined, { ref: false }), stopped(stop), once(child, 'exit')]);
      const member = `w${this.#stage.id}.c${number}`;
      await lane.run('die', { group: REBALANCE_GROUP, member }, async () => {
        if (child.exitCode !== null) throw new Error(`member ${member} ended with ${child.exitCode} before it was killed`);
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
        return { type: 'ok', value: { group: REBALANCE_GROUP, member } };
      });
      await sleep(prng.exponential(PAUSE_MS));
    }
  }

  #spawnMember(number: number): ChildProcess {
    const { endpoints, id, originNs, historyPath, laneNumber } = this.#stage;
    const args = ['--endpoints', endpoints.join(','), '--member', `w${id}.c${number}`, '--lane', String(laneNumber(CHILD_LANES + number))];
    args.push('--origin-ns', String(originNs), '--history', `${historyPath}.member-${number}`);
    // Its input ends with this process: it is not left behind.
    return spawn(process.execPath, [MEMBER, ...args], { stdio: ['pipe', 'ignore', 'inherit'] });
  }
}

function stopped(signal: AbortSignal): Promise<void> {
  return signal.aborted ? Promise.resolve() : new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
