import type { Clock } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { GroupMark } from '../protocol/group-mark.ts';
import { Op, type RequestOp, type Requests, type Responses, type TopicDescription, type TopicPutRequest } from '../protocol/requests.ts';
import {
  isDrained,
  type NewTopic,
  planCreate,
  planDelete,
  planDrain,
  planOpen,
  planRemove,
  planUpdate,
  type TopicChange,
} from './topic-plan.ts';

/** How the leaders of broker groups are asked: by the client's links, or by the command line's. */
export interface LeaderPort {
  readonly clock: Clock;
  readonly random: Random;
  /** All broker groups that are known. @throws LedgerError NO_ROUTE */
  brokerNames(): Promise<readonly string[]>;
  /** Follows redirects and elections until `timeoutMs`. @throws LedgerError */
  askLeader<O extends RequestOp>(brokerName: string, op: O, body: Requests[O], timeoutMs: number): Promise<Responses[O]>;
  sleep(delayMs: number): Promise<void>;
}

/** What one group made of a change; `error` null = it is applied there. */
export interface GroupResult {
  readonly brokerName: string;
  readonly error: LedgerError | null;
}
export interface TopicOutcome {
  readonly record: TopicPutRequest;
  readonly groups: readonly GroupResult[];
}

/** By the group that says so. */
export type DescribedTopic = TopicDescription & { readonly describedBy: string };

/** A group without a leader must not hold up what the others can say. */
const LIST_TIMEOUT_MS = 5_000;
const PUT_TIMEOUT_MS = 15_000;
const AGAIN_MS = 200;
/** Reasons that one refusal names. */
const MAX_NAMED = 8;

/** 32 bits, though records have room for 53: clients of feature level 1 read no more. Two topics of one name need no more either. */
function newIncarnation(random: Random): number {
  return random.u32() || 1;
}

/**
 * Changes of topics over all broker groups. There is no coordinator: the whole record goes to the leader of each group of
 * the placement, which applies it any number of times with the same result; a group that is down takes it from the others
 * when it is back. So each change reports what every group made of it, and may be asked for again.
 */
export class TopicAdmin {
  readonly #port: LeaderPort;

  constructor(port: LeaderPort) {
    this.#port = port;
  }

