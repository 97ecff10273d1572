import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { LedgerClient } from '../../src/index.ts';
import { MIB, until } from '../e2e/test-cluster.ts';
import { TODAYS_PROGRAM, unpackBuild } from './builds.ts';
import { UpgradeGroup } from './upgrade-group.ts';

const BODY_BYTES = 512 * 1024;
/** More than is retained, in whole segments of 16 MiB. */
const WRITTEN_BYTES = 80 * MIB;

test('F38 a replica behind the log’s start gets its state and log from a leader of the other release, both ways', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'ledgermq-builds-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
  const pinned = unpackBuild('level-1', dir).program;
  const flags = { 'retention-bytes': '32MiB', 'snapshot-interval-bytes': '16MiB' };
  await using group = await UpgradeGroup.make({ flags, env: { LEDGERMQ_FEATURE_LEVEL_AUTO_RAISE: 'off' } });
  await group.start(pinned);
  await using client = new LedgerClient({ endpoints: group.endpoints });
  await client.admin().createTopic('orders', { queues: 2 });
  // What is written is as large as it looks.
  const producer = client.producer({ compressType: 'none' });

  const comesBackBehind = async (replicaId: number, leader: number, program: string): Promise<void> => {
    await group.lead(leader);
    const { lastIndex } = await group.status(replicaId);
    await group.replica(replicaId).end('SIGKILL', 0);
    const body = new Uint8Array(BODY_BYTES).fill(replicaId);
    for (let i = 0; i < WRITTEN_BYTES / BODY_BYTES; i++) await producer.send({ topic: 'orders', body });
    // Retention is looked at every ten seconds.
    await until(
      'the log is cut behind what it has',
      async () => Number((await group.status(leader))['firstIndex']) > Number(lastIndex) + 1,
      30_000,
    );
    await group.replace(replicaId, program);
    expect(Number((await group.status(replicaId))['firstIndex'])).toBeGreaterThan(Number(lastIndex));
    expect(await group.json('verify')).toMatchObject({ identical: true });
  };
  await comesBackBehind(3, 1, TODAYS_PROGRAM);
  await comesBackBehind(2, 3, pinned);
  // The older release goes on from the states and derived files that this one saved.
  await group.replace(3, pinned);
  expect(await group.json('verify')).toMatchObject({ identical: true });
}, 120_000);
