import { describe, expect, test } from 'vitest';
import { heardOf } from '../../src/broker/topic-reconciler.ts';
import { type LeaderPort, TopicAdmin } from '../../src/client/topic-admin.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { Op } from '../../src/protocol/requests.ts';
import type { AppliedTopic, TopicRecord } from '../../src/routing/records.ts';
import { StaticRouting } from '../../src/routing/static-routing.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

/** What gossip would carry between the groups; a group that is cut off neither hears nor is heard. */
class Grapevine {
  readonly #applied = new Map<string, Map<string, AppliedTopic>>();
  readonly #listeners = new Map<string, Set<(applied: AppliedTopic) => void>>();
  readonly cut = new Set<string>();

  of(brokerName: string) {
    const visible = (from: string): boolean => from === brokerName || !(this.cut.has(from) || this.cut.has(brokerName));
    const all = (): AppliedTopic[] => [...this.#applied].flatMap(([from, topics]) => (visible(from) ? [...topics.values()] : []));
    return {
      onTopic: (listener: (applied: AppliedTopic) => void) => {
        const listeners = this.#listeners.get(brokerName) ?? new Set();
        this.#listeners.set(brokerName, listeners.add(listener));
        return () => listeners.delete(listener);
      },
      appliedTopics: (topic: string) => all().filter(({ record }) => record.name === topic),
      allAppliedTopics: all,
    };
  }

  publish(brokerName: string, record: TopicRecord, logIndex: number): void {
    const topics = this.#applied.get(brokerName) ?? new Map<string, AppliedTopic>();
    this.#applied.set(brokerName, topics);
    const applied = { brokerName, logIndex, record };
    topics.set(record.name, applied);
    for (const [to, listeners] of this.#listeners) {
      if (this.cut.has(to) || this.cut.has(brokerName)) continue;
      for (const listener of listeners) listener(applied);
    }
  }
}

class ToldRouting extends StaticRouting {
  readonly #told: (record: TopicRecord, logIndex: number) => void;

