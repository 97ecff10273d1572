import { afterEach, describe, expect, test } from 'vitest';
import { Op } from '../../src/protocol/requests.ts';
import { type FakeBrokers, fakeBrokers, raftStatus, type Script } from './fake-brokers.ts';
import { cli, type Ran } from './run.ts';

describe('raft transfer --from: what a pod runs before it is stopped', () => {
  let brokers: FakeBrokers | null = null;
  afterEach(() => brokers?.close());

  const ask = async (script: Script, leader: number, ...more: string[]): Promise<Ran> => {
    brokers = await fakeBrokers(script, leader);
    return cli(['raft', 'transfer', '--group', 'a', '--from', '2', '--endpoint', brokers.endpoints[1] as string, ...more]);
  };
  const voting =
    (voters: number[], transfer: Script): Script =>
    (replicaId, request) => {
      if (request.op === Op.raftStatus) return raftStatus(replicaId, (brokers as FakeBrokers).leader, { voters });
      return request.op === Op.raftTransfer ? transfer(replicaId, request) : undefined;
    };
  const takenOver: Script = () => {
    (brokers as FakeBrokers).leader = 3;
    return { target: 0 };
  };

  test('F42 F41 the replica that leads is told, and the command ends when it leads no more', async () => {
    const ran = await ask(voting([1, 2, 3], takenOver), 2, '--json');
    expect(ran).toMatchObject({ exit: 0, stderr: '' });
    expect(JSON.parse(ran.stdout)).toMatchObject({ brokerName: 'a', from: 2, leader: 3, changed: true });
    expect(brokers?.asked).toEqual([[2, Op.raftTransfer]]);
  });

  test('F42 F41 another leader is left alone', async () => {
    const ran = await ask(voting([1, 2, 3], takenOver), 1);
    expect(ran).toMatchObject({ exit: 0, stdout: 'replica 2 does not lead group a\n' });
    expect(brokers?.asked).toEqual([]);
  });

  test('F42 F41 nobody can take over at first: it is asked again', async () => {
    let refusals = 2;
    const ran = await ask(
      voting([1, 2, 3], (...asked) => (refusals-- > 0 ? 'BAD_REQUEST' : takenOver(...asked))),
      2,
    );
    expect(ran).toMatchObject({ exit: 0 });
    expect(brokers?.asked).toHaveLength(3);
  });

  test('F42 F41 nobody takes over in time: exit code 4, so that whoever waits goes on', async () => {
    const ran = await ask(
      voting([1, 2, 3], () => 'BAD_REQUEST'),
      2,
      '--timeout',
      '0.5',
    );
    expect(ran).toMatchObject({ exit: 4, stdout: '' });
    expect(ran.stderr).toContain('replica 2 still leads group a');
  });

  test('F42 F41 the only voter has nobody to hand over to, and does not try', async () => {
    const ran = await ask(voting([2], takenOver), 2);
    expect(ran).toMatchObject({ exit: 0, stdout: 'replica 2 is the only voter of group a\n' });
    expect(brokers?.asked).toEqual([]);
  });
});
