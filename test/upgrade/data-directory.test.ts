import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { freeBasePort } from '../../src/cli/local-ports.ts';
import { LocalReplica } from '../../src/cli/local-replica.ts';
import { LedgerClient, type ReceivedMessage } from '../../src/index.ts';
import { dense, drain, until } from '../e2e/test-cluster.ts';
import { BUILDS, unpackData } from './builds.ts';
import { COMMITTED, MESSAGES, messageOf, QUEUES, queueOf } from './data-content.ts';

const asSent = (message: ReceivedMessage): unknown => [message.text(), message.tag, [...message.keys], { ...message.properties }];
const sentBy = (number: number): unknown => {
  const { body, tag, keys, properties } = messageOf(number);
  return [body, tag, keys, properties];
};

async function checkContent(client: LedgerClient): Promise<void> {
  const numbers = dense(MESSAGES);
  let first: ReceivedMessage | undefined;
  for (let queueId = 0; queueId < QUEUES; queueId++) {
    const stored = await drain(client, { topic: 'orders', brokerName: 'a', queueId });
    const expected = numbers.filter((number) => queueOf(number) === queueId);
    expect(stored.slice(0, expected.length).map((message) => message.offset)).toEqual(dense(expected.length));
    expect(stored.slice(0, expected.length).map(asSent)).toEqual(expected.map(sentBy));
    first ??= stored[0];
  }
  expect(asSent(await client.admin().message((first as ReceivedMessage).msgId))).toEqual(sentBy(0));
  const group = (await client.admin().describeGroup('billing'))[0];
  expect(group?.queues.find(({ queueId }) => queueId === 0)?.committedOffset).toBe(COMMITTED);
  expect((await client.admin().topics()).map(({ topic }) => topic)).toEqual(['orders']);
}

test.each(BUILDS)(
  'F38 a data directory that the build %s left behind, killed with -9, is read whole, written to, raised, and read again',
  async (build) => {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-data-'));
    const dataDir = unpackData(build, dir);
    const port = await freeBasePort('127.0.0.1', 1);
    const args = ['--port', String(port), '--data-dir', dataDir, '--segment-bytes', '16MiB', '--retention-hours', '0'];
    const replica = new LocalReplica({ brokerName: 'a', replicaId: 1, host: '127.0.0.1', port, dataDir, args, env: {} });
    onTestFinished(async () => {
      await replica.end('SIGKILL', 0);
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    });
    for (const added of [0, 1]) {
      replica.spawn(() => undefined);
      await until(`the replica is ready:\n${replica.logTail()}`, () => replica.isReady());
      await until('its level is raised', async () => (await replica.status())?.['featureLevel'] === NEWEST_FEATURE_LEVEL);
      await using client = new LedgerClient({ endpoints: replica.endpoint });
      await checkContent(client);
      const queue = { topic: 'orders', brokerName: 'a', queueId: 1 };
      const { offset } = await client.producer().send({ topic: 'orders', queue, body: `more ${added}` });
      expect(offset).toBe(MESSAGES / QUEUES + added);
      await replica.end('SIGKILL', 0);
    }
  },
  60_000,
);