  /** @param brokerNames default: all groups that are not drained @throws LedgerError TOPIC_EXISTS, BAD_NAME, NO_ROUTE, QUEUES_CLOSED */
  async create(topic: string, wanted: NewTopic, brokerNames?: readonly string[]): Promise<TopicOutcome> {
    const { described, closed } = await this.#ask([topic]);
    const groups = brokerNames ?? (await this.#port.brokerNames()).filter((brokerName) => !closed.has(brokerName));
    assertOpen(groups, closed);
    const record = planCreate(topic, described, wanted, groups, newIncarnation(this.#port.random));
    return this.put(record, described);
  }

  /** @param brokerNames groups that get so many queues, those that join too; default: all that have the topic */
  async update(topic: string, change: TopicChange, brokerNames?: readonly string[]): Promise<TopicOutcome> {
    const { described, closed } = await this.#ask([topic]);
    if (brokerNames !== undefined) assertOpen(brokerNames, closed);
    return this.put(planUpdate(topic, described, change, brokerNames), described);
  }

  async delete(topic: string): Promise<TopicOutcome[]> {
    const described = await this.describe([topic]);
    const outcomes: TopicOutcome[] = [];
    for (const record of planDelete(topic, described)) outcomes.push(await this.put(record, described));
    return outcomes;
  }

  /**
   * F48: every topic on that group stops taking messages there, and topics that are made later get no queues there; its queues are read
   * until they are empty. Again is fine.
   */
  async drain(brokerName: string): Promise<TopicOutcome[]> {
    await this.#mark(brokerName, 'drained', false);
    return this.#changeAll(brokerName, planDrain);
  }

  /** Takes a drain back: all topics that still have queues there are written there again. */
  async open(brokerName: string): Promise<TopicOutcome[]> {
    await this.#mark(brokerName, 'open', false);
    return this.#changeAll(brokerName, planOpen);
  }

  async #mark(brokerName: string, mark: GroupMark, forced: boolean): Promise<void> {
    try {
      await this.#port.askLeader(brokerName, Op.groupMark, { mark, forced }, PUT_TIMEOUT_MS);
    } catch (error) {
      // A group of an earlier level has its topics' marks only.
      const code = asLedgerError(error).code;
      if (code !== 'FEATURE_LEVEL' && code !== 'UNKNOWN_OPERATION') throw error;
    }
  }

  /**
   * F48: takes a drained group, with what its queues still hold, out of every topic. Again is fine.
   * @param force also with messages that some consumer group has not consumed, or that none has read
   * @throws LedgerError BAD_REQUEST when it is not drained, or holds such messages
   */
  async remove(brokerName: string, force: boolean): Promise<TopicOutcome[]> {
    if (force) await this.drain(brokerName);
    else {
      const left = await this.#leftOn(brokerName);
      if (left.length > 0) throw new LedgerError('BAD_REQUEST', `broker group ${brokerName} is not empty: ${left.join('; ')}`);
    }
    await this.#mark(brokerName, 'removed', force);
    return this.#changeAll(brokerName, planRemove);
  }

  /** What keeps a broker group from being removed, in words. */
  async #leftOn(brokerName: string): Promise<string[]> {
    const ask = <O extends RequestOp>(op: O, body: Requests[O]): Promise<Responses[O]> =>
      this.#port.askLeader(brokerName, op, body, PUT_TIMEOUT_MS);
    const { topics } = await ask(Op.topicList, { topics: [] });
    const open = topics.filter((topic) => !isDrained(topic, brokerName));
    if (open.length > 0) return open.slice(0, MAX_NAMED).map(({ topic }) => `${topic} still takes messages there, drain it first`);
    const { groups } = await ask(Op.groupList, {});
    const left = groups.filter(({ lag }) => lag > 0).map(({ group, lag }) => `group ${group} has ${lag} messages to consume`);
    const read = new Set<string>();
    for (const { group } of groups) for (const { topic } of (await ask(Op.groupDescribe, { group })).queues) read.add(topic);
    for (const { topic, queues } of topics) {
      const messages = queues.reduce((sum, { minOffset, maxOffset }) => sum + maxOffset - minOffset, 0);
      if (messages > 0 && !read.has(topic)) left.push(`no consumer group has read the ${messages} messages of ${topic}`);
    }
    return left.slice(0, MAX_NAMED);
  }

  async #changeAll(
    brokerName: string,
    plan: (topic: string, described: readonly TopicDescription[], brokerName: string) => TopicPutRequest | null,
  ): Promise<TopicOutcome[]> {
    const byTopic = Map.groupBy(await this.describe([]), ({ topic }) => topic);
    // First everything is planned: a topic that cannot leave the group is said before any other has left it.
    const planned = [...byTopic].flatMap(([topic, described]) => {
      const record = plan(topic, described, brokerName);
      return record === null ? [] : [{ record, described }];
    });
    const outcomes: TopicOutcome[] = [];
    for (const { record, described } of planned) outcomes.push(await this.put(record, described));
    return outcomes;
  }

