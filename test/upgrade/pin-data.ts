import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freeBasePort } from '../../src/cli/local-ports.ts';
import { LocalReplica } from '../../src/cli/local-replica.ts';
import type { LedgerClient } from '../../src/index.ts';
import { until } from '../e2e/test-cluster.ts';
import { unpackBuild } from './builds.ts';
import { COMMITTED, MESSAGES, messageOf, QUEUES } from './data-content.ts';

/** Usage: node test/upgrade/pin-data.ts BUILD. Makes builds/BUILD-data.tar.gz: a data directory of that build, its replica killed with -9. */
const [build] = process.argv.slice(2);
if (build === undefined) throw new Error('which build?');
const dir = mkdtempSync(join(tmpdir(), 'ledgermq-pin-'));
const pinned = unpackBuild(build, dir);
const port = await freeBasePort('127.0.0.1', 1);
const dataDir = join(dir, 'data');
const args = ['--port', String(port), '--data-dir', dataDir, '--segment-bytes', '16MiB', '--snapshot-interval-bytes', '16MiB'];
const replica = new LocalReplica({ brokerName: 'a', replicaId: 1, host: '127.0.0.1', port, dataDir, args, env: {} });
replica.program = pinned.program;
replica.spawn(() => undefined);
await until('the replica is ready', () => replica.isReady());

const { LedgerClient: Client } = createRequire(import.meta.url)(pinned.client) as { LedgerClient: typeof LedgerClient };
const client = new Client({ endpoints: replica.endpoint });
await client.admin().createTopic('orders', { queues: QUEUES });
await client.admin().createTopic('gone', { queues: 1 });
const producer = client.producer();
await producer.send({ topic: 'gone', body: 'deleted with its topic' });
await client.admin().deleteTopic('gone');
const sends: Promise<unknown>[] = [];
for (let number = 0; number < MESSAGES; number++) {
  sends.push(producer.send(messageOf(number)));
  if (sends.length === 100) await Promise.all(sends.splice(0));
}
await Promise.all(sends);
const queue = { topic: 'orders', brokerName: 'a', queueId: 0 };
await client.admin().resetOffset('billing', queue, COMMITTED);
await client.close();
await replica.end('SIGKILL', 0);
execFileSync('tar', [
  ...['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '-C', dir],
  ...['-czf', join(import.meta.dirname, 'builds', `${build}-data.tar.gz`), 'data'],
]);
rmSync(dir, { recursive: true, force: true });
