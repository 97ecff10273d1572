import { afterEach, describe, expect, test } from 'vitest';
import type { VerifyChainResponse } from '../../src/protocol/raft-requests.ts';
import { Op, type TopicDescription } from '../../src/protocol/requests.ts';
import { type FakeBrokers, fakeBrokers, raftStatus, type Script } from './fake-brokers.ts';
import { cli, type Ran } from './run.ts';

const TOPIC: TopicDescription = {
  topic: 'orders',
  topicId: 3,
  version: 1,
  perm: 6,
  messageType: 'normal',
  placement: [{ brokerName: 'a', queues: 2 }],
  replication: 2,
  queues: [
    { queueId: 0, minOffset: 0, maxOffset: 10 },
    { queueId: 1, minOffset: 5, maxOffset: 12 },
  ],
};
const GROUP = {
  group: 'billing',
  epoch: 2,
  members: [{ member: 'm@1', address: '127.0.0.1:9', topics: ['orders'] }],
  queues: [
    { topic: 'orders', queueId: 0, owner: 'm@1', committedOffset: 4, maxOffset: 10, lag: 6 },
    { topic: 'other', queueId: 0, owner: 'm@1', committedOffset: -1, maxOffset: 3, lag: 3 },
  ],
};

describe('administration', () => {
  let brokers: FakeBrokers | null = null;
  afterEach(() => brokers?.close());

  /** Runs a command against scripted replicas; the seed is the first one, which does not lead. */
  const ask = async (script: Script, args: readonly string[], leader = 2): Promise<Ran> => {
    brokers = await fakeBrokers(script, leader);
    return cli([...args, '--endpoint', brokers.endpoints[0] as string]);
  };
  const answering =
    (op: number, body: unknown): Script =>
    (_replica, request) =>
      request.op === op ? body : undefined;
  const json = (ran: Ran): unknown => {
    expect(ran.stderr).toBe('');
    expect(ran.exit).toBe(0);
    expect(ran.stdout.endsWith('\n')).toBe(true);
    return JSON.parse(ran.stdout);
  };

  test('F42 command line: cluster status shows leader, terms, commit and lag of each replica', async () => {
    const script: Script = (replicaId, request) =>
      request.op === Op.raftStatus && replicaId === 3
        ? raftStatus(3, 2, { durableIndex: 90, appliedIndex: 80, commitIndex: 80 })
        : undefined;
    const ran = await ask(script, ['cluster', 'status', '--json']);
    expect(json(ran)).toMatchObject({
      clusterId: 'fake',
      groups: [
        {
          brokerName: 'a',
          leader: 2,
          term: 4,
          commitIndex: 100,
          replicas: [
            { replicaId: 1, role: 'follower', lag: 0 },
            { replicaId: 2, role: 'leader', lag: 0 },
            { replicaId: 3, role: 'follower', lag: 10 },
          ],
        },
      ],
    });
  });

  test('cluster status without a leader exits 1 and says which group', async () => {
    const ran = await ask(() => undefined, ['cluster', 'status'], 0);
    expect(ran.exit).toBe(1);
    expect(ran.stderr).toContain('without a leader: a');
    expect(ran.stdout).toContain('follower');
  });

  test('F42 command line: raft status and transfer', async () => {
    const shown = json(await ask(() => undefined, ['raft', 'status', '--json'])) as { replicas: unknown[] };
    expect(shown.replicas).toHaveLength(3);
    await brokers?.close();
    const ran = await ask(answering(Op.raftTransfer, { target: 3 }), ['raft', 'transfer', '--to', '3', '--json']);
    expect(json(ran)).toMatchObject({ brokerName: 'a', leader: 3 });
    expect(brokers?.asked).toEqual([[2, Op.raftTransfer]]);
  });

  test('F42 command line: topics, as JSON and as a table', async () => {
    const list = answering(Op.topicList, { topics: [TOPIC] });
    expect(json(await ask(list, ['topic', 'list', '--json']))).toEqual({
      topics: [{ topic: 'orders', queues: 2, messageType: 'normal', perm: 'rw', replication: 'quorum', messages: 17 }],
    });
    await brokers?.close();
    const table = await ask(list, ['topic', 'list']);
    expect(table.stdout).toBe('TOPIC   QUEUES  TYPE    PERM  REPLICATION  MESSAGES\norders       2  normal  rw    quorum             17\n');
    await brokers?.close();
    const script: Script = (_replica, request) => {
      if (request.op === Op.topicList) return { topics: [] };
      return request.op === Op.topicPut ? { replication: 2 } : undefined;
    };
    const created = await ask(script, ['topic', 'create', 'orders', '--queues', '2', '--json']);
    expect(json(created)).toMatchObject({ topic: 'orders', queues: 2, perm: 'rw', groups: [{ brokerName: 'a', error: null }] });
    await brokers?.close();
    // Brokers of feature level 1 know their own topics only.
    const older: Script = (_replica, request) => {
      if (request.op === Op.topicList) return { topics: [] };
      return request.op === Op.topicCreate ? TOPIC : undefined;
    };
    expect(json(await ask(older, ['topic', 'create', 'orders', '--queues', '2', '--json']))).toMatchObject({ queues: 2 });
  });

  test('a refusal of the broker exits 1 with its code', async () => {
    const ran = await ask(answering(Op.topicList, { topics: [] }), ['topic', 'delete', 'nothing']);
    expect(ran).toMatchObject({ exit: 1, stdout: '' });
    expect(ran.stderr).toContain('TOPIC_NOT_FOUND');
    await brokers?.close();
    expect((await ask(answering(Op.topicList, { topics: [] }), ['topic', 'describe', 'nothing'])).exit).toBe(1);
  });

  test('a replica that no longer leads redirects: the command follows', async () => {
    const script: Script = (replicaId, request) => {
      if (request.op !== Op.groupList) return undefined;
      if (replicaId === 3) return { groups: [{ group: 'billing', epoch: 2, members: 1, lag: 9 }] };
      (brokers as FakeBrokers).leader = 3;
      return 'NOT_LEADER';
    };
    expect(json(await ask(script, ['group', 'list', '--json']))).toEqual({ groups: [{ group: 'billing', epoch: 2, members: 1, lag: 9 }] });
    expect(brokers?.asked).toEqual([
      [2, Op.groupList],
      [3, Op.groupList],
    ]);
  });

  test('F42 command line: lag of a group, of all topics and of one', async () => {
    const script: Script = (_replica, request) => {
      if (request.op !== Op.groupLag) return undefined;
      const { topic } = request.body;
      const queues = GROUP.queues.filter((queue) => topic === '' || queue.topic === topic);
      return { logTimeMs: 50_000, queues: queues.map((queue) => ({ ...queue, oldestTimeMs: 20_000 + queue.lag })) };
    };
    expect(json(await ask(script, ['group', 'lag', 'billing', '--json']))).toMatchObject({ group: 'billing', lag: 9, ageMs: 29_997 });
    await brokers?.close();
    expect(json(await ask(script, ['group', 'lag', 'billing', '--topic', 'orders', '--json']))).toMatchObject({ lag: 6, ageMs: 29_994 });
    await brokers?.close();
    expect((await ask(answering(Op.groupDescribe, GROUP), ['group', 'describe', 'billing'])).stdout).toContain('lag 9');
  });

  test('F42 command line: reset-offset moves every queue of the topic', async () => {
    const resets: unknown[] = [];
    const script: Script = (_replica, request) => {
      if (request.op === Op.topicList) return { topics: [TOPIC] };
      if (request.op === Op.queueRange) return { minOffset: request.body.queueId, maxOffset: 10, timeOffset: 7 };
      if (request.op !== Op.groupResetOffset) return undefined;
      resets.push([request.body.queueId, request.body.offset]);
      return { previous: 4 };
    };
    const ran = await ask(script, ['group', 'reset-offset', 'billing', '--topic', 'orders', '--to', 'first', '--json']);
    expect(json(ran)).toEqual({
      group: 'billing',
      topic: 'orders',
      queues: [
        { brokerName: 'a', queueId: 0, previous: 4, offset: 0 },
        { brokerName: 'a', queueId: 1, previous: 4, offset: 1 },
      ],
    });
    expect(resets).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  const chain = (request: { fromIndex: number; toIndex: number }, hash: number, digest = 7): VerifyChainResponse => ({
    ...request,
    slices:
      request.toIndex < request.fromIndex ? [] : [{ firstIndex: request.fromIndex, lastIndex: request.toIndex, position: 4096, hash }],
    stateDigest: digest,
    digestIndex: 100,
  });

  test('F42 command line: verify finds identical replicas identical', async () => {
    const script: Script = (_replica, request) => (request.op === Op.verifyChain ? chain(request.body, 5) : undefined);
    expect(json(await ask(script, ['verify', '--json']))).toMatchObject({
      identical: true,
      groups: [{ brokerName: 'a', identical: true, fromIndex: 1, toIndex: 100, digestIndex: 100, difference: null }],
    });
  });

  test('F42 command line: verify exits 1 with the first difference of the log, or of the state', async () => {
    const log: Script = (replicaId, request) => (request.op === Op.verifyChain ? chain(request.body, replicaId === 3 ? 6 : 5) : undefined);
    const ran = await ask(log, ['verify']);
    expect(ran.exit).toBe(1);
    expect(ran.stdout).toContain('DIFFER: log entries 1 … 100 at position 4096: replica 1 has 00000005, replica 3 has 00000006');
    await brokers?.close();
    const state: Script = (replicaId, request) =>
      request.op === Op.verifyChain ? chain(request.body, 5, replicaId === 2 ? 8 : 7) : undefined;
    const other = await ask(state, ['verify', '--json']);
    expect(other.exit).toBe(1);
    expect(JSON.parse(other.stdout)).toMatchObject({
      identical: false,
      groups: [{ difference: { kind: 'state', replicaIds: [1, 2], hashes: [7, 8] } }],
    });
  });

  test('verify compares no replica that is behind: it waits, then exits 4', async () => {
    const script: Script = (replicaId, request) =>
      request.op === Op.raftStatus && replicaId === 3 ? raftStatus(3, 2, { appliedIndex: 80, durableIndex: 80 }) : undefined;
    const ran = await ask(script, ['verify', '--timeout', '0.2']);
    expect(ran).toMatchObject({ exit: 4, stdout: '' });
    expect(ran.stderr).toContain('replica 3 has applied 80 of 100');
  });
});