  /** What each group says of these topics (none: of all); groups without a leader are left out. @throws LedgerError when no group answers */
  async describe(topics: readonly string[]): Promise<DescribedTopic[]> {
    return (await this.#ask(topics)).described;
  }

  /** The same, and which groups get no more queues. */
  async #ask(
    topics: readonly string[],
  ): Promise<{ readonly described: DescribedTopic[]; readonly closed: ReadonlyMap<string, GroupMark> }> {
    const brokerNames = await this.#port.brokerNames();
    const answers = await Promise.allSettled(
      brokerNames.map((brokerName) => this.#port.askLeader(brokerName, Op.topicList, { topics }, LIST_TIMEOUT_MS)),
    );
    const refused = answers.find((answer) => answer.status === 'rejected');
    if (refused !== undefined && answers.every(({ status }) => status === 'rejected')) throw asLedgerError(refused.reason);
    const described = answers.flatMap((answer, at) =>
      answer.status === 'fulfilled' ? answer.value.topics.map((topic) => ({ ...topic, describedBy: brokerNames[at] as string })) : [],
    );
    const closed = new Map<string, GroupMark>();
    for (const [at, answer] of answers.entries()) {
      const mark = answer.status === 'fulfilled' ? (answer.value.mark ?? 'open') : 'open';
      if (mark !== 'open') closed.set(brokerNames[at] as string, mark);
    }
    return { described, closed };
  }

  /** To every group that the record names, or that is to give the topic up. */
  async put(record: TopicPutRequest, described: readonly DescribedTopic[]): Promise<TopicOutcome> {
    const places = [record, ...described.filter(({ topicId }) => topicId === record.topicId)].flatMap(({ placement }) => placement);
    const names = [...new Set(places.map(({ brokerName }) => brokerName))].sort();
    const alone = names.length === 1;
    const knowing = new Set(described.filter(({ topicId }) => topicId === record.topicId).map(({ describedBy }) => describedBy));
    const put = (brokerName: string, said: TopicPutRequest) => this.#putOne(brokerName, { ...said, known: knowing.has(brokerName) }, alone);
    const groups: GroupResult[] = [];
    let agreed = record;
    // The brokers' own default is asked of one group first: two groups with two defaults would make two records.
    while (agreed.replication === 0 && names.length > 0) {
      const brokerName = names.shift() as string;
      const { error, replication } = await put(brokerName, agreed);
      groups.push({ brokerName, error });
      if (error === null) agreed = { ...agreed, replication };
    }
    const others = await Promise.all(names.map(async (brokerName) => ({ brokerName, error: (await put(brokerName, agreed)).error })));
    return { record: agreed, groups: [...groups, ...others] };
  }

  async #putOne(
    brokerName: string,
    record: TopicPutRequest,
    alone: boolean,
  ): Promise<{ readonly error: LedgerError | null; readonly replication: number }> {
    const deadlineAt = this.#port.clock.monotonicMs() + PUT_TIMEOUT_MS;
    for (;;) {
      const leftMs = deadlineAt - this.#port.clock.monotonicMs();
      try {
        const { replication } = await this.#port.askLeader(brokerName, Op.topicPut, record, Math.max(1, leftMs));
        return { error: null, replication };
      } catch (thrown) {
        const error = asLedgerError(thrown);
        const older = error.code === 'FEATURE_LEVEL' || error.code === 'UNKNOWN_OPERATION';
        if (older && alone) return this.#putBefore(brokerName, record);
        // A new group is raised by its first leader in a moment; the tombstone of a topic of this name may be on its way out.
        const soon = error.code === 'FEATURE_LEVEL' || (error.code === 'TOPIC_CONFLICT' && record.version === 1);
        if (!soon || leftMs <= AGAIN_MS) return { error, replication: record.replication };
        await this.#port.sleep(AGAIN_MS);
      }
    }
  }

  /** A group of feature level 1 keeps its own topics: what is asked of it alone it can do by the commands of that level. */
  async #putBefore(
    brokerName: string,
    record: TopicPutRequest,
  ): Promise<{ readonly error: LedgerError | null; readonly replication: number }> {
    const { topic, perm, messageType, replication, placement, deleted, version } = record;
    const queues = placement.find((place) => place.brokerName === brokerName)?.queues ?? 0;
    try {
      if (deleted) await this.#port.askLeader(brokerName, Op.topicDelete, { topic }, PUT_TIMEOUT_MS);
      else if (version === 1) {
        await this.#port.askLeader(brokerName, Op.topicCreate, { topic, queues, perm, messageType, replication }, PUT_TIMEOUT_MS);
      } else await this.#port.askLeader(brokerName, Op.topicUpdate, { topic, queues, perm, replication }, PUT_TIMEOUT_MS);
      return { error: null, replication: replication === 0 ? 2 : replication };
    } catch (error) {
      return { error: asLedgerError(error), replication };
    }
  }
}

/** @throws LedgerError of the first group that refused, naming all that did */
export function assertApplied({ record, groups }: TopicOutcome): void {
  const failed = groups.filter(({ error }) => error !== null);
  const [first] = failed;
  if (first?.error == null) return;
  const causes = failed.map(({ error }) => error as LedgerError);
  if (groups.length === 1) throw first.error;
  const detail = failed.map(({ brokerName, error }) => `${brokerName}: ${error?.message}`).join('; ');
  throw new LedgerError(first.error.code, `${record.topic} is not changed on every broker group: ${detail}`, causes);
}

/** @throws LedgerError QUEUES_CLOSED */
function assertOpen(brokerNames: readonly string[], closed: ReadonlyMap<string, GroupMark>): void {
  const found = brokerNames.find((brokerName) => closed.has(brokerName));
  if (found !== undefined)
    throw new LedgerError('QUEUES_CLOSED', `broker group ${found} is ${closed.get(found)} (ledgermq cluster drain --undo)`);
  if (brokerNames.length === 0) throw new LedgerError('QUEUES_CLOSED', 'every broker group is drained');
}

function asLedgerError(error: unknown): LedgerError {
  return error instanceof LedgerError ? error : new LedgerError('INTERNAL', String(error));
}
