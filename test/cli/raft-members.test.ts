import { afterEach, describe, expect, test } from 'vitest';
import { progressOf } from '../../src/cli/commands/raft-members.ts';
import type { ErrorCode } from '../../src/protocol/errors.ts';
import { Op } from '../../src/protocol/requests.ts';
import { type FakeBrokers, fakeBrokers, raftStatus, type Script } from './fake-brokers.ts';
import { cli, type Ran } from './run.ts';

const ADD = ['raft', 'add', 'a', '4@d.example:7460'];
const REMOVE = ['raft', 'remove', 'a', '3'];
const voters = [1, 2, 3];

describe('members of a broker group', () => {
  let brokers: FakeBrokers | null = null;
  afterEach(() => brokers?.close());

  const ask = async (script: Script, args: readonly string[], leader = 2): Promise<Ran> => {
    await brokers?.close();
    brokers = await fakeBrokers(script, leader);
    return cli([...args, '--endpoint', brokers.endpoints[0] as string]);
  };
  /** Replicas that go by this membership and answer changes with `answer`. */
  const members =
    (membership: { voters: number[]; learners?: number[]; outgoing?: number[] }, answer: unknown = {}): Script =>
    (replicaId, { op }) => {
      if (op === Op.raftStatus)
        return raftStatus(replicaId, (brokers as FakeBrokers).leader, { learners: [], outgoing: [], ...membership });
      return op === Op.raftAdd || op === Op.raftRemove ? answer : undefined;
    };

  test('F42 command line: raft add asks the leader, with the member as it was named', async () => {
    const bodies: unknown[] = [];
    const script: Script = (replicaId, request) => {
      if (request.op === Op.raftAdd) bodies.push(request.body);
      return members({ voters })(replicaId, request);
    };
    const ran = await ask(script, [...ADD, '--json']);
    expect(ran).toMatchObject({ exit: 0, stderr: '' });
    expect(JSON.parse(ran.stdout)).toMatchObject({ brokerName: 'a', replicaId: 4, changed: true });
    expect(brokers?.asked).toEqual([[2, Op.raftAdd]]);
    await ask(script, ['raft', 'add', 'a', '5@[::1]:7560']);
    expect(bodies).toEqual([
      { replicaId: 4, host: 'd.example', port: 7460 },
      { replicaId: 5, host: '::1', port: 7560 },
    ]);
  });

  test('F42 command line: raft remove asks the leader', async () => {
    const ran = await ask(members({ voters }), REMOVE);
    expect(ran).toMatchObject({ exit: 0, stderr: '' });
    expect(ran.stdout).toMatch(/^replica 3 is not in group a now \(\d+ ms\)\n$/);
    expect(brokers?.asked).toEqual([[2, Op.raftRemove]]);
  });

  test('F42 command line: raft add and remove are done already where there is nothing to do, and say so', async () => {
    const added = await ask(members({ voters: [...voters, 4] }), ADD);
    expect(added).toMatchObject({ exit: 0, stdout: 'replica 4 votes in group a already\n' });
    const removed = await ask(members({ voters: [1, 2] }), REMOVE);
    expect(removed).toMatchObject({ exit: 0, stdout: 'replica 3 is not in group a already\n' });
    // The leader was asked all the same: it knows the member's address, and what is not committed yet.
    expect(brokers?.asked).toEqual([[2, Op.raftRemove]]);
    const leaving = await ask(members({ voters: [1, 2], outgoing: voters }), [...REMOVE, '--json']);
    expect(JSON.parse(leaving.stdout)).toMatchObject({ changed: true });
  });

  test.each<ErrorCode>(['BAD_REQUEST', 'FEATURE_LEVEL'])(
    'F42 command line: raft add refused with %s exits 1 and says why',
    async (code) => {
      const ran = await ask(members({ voters }, code), ADD);
      expect(ran).toMatchObject({ exit: 1, stdout: '' });
      expect(ran.stderr).toContain(code);
    },
  );

  test('F42 command line: raft add goes on at the next leader', async () => {
    const script: Script = (replicaId, request) => {
      if (request.op !== Op.raftAdd || replicaId === 3) return members({ voters })(replicaId, request);
      (brokers as FakeBrokers).leader = 3;
      return 'NOT_LEADER';
    };
    expect(await ask(script, ADD)).toMatchObject({ exit: 0 });
    expect(brokers?.asked).toEqual([
      [2, Op.raftAdd],
      [3, Op.raftAdd],
    ]);
  });

  test('F42 command line: raft remove without a leader exits 4 at its time-out', async () => {
    const ran = await ask(members({ voters }), [...REMOVE, '--timeout', '0.3'], 0);
    expect(ran).toMatchObject({ exit: 4, stdout: '' });
    expect(ran.stderr).toContain('no leader known');
    expect(brokers?.asked).toEqual([]);
  });

  test('F42 command line: raft add in a group that is not there exits 2', async () => {
    const ran = await ask(members({ voters }), ['raft', 'add', 'b', '4@d.example:7460']);
    expect(ran).toMatchObject({ exit: 2, stdout: '' });
    expect(ran.stderr).toContain('no broker group b');
  });

  test('F42 command line: raft add says what it waits for', () => {
    const change = { op: Op.raftAdd, body: { replicaId: 4, host: 'd.example', port: 7460 } } as const;
    const peers = [{ replicaId: 4, matchIndex: 40, silentMs: 0 }];
    const status = raftStatus(2, 2, { voters, learners: [4], outgoing: [], peers });
    expect(progressOf(status, change)).toBe('replica 4 holds 40 of 100 entries');
    expect(progressOf({ ...status, learners: [] }, change)).toContain('does it run at d.example:7460?');
    expect(progressOf({ ...status, outgoing: voters }, change)).toContain('majorities');
  });

  test('F42 command line: raft status shows who votes', async () => {
    const script = members({ voters: [1, 2, 3, 4], learners: [5], outgoing: voters });
    expect((await ask(script, ['raft', 'status'])).stdout).toMatch(/^group a: voters 1, 2, 3, 4; learners 5; until now 1, 2, 3\n/);
    const shown = JSON.parse((await ask(script, ['raft', 'status', '--json'])).stdout);
    expect(shown.replicas[0]).toMatchObject({ voters: [1, 2, 3, 4], learners: [5], outgoing: voters });
    expect((await ask(() => undefined, ['raft', 'status'])).stdout).toMatch(/^group a\n/);
  });
});
