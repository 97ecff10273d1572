import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freeBasePort, PORT_STRIDE } from '../../src/cli/local-ports.ts';
import { LocalReplica } from '../../src/cli/local-replica.ts';
import { cli } from '../cli/run.ts';
import { dense, drain, TestCluster, texts, until } from './test-cluster.ts';

const HOST = '127.0.0.1';
const TIMEOUT_MS = 100_000;

let cluster: TestCluster;
let dir: string;
const joined: LocalReplica[] = [];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'ledgermq-replaced-'));
  const secretBefore = process.env['LEDGERMQ_PEER_SECRET'];
  process.env['LEDGERMQ_PEER_SECRET'] = 'replaced';
  try {
    cluster = await TestCluster.start();
  } finally {
    if (secretBefore === undefined) delete process.env['LEDGERMQ_PEER_SECRET'];
    else process.env['LEDGERMQ_PEER_SECRET'] = secretBefore;
  }
}, TIMEOUT_MS);
afterAll(async () => {
  await Promise.all(joined.map((replica) => replica.end('SIGTERM', 5_000)));
  await cluster?.stop();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
}, TIMEOUT_MS);

const memberOf = ({ replicaId, endpoint }: { replicaId: number; endpoint: string }): string => `${replicaId}@${new URL(endpoint).host}`;

/** An empty replica that is told of those that are there. */
function startEmpty(replicaId: number, port: number, others: readonly LocalReplica[]): LocalReplica {
  const replicas = [...others.map(memberOf), `${replicaId}@${HOST}:${port}`].join(',');
  const dataDir = join(dir, `a-${replicaId}`);
  const flags = { 'cluster-id': 'local', 'broker-name': 'a', 'replica-id': replicaId, 'data-dir': dataDir, host: HOST, port, replicas };
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const replica = new LocalReplica({
    brokerName: 'a',
    replicaId,
    host: HOST,
    port,
    dataDir,
    args,
    env: { LEDGERMQ_PEER_SECRET: 'replaced' },
  });
  replica.spawn(() => undefined);
  joined.push(replica);
  return replica;
}

describe('replicas are replaced one by one', () => {
  test(
    'F04 F05 a client that was given one address goes on when none of the replicas it was first told of is left',
    async () => {
      const [queue] = await cluster.createTopic('kept');
      const client = cluster.client({ endpoints: [cluster.local.replica(1).endpoint] });
      const producer = client.producer();
      const bodies: string[] = [];
      const send = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          const body = `m${bodies.length}`;
          await producer.send({ topic: 'kept', body });
          bodies.push(body);
        }
      };
      await send(10);
      const basePort = await freeBasePort(HOST, 3);
      let members: LocalReplica[] = [...cluster.local.replicas];
      for (const old of cluster.local.replicas) {
        const fresh = startEmpty(old.replicaId + 3, basePort + old.replicaId * PORT_STRIDE - PORT_STRIDE, members);
        await until(`replica ${fresh.replicaId} answers`, async () => (await fresh.status()) !== null, TIMEOUT_MS);
        const endpoint = ['--endpoint', members.map((member) => member.endpoint).join(','), '--timeout', '60'];
        const added = await cli(['raft', 'add', 'a', memberOf(fresh), ...endpoint]);
        expect(added, added.stderr).toMatchObject({ exit: 0 });
        const removed = await cli(['raft', 'remove', 'a', String(old.replicaId), ...endpoint]);
        expect(removed, removed.stderr).toMatchObject({ exit: 0 });
        await cluster.local.kill(old.replicaId);
        members = [...members.filter((member) => member !== old), fresh];
        await send(10);
      }
      expect(cluster.local.replicas.some(({ running }) => running)).toBe(false);
      const stored = await drain(client, queue as NonNullable<typeof queue>);
      expect(stored.map(({ offset }) => offset)).toEqual(dense(bodies.length));
      expect(texts(stored)).toEqual(bodies);
    },
    TIMEOUT_MS,
  );
});
