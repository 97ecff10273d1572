import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { MessageQueue } from '../../src/index.ts';
import { dense, drain, TestCluster, texts } from './test-cluster.ts';

/** Whether a replica's writes to the CommitLog return only when they are on stable storage (O_DSYNC). */
function writesAreDurable(pid: number): boolean {
  const files = readdirSync(`/proc/${pid}/fd`).filter((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).includes('/commitlog/'));
  const flags = files.map((fd) => Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0', 8));
  return flags.some((flag) => (flag & constants.O_DSYNC) !== 0);
}

describe('flush modes', () => {
  for (const flush of ['sync', 'async'] as const) {
    test(`F31 ${flush} flush: one replica killed with -9 loses nothing`, async () => {
      const cluster = await TestCluster.start({ flush });
      try {
        for (const pid of cluster.local.pids) expect(writesAreDurable(pid as number)).toBe(flush === 'sync');
        const [queue] = (await cluster.createTopic('f31')) as [MessageQueue];
        const client = cluster.client();
        const producer = client.producer();
        const results = await Promise.all(dense(1_000).map((number) => producer.send({ topic: 'f31', body: `m${number}` })));
        expect(results.map(({ offset }) => offset)).toEqual(dense(1_000));
        const leader = await cluster.local.waitLeader();
        await cluster.local.kill(leader);
        expect(await producer.send({ topic: 'f31', body: 'm1000' })).toMatchObject({ offset: 1_000 });
        await cluster.local.restart(leader);
        expect(texts(await drain(client, queue))).toEqual(dense(1_001).map((number) => `m${number}`));
        expect(await cluster.json('verify')).toMatchObject({ identical: true });
      } finally {
        await cluster.stop();
      }
    }, 60_000);
  }
});
