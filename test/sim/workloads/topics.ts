import type { LedgerClient } from '../../../src/client/ledger-client.ts';
import type { SendResult } from '../../../src/client/types.ts';
import type { Io } from '../../../src/io/io.ts';
import { LedgerError } from '../../../src/protocol/errors.ts';
import { Op, type TopicDescription } from '../../../src/protocol/requests.ts';
import { EveryReplica, QUEUES, type Stage } from '../actors.ts';
import { type FinalLog, queueName, Violation } from '../checkers/violation.ts';
import { encodeBody } from '../message-body.ts';
import { Prng } from '../prng.ts';
import { clientOf, comeAndGo, type InTheEnd, insist, type Retained, sleep, type Workload } from './workload.ts';

const NAMES = ['shelf-1', 'shelf-2', 'shelf-3'] as const;
const GROUP = 'browsers';
/** The same record was seen everywhere twice, so long apart: what was on its way has arrived. */
const CALM_MS = 3_000;

/** The observer of all clients knows them: behind one name are several topics, one after the other. */
export const isMadeAgain = (topic: string): boolean => topic.startsWith('shelf-');

interface StoredThere {
  readonly result: SendResult;
  /** The incarnation that was there before the send and had no end in sight when it was answered. */
  readonly topicId: number;
}

/**
 * Topics that are made, grow, are deleted and made again while others send and consume (F01). What is listed the checker of topics judges,
 * frame by frame; here: what was stored in an incarnation that nobody deleted is handled and in the end there, what was stored in a
 * deleted one is not in the next; in the end all groups say the same of each name.
 */
class TopicsReferee {
  readonly #stored: StoredThere[] = [];
  readonly #handled = new Set<string>();
  readonly #stage: { now: Stage | null } = { now: null };
  readonly #brokerNames: readonly string[];
  /** Of each name, once all groups have said it twice. */
  readonly agreed = new Map<string, number>();
  /** In the end, by broker group and name. */
  readonly #final = new Map<string, number>();
  #done = 0;

  constructor(brokerNames: readonly string[]) {
    this.#brokerNames = brokerNames;
  }

  enters(stage: Stage): void {
    this.#stage.now = stage;
  }

  /** Before a send: where what is stored now will be, as far as that is certain. */
  places(stage: Stage, topic: string): ReadonlyMap<string, number> {
    const places = new Map<string, number>();
    for (const brokerName of this.#brokerNames) {
      const topicId = stage.referee.topics.certain(brokerName, topic);
      if (topicId !== null) places.set(brokerName, topicId);
    }
    return places;
  }

  stored(result: SendResult, before: ReadonlyMap<string, number>): void {
    const topicId = before.get(result.brokerName);
    if (topicId !== undefined && !this.#mayEnd(result, topicId)) this.#stored.push({ result, topicId });
  }

  #mayEnd({ brokerName, topic }: SendResult, topicId: number): boolean {
    return this.#stage.now?.referee.topics.mayEnd(brokerName, topic, topicId) ?? true;
  }

  handled(msgId: string): void {
    this.#handled.add(msgId);
  }

