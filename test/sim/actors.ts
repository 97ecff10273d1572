import { LedgerClient } from '../../src/client/ledger-client.ts';
import type { SendResult } from '../../src/client/types.ts';
import type { Io } from '../../src/io/io.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { Op, ReplicationMode, type TopicPutRequest } from '../../src/protocol/requests.ts';
import type { Acked } from './checkers/lost.ts';
import { queueName, Violation } from './checkers/violation.ts';
import type { FaultPlan } from './fault-plan.ts';
import { encodeBody } from './message-body.ts';
import { Prng } from './prng.ts';
import type { Referee } from './referee.ts';
import { WireClient } from './wire-client.ts';
import type { Retained } from './workloads/workload.ts';

/** Topics of every run. `quick` takes leader-only acknowledgements, which promise less (F32). */
export const TOPIC = 'orders';
export const QUICK_TOPIC = 'quick';
export const QUEUES = 3;
export const GROUP = 'billing';
/** RocketMQ's perm bits. */
const READ_WRITE = 6;

export interface StageGroup {
  readonly brokerName: string;
  readonly endpoints: readonly string[];
  /** Elections that somebody won. */
  readonly terms: number;
}

/** What actors share: where the brokers are, who judges, and whether new work may still begin. */
export interface Stage {
  readonly endpoints: readonly string[];
  readonly groups: readonly StageGroup[];
  readonly referee: Referee;
  /** False from the liveness phase on. */
  readonly open: boolean;
  readonly retained: Retained;
  /** That may come in this run. */
  readonly faults: FaultPlan;
  /** True time, of which no clock of a process may know: for who judges. */
  readonly nowMs: number;
  /** Numbers producers over all lives: a restarted client is a new producer. */
  nextProducer(): number;
  /** A send begins; what is returned says that it has settled. A client that dies takes its sends with it. */
  begin(): () => void;
}

/** A connection of its own to every replica, for who asks a replica of a group as one finds it. */
export class EveryReplica {
  readonly #groups: readonly { readonly brokerName: string; readonly replicas: readonly WireClient[] }[];
  readonly #prng: Prng;

  constructor(io: Io, stage: Stage, prng: Prng) {
    this.#prng = prng;
    this.#groups = stage.groups.map(({ brokerName, endpoints }) => ({
      brokerName,
      replicas: endpoints.map((url) => new WireClient(io, url)),
    }));
  }

  any(): { readonly brokerName: string; readonly replica: WireClient } {
    const { brokerName, replicas } = this.#prng.pick(this.#groups);
    return { brokerName, replica: this.#prng.pick(replicas) };
  }

  of(brokerName: string): WireClient {
    return this.#prng.pick(this.#groups.find((group) => group.brokerName === brokerName)?.replicas ?? []);
  }
}

const sleep = (io: Io, ms: number): Promise<void> => new Promise((resolve) => void io.clock.setTimer(ms, resolve));

/** Sends keyed and plain messages, alone and in bursts, some of them one-way. */
export async function producerActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = new LedgerClient({ endpoints: stage.endpoints, io });
  const number = stage.nextProducer();
  const quick = prng.chance(0.15);
  const topic = quick ? QUICK_TOPIC : TOPIC;
  const producer = client.producer({
    replication: quick ? 'leader' : 'topicMinimum',
    deliveryTimeoutMs: prng.pick([30_000, 10_000, 3_000]),
  });
  const meanMs = 15 + prng.exponential(150);
  const keys = prng.between(1, 5);
  const burst = prng.pick([1, 1, 4, 20]);
  const fillBytes = prng.pick([0, 20, 1000]);
  let n = 0;
  const sendOne = (): void => {
    const key = prng.chance(0.8) ? prng.between(1, keys) : 0;
    const message = { topic, body: encodeBody(number, key, n, fillBytes), ...(key === 0 ? {} : { orderingKey: `${number}-${key}` }) };
    stage.referee.fabricated.sent(number, n++);
    if (key === 0 && prng.chance(0.1)) {
      void Promise.resolve(producer.sendOneWay(message)).catch(() => {});
      return;
    }
    const settled = stage.begin();
    producer.send(message, (_error: LedgerError | null, result: SendResult | null) => {
      settled();
      if (result === null) return;
      const offset = result.offset ?? -1;
      stage.referee.acked.push({ queue: queueName(result.brokerName, topic, result.queueId), offset, identity: result.msgId });
    });
  };
  while (stage.open) {
    for (let i = prng.between(1, burst); i > 0; i--) sendOne();
    await sleep(io, prng.exponential(meanMs));
  }
}