  constructor(brokerName: string, told: (record: TopicRecord, logIndex: number) => void) {
    super({ brokerName, replicas: [{ replicaId: 1, endpoint: `ws://${brokerName}` }] });
    this.#told = told;
  }
  override publishTopic(record: TopicRecord, logIndex: number): void {
    super.publishTopic(record, logIndex);
    this.#told(record, logIndex);
  }
}

/** Three broker groups of one replica, and an operator. */
function cluster(level = 2) {
  const vine = new Grapevine();
  const groups = new Map(
    ['a', 'b', 'c'].map((brokerName) => {
      const routing = new ToldRouting(brokerName, (record, logIndex) => vine.publish(brokerName, record, logIndex));
      const featureLevel = { announcedLevel: () => level, autoRaise: true };
      const group = new BrokerHarness({}, undefined, {}, { brokerName, clusterTopics: vine.of(brokerName), featureLevel, routing });
      group.replica.leadReady();
      group.replica.settle();
      return [brokerName, group] as const;
    }),
  );
  const down = new Set<string>();
  const settle = (): void => {
    for (let round = 0; round < 5; round++) for (const group of groups.values()) group.replica.settle();
  };
  const clock = { wallMs: () => 0, monotonicMs: () => now, setTimer: () => ({}), clearTimer: () => {}, defer: () => {} };
  let now = 0;
  const port: LeaderPort = {
    clock,
    random: new SeededRandom(),
    brokerNames: async () => [...groups.keys()],
    askLeader: async (brokerName, op, body) => {
      const group = groups.get(brokerName);
      if (group === undefined || down.has(brokerName)) throw new LedgerError('NO_ROUTE', brokerName);
      const answer = group.ask(group.session(), op, body);
      if (typeof answer === 'string') throw new LedgerError(answer);
      return answer;
    },
    sleep: async (delayMs) => {
      now += delayMs;
      for (const group of groups.values()) group.clock.advance(delayMs);
      settle();
    },
  };
  const group = (brokerName: string): BrokerHarness => groups.get(brokerName) as BrokerHarness;
  const placementOf = (brokerName: string) => group(brokerName).machine.topics.named('T')?.placement;
  const pass = (): void => {
    for (const each of groups.values()) each.clock.advance(6_000);
    settle();
  };
  return { vine, down, port, topics: new TopicAdmin(port), group, placementOf, settle, pass };
}

const wanted = { queues: 2, perm: 6, messageType: 'normal', replication: 0 } as const;
const failed = (groups: readonly { brokerName: string; error: LedgerError | null }[]) =>
  groups.flatMap(({ brokerName, error }) => (error === null ? [] : [`${brokerName} ${error.code}`]));

describe('topics over several broker groups', () => {
  test('F01 a topic is made on all groups, grows into another one, and is deleted everywhere; each may be asked for again', async () => {
    const { topics, group, placementOf, pass } = cluster();
    const made = await topics.create('T', wanted, ['a', 'b']);
    expect(failed(made.groups)).toEqual([]);
    expect(placementOf('a')).toEqual(placementOf('b'));
    expect(placementOf('c')).toBe(undefined);
    expect((await topics.create('T', wanted, ['a', 'b'])).record).toEqual(made.record);
    await expect(topics.create('T', { ...wanted, queues: 3 }, ['a'])).rejects.toThrow('TOPIC_EXISTS');
    await topics.update('T', { queues: 5 }, ['c']);
    expect(['a', 'b', 'c'].map((name) => group(name).machine.topics.named('T')?.queues.length)).toEqual([2, 2, 5]);
    expect(placementOf('a')).toEqual(placementOf('c'));
    await expect(topics.update('T', { queues: 1 })).rejects.toThrow('never taken away');
    const [gone] = await topics.delete('T');
    expect(failed(gone?.groups ?? [])).toEqual([]);
    expect(['a', 'b', 'c'].map(placementOf)).toEqual([undefined, undefined, undefined]);
    pass();
    // Nobody needs the tombstones any more: the name is free.
    expect(['a', 'b', 'c'].map((name) => group(name).machine.topics.allGone())).toEqual([[], [], []]);
    expect(failed((await topics.create('T', { ...wanted, queues: 1 })).groups)).toEqual([]);
  });

  test('F01 an update that comes late, behind two others or behind the deletion, is refused: not taken for done, and no topic comes back', async () => {
    const { topics, port, group } = cluster(3);
    /** An operator whose change leaves when the others are done. */
    const late = async (others: () => Promise<unknown>): Promise<readonly string[]> => {
      const slow: LeaderPort = {
        ...port,
        askLeader: async (brokerName, op, body, timeoutMs) => {
          if (op === Op.topicPut) await others();
          return port.askLeader(brokerName, op, body, timeoutMs);
        },
      };
      return failed((await new TopicAdmin(slow).update('T', { queues: 9 })).groups);
    };
    await topics.create('T', wanted, ['a']);
    const twice = async (): Promise<void> => {
      await topics.update('T', { perm: 4 });
      await topics.update('T', { perm: 6 });
    };
    expect(await late(twice)).toEqual(['a TOPIC_CONFLICT']);
    expect(group('a').machine.topics.named('T')?.queues.length).toBe(2);
    expect(await late(() => topics.delete('T'))).toEqual(['a TOPIC_NOT_FOUND']);
    expect(group('a').machine.topics.named('T')).toBe(undefined);
  });

  test('F01 a group that was away takes what it missed from the others: creation, growth, deletion', async () => {
    const { vine, down, topics, group, placementOf, settle, pass } = cluster();
    const away = (): void => {
      down.add('c');
      vine.cut.add('c');
    };
    const back = (): void => {
      down.delete('c');
      vine.cut.delete('c');
      pass();
    };
    away();
    expect(failed((await topics.create('T', wanted, ['a', 'b', 'c'])).groups)).toEqual(['c NO_ROUTE']);
    expect(placementOf('c')).toBe(undefined);
    back();
    expect(placementOf('c')).toEqual(placementOf('a'));
    away();
    await topics.update('T', { queues: 4 });
    back();
    expect(group('c').machine.topics.named('T')?.queues).toHaveLength(4);
    away();
    await topics.delete('T');
    settle();
    pass();
    // The tombstones wait for c, and so does the name.
    expect(group('a').machine.topics.gone('T')).not.toBe(null);
    expect(failed((await topics.create('T', wanted, ['a'])).groups)).toEqual(['a TOPIC_CONFLICT']);
    back();
    pass();
    expect(placementOf('c')).toBe(undefined);
    expect(group('a').machine.topics.gone('T')).toBe(null);
  });

  test('F01 a topic made twice is reported and never overwritten', async () => {
    const { topics, group, vine, placementOf, pass } = cluster();
    vine.cut.add('b');
    await topics.put({ topic: 'T', topicId: 5, version: 1, placement: [{ brokerName: 'a', queues: 1 }], ...wanted, deleted: false }, []);
    await topics.put({ topic: 'T', topicId: 6, version: 3, placement: [{ brokerName: 'b', queues: 2 }], ...wanted, deleted: false }, []);
    vine.cut.delete('b');
    pass();
    expect(group('a').events).toContain('topic conflict');
    expect(group('b').events).toContain('topic conflict');
    expect(placementOf('a')).toEqual([{ brokerName: 'a', queues: 1 }]);
    expect(placementOf('b')).toEqual([{ brokerName: 'b', queues: 2 }]);
    await expect(topics.update('T', { queues: 9 })).rejects.toThrow('TOPIC_CONFLICT');
    expect(await topics.delete('T')).toHaveLength(2);
    expect(placementOf('a')).toBe(undefined);
    expect(placementOf('b')).toBe(undefined);
  });

  test('F48 a drained group takes no sends, is removed when everything is consumed, and keeps nothing', async () => {
    const { topics, group, placementOf } = cluster();
    await topics.create('T', wanted);
    const a = group('a');
    const session = a.session();
    expect(a.sent(session, 'T', 0, makeBatch({ count: 3 }))).toEqual([0, 0]);
    expect(await topics.drain('a')).toHaveLength(1);
    expect(await topics.drain('a')).toHaveLength(0);
    expect(a.sent(session, 'T', 0, makeBatch())[0]).toBe(17);
    expect(group('b').sent(group('b').session(), 'T', 0, makeBatch())[0]).toBe(0);
    await expect(topics.remove('b', false)).rejects.toThrow('drain it first');
    await expect(topics.remove('a', false)).rejects.toThrow('no consumer group has read the 3 messages of T');
    const joined = a.join(session, 'g', 'm');
    await expect(topics.remove('a', false)).rejects.toThrow('group g has 3 messages');
    const epoch = joined.queues.find(({ queueId }) => queueId === 0)?.epoch as number;
    const offsets = [{ topic: 'T', queueId: 0, offset: 3 }];
    a.request(session, Op.offsetCommit, { group: 'g', member: 'm', epoch, offsets });
    a.clock.advance(200);
    a.replica.settle();
    expect(await topics.remove('a', false)).toHaveLength(1);
    expect(placementOf('a')).toBe(undefined);
    expect(placementOf('b')?.map(({ brokerName }) => brokerName)).toEqual(['b', 'c']);
    expect(await topics.remove('a', false)).toHaveLength(0);
  });

  test('F48 by force a group is removed with what it holds; a topic that is on it alone keeps it', async () => {
    const { topics, group, placementOf } = cluster();
    await topics.create('T', wanted);
    group('a').sent(group('a').session(), 'T', 0, makeBatch());
    expect(await topics.remove('a', true)).toHaveLength(1);
    expect(placementOf('a')).toBe(undefined);
    await topics.create('alone', wanted, ['b']);
    await expect(topics.drain('b')).rejects.toThrow('alone is on b alone');
    expect(placementOf('b')?.every(({ perm }) => perm === undefined)).toBe(true);
  });

  test('what a record of another group asks for', () => {
    const base: TopicRecord = {
      name: 'T',
      incarnation: 1,
      version: 2,
      placement: [{ brokerName: 'a', queues: 1 }],
      perm: 6,
      messageType: 'normal',
      replication: 2,
      deleted: false,
    };
    const gone = { ...base, deleted: true };
    const elsewhere = { ...base, placement: [{ brokerName: 'b', queues: 1 }] };
    expect(heardOf(null, undefined, base, 'a')).toBe('put');
    expect(heardOf(null, undefined, elsewhere, 'a')).toBe(null);
    expect(heardOf(null, undefined, gone, 'a')).toBe('put');
    expect(heardOf(null, gone, gone, 'a')).toBe(null);
    expect(heardOf(null, gone, { ...base, version: 1 }, 'a')).toBe(null);
    expect(heardOf(null, gone, { ...base, incarnation: 2 }, 'a')).toBe('put');
    expect(heardOf(base, base, { ...elsewhere, version: 3 }, 'a')).toBe('put');
    expect(heardOf(base, base, { ...base, version: 1 }, 'a')).toBe(null);
    expect(heardOf(base, base, { ...base, perm: 4 }, 'a')).toBe('conflict');
    expect(heardOf(base, base, { ...gone, version: 1 }, 'a')).toBe('put');
    expect(heardOf(gone, gone, { ...base, version: 9 }, 'a')).toBe(null);
    expect(heardOf(base, base, { ...base, incarnation: 2 }, 'a')).toBe('conflict');
    expect(heardOf(gone, gone, { ...base, incarnation: 2 }, 'a')).toBe(null);
  });
});