  unfinished(retained: Retained): string | null {
    for (const name of NAMES) if (!this.agreed.has(name)) return `the broker groups do not agree on ${name}`;
    for (; this.#done < this.#stored.length; this.#done++) {
      const { result, topicId } = this.#stored[this.#done] as StoredThere;
      const { brokerName, topic, queueId, offset, msgId } = result;
      if (this.#mayEnd(result, topicId) || this.#handled.has(msgId)) continue;
      if (retained({ brokerName, topic, queueId, offset: offset ?? 0 }))
        return `${msgId} was stored at ${placeOf(result)} of ${topicId}, and is not consumed`;
    }
    return null;
  }

  judge({ topicsAt }: InTheEnd): void {
    for (const name of NAMES) {
      const said = this.#brokerNames.map((brokerName) => topicsAt(brokerName).find(({ topic }) => topic === name));
      const records = new Set(said.map((topic) => recordOf(topic)));
      if (records.size !== 1) throw new Violation('topics differ', `${name}: ${[...records].join(' and ')}`);
      for (const [at, brokerName] of this.#brokerNames.entries()) this.#final.set(`${brokerName}/${name}`, said[at]?.topicId ?? 0);
    }
    for (const { result, topicId } of this.#stored) {
      if (this.#mayEnd(result, topicId)) continue;
      const { brokerName, topic, queueId, offset, msgId } = result;
      this.#stage.now?.referee.acked.push({ queue: queueName(brokerName, topic, queueId), offset: offset ?? -1, identity: msgId });
    }
  }

  /** What is there at the end was not stored in another topic of that name. */
  shown(log: FinalLog): void {
    const ids = new Map(this.#stored.map((stored) => [stored.result.msgId, stored]));
    for (const [queue, { messages }] of log.queues) {
      for (const { identity, offset } of messages) {
        const known = ids.get(identity);
        const there = this.#final.get(queue.slice(0, queue.lastIndexOf('/')));
        if (known === undefined || there === undefined || known.topicId === there) continue;
        throw new Violation('topic came back', `${identity} was stored in ${known.topicId}, and lies at ${queue}@${offset} of ${there}`);
      }
    }
  }
}

const placeOf = ({ brokerName, topic, queueId, offset }: SendResult): string => `${brokerName}/${topic}/${queueId}@${offset}`;

const recordOf = (topic: TopicDescription | undefined): string =>
  topic === undefined ? 'nothing' : JSON.stringify([topic.topicId, topic.version, topic.perm, topic.placement, topic.replication]);

/** Makes, enlarges and deletes, and sometimes brings a change late that was planned on what was described long before. */
async function administer(io: Io, stage: Stage, referee: TopicsReferee, isLast: boolean): Promise<void> {
  referee.enters(stage);
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  const admin = client.admin();
  const replicas = new EveryReplica(io, stage, prng);
  const meanMs = prng.pick([100, 400, 1_500]);
  while (stage.open) {
    const name = prng.pick(NAMES);
    const what = prng.pick(['create', 'create', 'create', 'update', 'delete', 'delete', 'late', 'late', 'late', 'list'] as const);
    try {
      if (what === 'create') await admin.createTopic(name, { queues: prng.between(1, QUEUES) });
      else if (what === 'update') await admin.updateTopic(name, { queues: prng.between(1, QUEUES) });
      else if (what === 'delete') await admin.deleteTopic(name);
      else {
        const described = await admin.topics(what === 'late' ? [name] : []);
        if (what === 'late') for (const topic of described) void changeLate(io, stage, prng, replicas, topic);
      }
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
    }
    await sleep(io, prng.exponential(meanMs));
  }
  if (isLast) for (;;) for (const name of NAMES) await settle(io, stage, client, referee, name);
}

/** As a client whose frame was long on its way. Queues as there were: whoever applies it, it is a version more of the same. */
async function changeLate(io: Io, stage: Stage, prng: Prng, replicas: EveryReplica, topic: TopicDescription): Promise<void> {
  const { queues: _, ...record } = topic;
  await sleep(io, prng.exponential(1_500));
  for (const { brokerName } of topic.placement) {
    if (!stage.open) return;
    const late = { ...record, version: record.version + prng.between(0, 2), deleted: false, known: true };
    await replicas
      .of(brokerName)
      .request(Op.topicPut, late)
      .catch((error: unknown) => {
        if (!(error instanceof LedgerError)) throw error;
      });
  }
}

/** Until all groups say the same of it, in so many queues as every topic has that is read at the end. */
async function settle(io: Io, stage: Stage, client: LedgerClient, referee: TopicsReferee, name: string): Promise<void> {
  const described = await insist(io, () => client.admin().topics([name]));
  const [first] = described;
  const same = new Set(described.map(recordOf)).size === 1 && first?.queues.length === QUEUES;
  if (same && described.length === stage.groups.length) {
    await sleep(io, CALM_MS);
    const again = await insist(io, () => client.admin().topics([name]));
    if (again.length === described.length && again.every((topic) => recordOf(topic) === recordOf(first)))
      referee.agreed.set(name, first?.topicId ?? 0);
    return;
  }
  referee.agreed.delete(name);
  try {
    if (new Set(described.map(({ topicId }) => topicId)).size > 1) await client.admin().deleteTopic(name);
    else if (described.length === 0) await client.admin().createTopic(name, { queues: QUEUES });
    // On all groups: who made it may have known of some only (seed 2184).
    else
      await client.admin().updateTopic(
        name,
        { queues: QUEUES },
        stage.groups.map(({ brokerName }) => brokerName),
      );
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    await sleep(io, 200);
  }
}

async function produce(io: Io, stage: Stage, referee: TopicsReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const producer = clientOf(io, stage).producer({ deliveryTimeoutMs: 10_000 });
  const number = stage.nextProducer();
  const meanMs = 20 + prng.exponential(100);
  for (let n = 0; stage.open; n++) {
    const topic = prng.pick(NAMES);
    const before = referee.places(stage, topic);
    stage.referee.fabricated.sent(number, n);
    const settled = stage.begin();
    producer
      .send({ topic, body: encodeBody(number, 0, n, 20) })
      .then((result) => referee.stored(result, before))
      .catch(() => {})
      .finally(settled);
    await sleep(io, prng.exponential(meanMs));
  }
}

async function consume(io: Io, stage: Stage, referee: TopicsReferee): Promise<void> {
  const prng = new Prng(io.random.u32());
  const client = clientOf(io, stage);
  const handler = ({ msgId }: { readonly msgId: string }): void => referee.handled(msgId);
  await comeAndGo(io, stage, prng, () =>
    client.consumer({ group: GROUP, topics: [...NAMES], consumeFromWhere: 'first', pullWaitMs: 1_000, handler }),
  );
}

export function makeTopics(prng: Prng, brokerNames: readonly string[]): Workload {
  const referee = new TopicsReferee(brokerNames);
  const admins = Array.from({ length: prng.between(1, 3) }, (_, at) => (io: Io, stage: Stage) => administer(io, stage, referee, at === 0));
  return {
    topics: NAMES,
    actors: [...admins, (io, stage) => produce(io, stage, referee), (io, stage) => consume(io, stage, referee)],
    unfinished: (retained) => referee.unfinished(retained),
    judge: (_retained, inTheEnd) => referee.judge(inTheEnd),
    shown: (log) => referee.shown(log),
  };
}