/** A member of the group: joins, consumes, leaves or not, joins again. */
export async function consumerActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = new LedgerClient({ endpoints: stage.endpoints, io });
  const meanMs = prng.chance(0.2) ? 100 : 2;
  for (;;) {
    const consumer = client.consumer({
      group: GROUP,
      topics: [TOPIC],
      consumeFromWhere: 'first',
      ordered: prng.chance(0.5),
      pullWaitMs: 1_000,
      handler: async (message) => {
        // A slow one holds its queues' messages back, until no new work begins.
        await sleep(io, prng.exponential(stage.open ? meanMs : 2));
        stage.referee.handled.add(`${queueName(message.brokerName, message.topic, message.queueId)}@${message.offset}`);
      },
    });
    try {
      await consumer.start();
    } catch (error) {
      // No broker answered in time: as an application would, another try.
      if (!(error instanceof LedgerError)) throw error;
      await consumer.close();
      continue;
    }
    do await sleep(io, 1_000 + prng.exponential(8_000));
    while (!stage.open || prng.chance(0.5));
    await consumer.close();
    await sleep(io, prng.exponential(1_000));
  }
}

/** Pulls from any replica at random offsets: what it is shown is judged where it leaves the broker. */
export async function readerActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const replicas = new EveryReplica(io, stage, prng);
  const ends = new Map<string, number>();
  for (;;) {
    await sleep(io, prng.exponential(60));
    const queueId = prng.between(0, QUEUES - 1);
    const topic = prng.chance(0.2) ? QUICK_TOPIC : TOPIC;
    const { brokerName, replica } = replicas.any();
    const name = queueName(brokerName, topic, queueId);
    const end = ends.get(name) ?? 0;
    const offset = prng.chance(0.5) ? end : prng.between(0, end);
    const request = {
      topic,
      queueId,
      offset,
      maxBytes: 32 * 1024,
      maxMessages: 256,
      waitMs: prng.pick([0, 0, 300]),
      group: '',
      member: '',
      epoch: 0,
      tagHashes: [],
    };
    try {
      const { body } = await replica.request(Op.pull, request);
      ends.set(name, Math.max(end, body.nextOffset));
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
}

/** Commits rising offsets of a group without members and fetches them again, from whoever leads. */
export async function offsetActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const replicas = new EveryReplica(io, stage, prng);
  const group = `plain-${stage.nextProducer()}`;
  let offset = 0;
  for (;;) {
    await sleep(io, prng.exponential(150));
    const { replica } = replicas.any();
    try {
      if (prng.chance(0.5)) {
        const offsets = [{ topic: TOPIC, queueId: prng.between(0, QUEUES - 1), offset: offset++ }];
        await replica.request(Op.offsetCommit, { group, member: '', epoch: 0, offsets });
      } else {
        const queues = Array.from({ length: QUEUES }, (_, queueId) => ({ topic: TOPIC, queueId }));
        await replica.request(Op.offsetFetch, { group, queues });
      }
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
}

/** An operator: looks acknowledged messages up, and moves the offset of a group of its own to and fro. */
export async function operatorActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const replicas = new EveryReplica(io, stage, prng);
  const group = `reset-${stage.nextProducer()}`;
  for (;;) {
    await sleep(io, prng.exponential(250));
    const { acked } = stage.referee;
    try {
      if (prng.chance(0.3) || acked.length === 0) {
        const [queueId, offset] = [prng.between(0, QUEUES - 1), prng.between(0, acked.length)];
        await replicas.any().replica.request(Op.groupResetOffset, { group, topic: TOPIC, queueId, offset });
        continue;
      }
      await lookUp(stage, replicas, prng.pick(acked));
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
}

/** By its id it is found where it was acknowledged, while it is retained: its index knows, or says that it cannot tell. */
async function lookUp(stage: Stage, replicas: EveryReplica, { identity, queue, offset }: Acked): Promise<void> {
  const [brokerName, topic, queueId] = queue.split('/') as [string, string, string];
  try {
    const { body } = await replicas.of(brokerName).request(Op.messageGet, { id: identity, topic: '', queueId: 0, offset: 0 });
    const place = `${queueName(brokerName, body.topic, body.queueId)}@${body.baseOffset + body.messageIndex}`;
    if (offset >= 0 && place !== `${queue}@${offset}`)
      throw new Violation('readers disagree', `${identity} was acknowledged at ${queue}@${offset}, found at ${place}`);
  } catch (error) {
    const missing = error instanceof LedgerError && error.code === 'MESSAGE_NOT_FOUND' && offset >= 0;
    if (missing && stage.retained({ brokerName, topic, queueId: Number(queueId), offset }))
      throw new Violation('not found', `${identity} was acknowledged at ${queue}@${offset}, which is retained`);
    throw error;
  }
}

/** The run's topics: each the same record in every group, whoever asks for it and how often. */
function runTopics(stage: Stage): TopicPutRequest[] {
  const placement = stage.groups.map(({ brokerName }) => ({ brokerName, queues: QUEUES }));
  const record = (topic: string, topicId: number, replication: number): TopicPutRequest => {
    return { topic, topicId, version: 1, perm: READ_WRITE, messageType: 'normal', placement, replication, deleted: false };
  };
  return [record(TOPIC, 1_000_001, ReplicationMode.quorum), record(QUICK_TOPIC, 1_000_002, ReplicationMode.leader)];
}

async function createRunTopics(io: Io, stage: Stage, replicas: EveryReplica): Promise<void> {
  // One group has its topics by the older command, too.
  const alone = stage.groups.length === 1;
  const wanted = stage.groups.flatMap(({ brokerName }) => runTopics(stage).map((record) => ({ brokerName, record })));
  while (wanted.length > 0) {
    await sleep(io, 20);
    const [{ brokerName, record }] = wanted as [(typeof wanted)[number]];
    try {
      if (alone) await replicas.of(brokerName).request(Op.topicCreate, { ...record, queues: QUEUES });
      else await replicas.of(brokerName).request(Op.topicPut, record);
      wanted.shift();
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
}

/** Creates the run's topics, then makes, changes, lists and deletes others, on one replica or on all groups. */
export async function adminActor(io: Io, stage: Stage): Promise<void> {
  const prng = new Prng(io.random.u32());
  const replicas = new EveryReplica(io, stage, prng);
  const admin = new LedgerClient({ endpoints: stage.endpoints, io }).admin();
  await createRunTopics(io, stage, replicas);
  const definition = (queues: number) => ({ queues, perm: READ_WRITE, messageType: 'normal' as const });
  for (;;) {
    await sleep(io, prng.exponential(700));
    const topic = `other-${prng.between(1, 3)}`;
    const { replica } = replicas.any();
    const queues = prng.between(1, 8);
    try {
      const what = prng.between(0, 3);
      if (what === 3) await replica.request(Op.topicList, { topics: [] });
      else if (stage.groups.length > 1 || prng.chance(0.5)) {
        if (what === 0) await admin.createTopic(topic, definition(queues));
        else if (what === 1) await admin.updateTopic(topic, { queues });
        else await admin.deleteTopic(topic);
      } else if (what === 0) {
        await replica.request(Op.topicCreate, { topic, ...definition(queues), replication: ReplicationMode.quorum });
      } else if (what === 1) {
        await replica.request(Op.topicUpdate, { topic, queues, perm: -1, replication: ReplicationMode.topicMinimum });
      } else await replica.request(Op.topicDelete, { topic });
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
  }
}

export const ACTORS = {
  producer: producerActor,
  consumer: consumerActor,
  reader: readerActor,
  offset: offsetActor,
  operator: operatorActor,
  admin: adminActor,
} as const;
export type ActorKind = keyof typeof ACTORS;
