import { describe, expect, test } from 'vitest';
import { Op } from '../../src/protocol/requests.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

describe('a stale route', () => {
  test('FAULTS 20 costs one redirect while leadership is stable, and no write is accepted by a replica that does not lead', async () => {
    const group = new ScriptedGroup();
    const producer = group.client().producer();
    const send = async (body: string): Promise<{ requests: number; offset: number }> => {
      const before = group.requests.filter(({ op }) => op === Op.send).length;
      let offset = -1;
      void producer.send({ topic: 't', body }).then((result) => {
        offset = result.offset ?? -1;
      });
      await group.clock.run(3_000);
      return { requests: group.requests.filter(({ op }) => op === Op.send).length - before, offset };
    };
    expect(await send('m0')).toEqual({ requests: 1, offset: 0 });
    for (const [at, replicaId] of [2, 3, 1].entries()) {
      // Nobody tells the client.
      group.elect(replicaId);
      expect(await send(`m${2 * at + 1}`)).toEqual({ requests: 2, offset: 2 * at + 1 });
      expect(await send(`m${2 * at + 2}`)).toEqual({ requests: 1, offset: 2 * at + 2 });
    }
    expect(group.bodies()).toEqual(['m0', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6']);
  });

  test('FAULTS 20 requests other than sends, and pulls, cost one redirect as well', async () => {
    const group = new ScriptedGroup();
    const client = group.client();
    const queue = { topic: 't', brokerName: 'g', queueId: 0 };
    const ranged = async (): Promise<number> => {
      const before = group.requests.filter(({ op }) => op === Op.queueRange).length;
      void client.pullConsumer().range(queue);
      await group.clock.run(3_000);
      return group.requests.filter(({ op }) => op === Op.queueRange).length - before;
    };
    expect(await ranged()).toBe(1);
    group.elect(2);
    expect(await ranged()).toBe(2);
    expect(await ranged()).toBe(1);

    const epoch = 1;
    group.assignment = { group: 'cg', member: '', epoch, queues: [{ topic: 't', queueId: 0, committedOffset: 0, epoch }], revoking: [] };
    group.holdsPulls = false;
    const seen: string[] = [];
    const consumer = client.consumer({
      group: 'cg',
      topics: ['t'],
      consumeFromWhere: 'first',
      pullWaitMs: 2_000,
      handler: (message) => {
        seen.push(message.text());
      },
    });
    const started = consumer.start();
    await group.clock.run(3_000);
    await started;
    group.elect(3);
    const pullsOf = (): number => group.requests.filter(({ op }) => op === Op.pull).length;
    const refusedBefore = group.redirects;
    const pullsBefore = pullsOf();
    await group.clock.run(3_000);
    expect(pullsOf() - pullsBefore).toBeGreaterThan(2);
    // One of the pull, one of whatever else (a heartbeat, a commit) was on its way at the same time.
    expect(group.redirects - refusedBefore).toBeLessThanOrEqual(2);
  });

  test('F05 a client that was given one address goes on when that broker is gone for good', async () => {
    const group = new ScriptedGroup();
    const producer = group.client().producer();
    const bodies: string[] = [];
    const send = async (body: string): Promise<void> => {
      void producer.send({ topic: 't', body }).then(() => bodies.push(body));
      await group.clock.run(3_000);
    };
    await send('m0');
    group.kill(1);
    group.elect(2);
    await send('m1');
    // The one that is left of those the client began with tells of another that came since.
    group.endpoints[0] = 'ws://d:1';
    group.listen('ws://d:1');
    await group.clock.run(60_000);
    group.kill(2);
    group.kill(3);
    group.elect(1);
    await send('m2');
    expect(bodies).toEqual(['m0', 'm1', 'm2']);
    expect(group.bodies()).toEqual(['m0', 'm1', 'm2']);
  });
});
