import { setTimeout as sleep } from 'node:timers/promises';
import { type LedgerClient, LedgerError } from '../../../src/index.ts';
import { type Lane, Pace } from './lane.ts';
import { ensureTopic, type Stage, type Workload } from './workload.ts';

/** On every broker group: that it is in an answer says that the group has answered. */
const MARKER = 'chaos-marker';
const WRITERS = 2;
const READERS = 4;
const READER_LANES = 10;
/** Changes of one topic name, all lanes and workers together about so many: histories of one object must stay short enough to search. */
const CHANGES_PER_NAME = 6;
/** Changes nobody knows the end of, and then another name: each may still take effect at any time. */
const MAX_UNKNOWN = 2;
const DEFAULT_RATE = 40;
const MAX_QUEUES = 64;
const PERMS = [4, 6] as const;
const LANES = WRITERS + READERS;

/** A name that a worker's writers change and its readers look at, until it has seen enough. */
interface Subject {
  readonly topic: string;
  readonly broker: string;
  changes: number;
  unknown: number;
  queues: number;
}

/** Topic metadata on real brokers: create, update, delete and describe, side by side on one name; linearizable for each broker group. */
export class MetadataWorkload implements Workload {
  readonly #stage: Stage;
  readonly #running: Promise<void>[] = [];
  #brokers: readonly string[] = [];
  #subject: Subject | null = null;
  #subjects = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  async start(): Promise<void> {
    const client = this.#stage.client();
    await ensureTopic(client, MARKER, { queues: 1 });
    const described = await client.admin().topics([MARKER]);
    this.#brokers = described.flatMap(({ placement }) => placement.map(({ brokerName }) => brokerName));
    for (let writer = 0; writer < WRITERS; writer++) this.#running.push(this.#write(writer));
    for (let reader = 0; reader < READERS; reader++) this.#running.push(this.#read(READER_LANES + reader));
  }

  async drain(): Promise<void> {
    await Promise.all(this.#running);
  }

  #current(): Subject {
    const { id, prng } = this.#stage;
    const old = this.#subject;
    if (old !== null && old.changes < CHANGES_PER_NAME * WRITERS && old.unknown < MAX_UNKNOWN) return old;
    const subject = { topic: `chaos-meta-w${id}-${this.#subjects++}`, broker: prng.pick(this.#brokers), changes: 0, unknown: 0, queues: 0 };
    this.#subject = subject;
    return subject;
  }

  async #write(laneNumber: number): Promise<void> {
    const { stop, prng } = this.#stage;
    const lane = this.#stage.lane(laneNumber);
    const client = this.#stage.client();
    const pace = this.#pace();
    while (!stop.aborted) {
      await pace.next();
      const subject = this.#current();
      subject.changes++;
      const drawn = prng.between(0, 9);
      const { type } = await (drawn < 3
        ? this.#create(lane, client, subject)
        : drawn < 8
          ? this.#update(lane, client, subject)
          : this.#delete(lane, client, subject));
      if (type === 'info') subject.unknown++;
    }
  }

  #create(lane: Lane, client: LedgerClient, { topic, broker }: Subject) {
    const { prng } = this.#stage;
    const wanted = { topic, broker, queues: prng.between(1, 4), perm: prng.pick(PERMS) };
    return this.#change(lane, 'create', wanted, async () => {
      await client.admin().createTopic(topic, { queues: wanted.queues, perm: wanted.perm }, [broker]);
    });
  }

  #update(lane: Lane, client: LedgerClient, subject: Subject) {
    const { prng } = this.#stage;
    const { topic, broker } = subject;
    subject.queues = Math.min(MAX_QUEUES, subject.queues + prng.between(1, 2));
    const wanted = { topic, broker, queues: subject.queues, perm: prng.pick(PERMS) };
    return this.#change(lane, 'update', wanted, async () => {
      await client.admin().updateTopic(topic, { queues: wanted.queues, perm: wanted.perm });
    });
  }

  #delete(lane: Lane, client: LedgerClient, { topic, broker }: Subject) {
    return this.#change(lane, 'delete', { topic, broker }, async () => {
      await client.admin().deleteTopic(topic);
    });
  }

  /** The client asks first what there is: what it refuses by that alone was never asked for. */
  #change(lane: Lane, f: string, value: object, work: () => Promise<void>) {
    return lane.run(f, value, async () => {
      try {
        await work();
        return { type: 'ok', value };
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
        const type = PLANNED_AWAY[f]?.has(error.code) === true ? 'fail' : 'info';
        return { type, value, error: error.code };
      }
    });
  }

  async #read(laneNumber: number): Promise<void> {
    const { stop } = this.#stage;
    const lane = this.#stage.lane(laneNumber);
    const client = this.#stage.client();
    const pace = this.#pace();
    while (!stop.aborted) {
      await pace.next();
      const subject = this.#subject;
      if (subject === null) {
        await sleep(10);
        continue;
      }
      const { topic, broker } = subject;
      await lane.ask('describe', { topic, broker }, async () => {
        const described = await client.admin().topics([topic, MARKER]);
        const isOf = (name: string) =>
          described.find((each) => each.topic === name && each.placement.some((place) => place.brokerName === broker));
        if (isOf(MARKER) === undefined) throw new LedgerError('NO_ROUTE', `${broker} did not answer`);
        const found = isOf(topic);
        return { found: found === undefined ? null : { queues: found.queues.length, perm: found.perm } };
      });
    }
  }

  #pace(): Pace {
    const { rate } = this.#stage;
    return new Pace((Number.isFinite(rate) ? rate : DEFAULT_RATE) / LANES);
  }
}

/**
 * Refusals by what was described, before anything was asked to change. Others may be those of a second attempt, after the first one
 * took effect and its answer was lost.
 */
const PLANNED_AWAY: Readonly<Record<string, ReadonlySet<string>>> = {
  create: new Set(['TOPIC_EXISTS', 'BAD_REQUEST']),
  update: new Set(['BAD_REQUEST']),
  delete: new Set(['TOPIC_NOT_FOUND']),
};
