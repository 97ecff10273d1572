import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FIRST_FEATURE_LEVEL, NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { LedgerClient } from '../../src/index.ts';
import { until } from '../e2e/test-cluster.ts';
import { BUILDS, type PinnedBuild, TODAYS_PROGRAM, unpackBuild } from './builds.ts';
import { Load } from './load.ts';
import { UpgradeGroup } from './upgrade-group.ts';

const QUEUES = 4;
const IDS = [1, 2, 3] as const;
/** FAULTS 18: a crash is known within 10 s of silence. */
const SILENT_IS_DEAD_MS = 12_000;

let dir: string;
let pinned: PinnedBuild;
/** By their feature level − 1. */
let builds: PinnedBuild[];
let PinnedClient: typeof LedgerClient;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ledgermq-builds-'));
  builds = BUILDS.map((name) => unpackBuild(name, dir));
  pinned = builds[0] as PinnedBuild;
  // As its users load it: by Node, not by what transforms the tests.
  ({ LedgerClient: PinnedClient } = createRequire(import.meta.url)(pinned.client) as { LedgerClient: typeof LedgerClient });
});
afterAll(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));

/** Producers and consumers of the pinned release and of this one. */
async function withLoad(group: UpgradeGroup, topic: string, work: (load: Load) => Promise<void>): Promise<void> {
  await using client = new LedgerClient({ endpoints: group.endpoints });
  await using older = new PinnedClient({ endpoints: group.endpoints });
  await (topic === 'orders' ? older : client).admin().createTopic(topic, { queues: QUEUES });
  const load = new Load(topic, [client, older], QUEUES);
  await load.start();
  await work(load);
  await load.check(client);
}

/** Administration by this release's client, whoever leads: a topic is made, changed, used and deleted. */
async function administer(group: UpgradeGroup, topic: string): Promise<void> {
  await using client = new LedgerClient({ endpoints: group.endpoints });
  await client.admin().createTopic(topic, { queues: 1 });
  await client.admin().updateTopic(topic, { queues: 2 });
  const queue = { topic, brokerName: 'a', queueId: 1 };
  expect(await client.producer().send({ topic, queue, body: 'x' })).toMatchObject({ offset: 0 });
  expect(await client.admin().topics([topic])).toMatchObject([{ topic, queues: [{ maxOffset: 0 }, { maxOffset: 1 }] }]);
  await client.admin().deleteTopic(topic);
  expect(await client.admin().topics([topic])).toEqual([]);
}

describe('rolling upgrade', () => {
  test('F38 from the pinned build to this one, back, and up again under load; then the level is raised and each is restarted', async () => {
    await using group = await UpgradeGroup.make({ env: { LEDGERMQ_FEATURE_LEVEL_AUTO_RAISE: 'off' } });
    await group.start(pinned.program);
    await withLoad(group, 'orders', async (load) => {
      for (const replicaId of IDS) {
        await administer(group, `made-before-${replicaId}`);
        await group.replace(replicaId, TODAYS_PROGRAM);
        await load.progress();
      }
      await group.lead(2);
      await administer(group, 'made-at-level-1');
      expect(await group.levels()).toEqual(IDS.map(() => FIRST_FEATURE_LEVEL));

      // Until the level is raised the old release reads all that is written.
      for (const replicaId of [3, 1]) {
        await group.replace(replicaId, pinned.program);
        await load.progress();
      }
      await group.lead(1);
      expect(await group.cli('cluster', 'upgrade')).toMatchObject({
        exit: 1,
        stderr: expect.stringContaining('knows of no feature levels'),
      });
      await group.lead(2);
      expect(await group.json('cluster', 'upgrade')).toMatchObject({ groups: [{ featureLevel: FIRST_FEATURE_LEVEL }] });
      const asked = await group.cli('cluster', 'upgrade', '--level', String(NEWEST_FEATURE_LEVEL));
      expect(asked).toMatchObject({ exit: 1, stderr: expect.stringContaining('FEATURE_LEVEL') });
      for (const replicaId of [1, 3]) {
        await group.replace(replicaId, TODAYS_PROGRAM);
        await load.progress();
      }

      expect(await group.json('cluster', 'upgrade')).toEqual({
        groups: [{ brokerName: 'a', featureLevel: NEWEST_FEATURE_LEVEL, error: null }],
      });
      await until('every replica is at the new level', async () => (await group.levels()).every((level) => level === NEWEST_FEATURE_LEVEL));
      expect(await group.json('cluster', 'status')).toMatchObject({
        groups: [{ replicas: IDS.map((replicaId) => ({ replicaId, featureLevel: NEWEST_FEATURE_LEVEL })) }],
      });
      await administer(group, 'made-at-level-2');
      for (const replicaId of IDS) {
        await group.replace(replicaId, TODAYS_PROGRAM);
        await load.progress();
      }
    });
    // What is made by the newer level is as good for an older client.
    await withLoad(group, 'refunds', (load) => load.progress());
    expect(await group.json('verify')).toMatchObject({ identical: true });
  }, 240_000);

  test.each([1, 2])(
    'F38 level %i is raised by itself once the last replica runs the new release; the old one is kept out from then on',
    async (oldLevel) => {
      const older = (builds[oldLevel - 1] as PinnedBuild).program;
      await using group = await UpgradeGroup.make();
      await group.start(older);
      await until('the older release has its level', async () => (await group.levels()).every((level) => level === oldLevel));
      await withLoad(group, 'orders', async (load) => {
        for (const replicaId of IDS) {
          expect(await group.levels()).toEqual(IDS.map(() => oldLevel));
          await group.replace(replicaId, TODAYS_PROGRAM);
          // The new release leads over what is left of the old one.
          await group.lead(replicaId);
          await load.progress();
        }
        await until('every replica is at the new level', async () =>
          (await group.levels()).every((level) => level === NEWEST_FEATURE_LEVEL),
        );

        const tooOld = group.replica(2);
        await tooOld.end('SIGTERM', 20_000);
        tooOld.program = older;
        tooOld.spawn(() => undefined);
        // Who speaks first on a new connection is chance: the others refuse it, or it reads their level and ends.
        await until(
          'it is kept out',
          () =>
            group.replica(1).logTail().includes(`its release knows feature level ${oldLevel}`) ||
            (!tooOld.running && tooOld.logTail().includes('start the newer release')),
        );
        await load.progress();
        expect(await tooOld.isReady()).toBe(false);
        await group.replace(2, TODAYS_PROGRAM);
      });
      expect(await group.json('verify')).toMatchObject({ identical: true });
    },
    240_000,
  );

  test('F38 replicas of the older release, which say nothing in gossip, are no dead ones: a route names them and their leader', async () => {
    await using group = await UpgradeGroup.make();
    await group.start(pinned.program);
    await group.replace(2, TODAYS_PROGRAM);
    await group.lead(1);
    await using client = new LedgerClient({ endpoints: [group.replica(2).endpoint] });
    await client.admin().createTopic('orders', { queues: 1 });
    // Nothing happens for longer than it takes gossip to call a silent broker dead.
    await sleep(SILENT_IS_DEAD_MS);
    const { brokers } = await client.admin().clusterStatus();
    expect(brokers).toMatchObject([{ brokerName: 'a', leader: 1, replicas: IDS.map((replicaId) => ({ replicaId })) }]);
    await using late = new LedgerClient({ endpoints: [group.replica(2).endpoint] });
    expect(await late.producer().send({ topic: 'orders', body: 'x' })).toMatchObject({ offset: 0 });
  }, 120_000);
});
