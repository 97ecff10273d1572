import { describe, expect, test } from 'vitest';
import type { ConsumerOptions } from '../../src/client/options.ts';
import type { Assignment } from '../../src/protocol/requests.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

/**
 * Seen: a program with a consumer did not end for up to 16 s after `await client.close()`. Timers of the pause before a handler's
 * next attempt (HandlerRunner), of a refused pull (Fetcher) and of a join or offset look-up that met no leader (ClientCore.sleep)
 * were left armed; each kept the process alive, and a late askLeader() even dialled new connections through the router.
 * Now: each owner clears its timers, ClientCore.close() ends the waits, and closed Connections give out links that never dial.
 */
const assignment = (committedOffset: number): Assignment => ({
  group: 'cg',
  member: 'test@1',
  epoch: 1,
  queues: [{ topic: 't', queueId: 0, committedOffset, epoch: 1 }],
  revoking: [],
});

async function closedAfter(
  options: Partial<ConsumerOptions>,
  before: (group: ScriptedGroup) => Promise<void> | void,
  after: (group: ScriptedGroup) => Promise<void>,
): Promise<number> {
  const group = new ScriptedGroup();
  group.assignment = assignment(0);
  const client = group.client();
  const producer = client.producer();
  void producer.send({ topic: 't', body: 'm0' });
  await group.clock.run(100);
  await before(group);
  const consumer = client.consumer({
    group: 'cg',
    topics: ['t'],
    handler: () => {},
    releaseTimeoutMs: 1_000,
    onError: () => {},
    ...options,
  });
  void consumer.start();
  await group.clock.run(100);
  await after(group);
  let closed = false;
  void client.close().then(() => {
    closed = true;
  });
  await group.clock.run(2_500);
  expect(closed).toBe(true);
  return group.clock.armedCount;
}

describe('nothing of a closed client keeps the process alive', () => {
  test('a handler that failed and waits for its next attempt', async () => {
    const failing = { handler: () => Promise.reject(new Error('no')), reconsumeBackoffBaseMs: 1_000_000, reconsumeBackoffCapMs: 1_000_000 };
    expect(
      await closedAfter(
        failing,
        () => {},
        async () => {},
      ),
    ).toBe(0);
  });

  test('a pull that was refused', async () => {
    const left = await closedAfter(
      {},
      () => {},
      async (group) => {
        group.refusePulls = 'NO_PERMISSION';
        await group.clock.run(15_000);
      },
    );
    expect(left).toBe(0);
  });

  test('a join that is refused for want of a leader', async () => {
    const left = await closedAfter(
      {},
      (group) => {
        group.assignment = null;
      },
      (group) => group.clock.run(300),
    );
    expect(left).toBe(0);
  });

  test('all brokers gone', async () => {
    const left = await closedAfter(
      {},
      () => {},
      async (group) => {
        for (const replicaId of [1, 2, 3]) group.kill(replicaId);
        await group.clock.run(700);
      },
    );
    expect(left).toBe(0);
  });

  test('a start that never found its topic', async () => {
    const group = new ScriptedGroup();
    for (const replicaId of [1, 2, 3]) group.kill(replicaId);
    const client = group.client();
    const started = client.consumer({ group: 'cg', topics: ['t'], handler: () => {} }).start();
    const outcome = started.then(
      () => 'started',
      (error: { code: string }) => error.code,
    );
    await group.clock.run(200);
    void client.close();
    await group.clock.run(100);
    expect(await outcome).toBe('CLOSED');
    expect(group.clock.armedCount).toBe(0);
  });
});
