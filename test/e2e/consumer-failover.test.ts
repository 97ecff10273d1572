import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestCluster, until } from './test-cluster.ts';

const QUEUES = 4;
/** F07: without an owner for at most so long; a session more when the leader changed as well. */
const SESSION_MS = 10_000;
const AIM_MS = { closed: 8_000, frozen: 15_000 } as const;
/** The time is printed and judged elsewhere; a test on a busy machine fails at three times as much. */
const SLACK = 3;

interface Handled {
  readonly queueId: number;
  readonly offset: number;
  readonly atMs: number;
}

let cluster: TestCluster;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  cluster = await TestCluster.start();
}, 60_000);
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await cluster.stop();
});

/** A consumer in a process of its own. */
function member(group: string, topic: string): { child: ChildProcess; handled: Handled[] } {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'group-member.ts'), cluster.local.endpoints.join(','), group, topic], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  const handled: Handled[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const said = JSON.parse(line) as { queueId?: number; offset?: number };
    if (said.queueId !== undefined && said.offset !== undefined) {
      handled.push({ queueId: said.queueId, offset: said.offset, atMs: performance.now() });
    }
  });
  return { child, handled };
}

describe('a consumer fails while the leader does', () => {
  for (const [how, signal] of [
    ['closed', 'SIGKILL'],
    ['frozen', 'SIGSTOP'],
  ] as const) {
    test(`F37 F07 a member that goes (${how}) together with the leader: its queues are owned elsewhere in time, nothing is skipped`, async () => {
      const topic = `f37-${how}`;
      const queues = await cluster.createTopic(topic, QUEUES);
      const client = cluster.client();
      const members = [member(topic, topic), member(topic, topic)] as const;
      const [goes, stays] = members;
      const producer = client.producer();
      const sent = new Array<number>(QUEUES).fill(0);
      let sending = true;
      const load = (async () => {
        while (sending) {
          await Promise.all(
            queues.map(async (queue) => {
              await producer.send({ topic, body: 'x', queue });
              sent[queue.queueId] = (sent[queue.queueId] as number) + 1;
            }),
          );
        }
      })();
      const recent = (one: { handled: Handled[] }): Set<number> => new Set(one.handled.slice(-50).map(({ queueId }) => queueId));
      await until('both work on two queues each', () => members.every((one) => one.handled.length > 100 && recent(one).size === 2), 60_000);
      const moving = recent(goes);
      const leader = (await cluster.local.leader()) as number;
      const goneMs = performance.now();
      goes.child.kill(signal);
      await cluster.local.kill(leader);
      const takenMs = (queueId: number): number =>
        stays.handled.find((one) => one.queueId === queueId && one.atMs > goneMs)?.atMs ?? Number.NaN;
      const aimMs = AIM_MS[how] + SESSION_MS;
      await until('its queues are handled elsewhere', () => [...moving].every((queueId) => takenMs(queueId) > 0), aimMs * SLACK);
      const ownerlessMs = Math.max(...[...moving].map(takenMs)) - goneMs;
      console.log(`consumer (${how}) and leader gone: queues without an owner for ${ownerlessMs.toFixed(0)} ms (aim ${aimMs})`);
      sending = false;
      await load;
      await cluster.local.restart(leader);
      if (how === 'frozen') goes.child.kill('SIGCONT');
      await until('all is committed', async () => (await client.admin().lag(topic)) === 0, 60_000);
      for (const { queueId } of queues) {
        const offsets = new Set(
          members.flatMap(({ handled }) => handled.filter((one) => one.queueId === queueId).map(({ offset }) => offset)),
        );
        // What is told last may still be on its way from the member's process.
        await until(`queue ${queueId}: nothing is skipped`, () => {
          for (const { handled } of members) for (const one of handled) if (one.queueId === queueId) offsets.add(one.offset);
          return offsets.size === sent[queueId];
        });
        expect(Math.max(...offsets)).toBe((sent[queueId] as number) - 1);
      }
      for (const { child } of members) child.kill('SIGTERM');
      await Promise.all(
        members.filter(({ child }) => child.exitCode === null && child.signalCode === null).map(({ child }) => once(child, 'exit')),
      );
    }, 180_000);
  }
});
