import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerClient } from '../../../src/index.ts';
import type { LoadPlan, LoadReport } from './load.ts';

/**
 * Producers, a consumer group and newcomers, in the client host: they start at the client service's name and count what becomes of every message.
 * Ends with its standard input: sends nothing more, waits for what is under way and for what is still to be consumed, and reports.
 */
const NEWCOMER_MS = 100;
const CONNECT_TIMEOUT_MS = 3_000;
const CONSUME_TIMEOUT_MS = 60_000;

const plan = JSON.parse(process.argv[2] as string) as LoadPlan;
const { host, port } = plan;
await using client = new LedgerClient({ endpoints: `ws://${host}:${port}` });
await client.admin().createTopic(plan.topic, { queues: plan.queues });

const acknowledged = new Set<string>();
const failures: string[] = [];
const received = new Map<string, number>();
const lastOf = new Map<string, number>();
const refused: string[] = [];
let sent = 0;
let outOfOrder = 0;
let fabricated = 0;
let longestSendMs = 0;
let newcomers = 0;
let stopping = false;

const consumer = client.consumer({
  group: `${plan.topic}-readers`,
  topics: [plan.topic],
  consumeFromWhere: 'first',
  handler: (message) => {
    const body = message.text();
    const [key = '', number = ''] = body.split(':');
    const again = received.get(body) ?? 0;
    received.set(body, again + 1);
    if (!/^k\d+$/.test(key)) fabricated++;
    if (again === 0) {
      if (Number(number) < (lastOf.get(key) ?? -1)) outOfOrder++;
      lastOf.set(key, Number(number));
    }
  },
});
await consumer.start();
const producer = client.producer();

/** One key: each message when the one before it is stored. */
async function lane(key: string): Promise<void> {
  for (let number = 0; !stopping; number++) {
    const body = `${key}:${number}`;
    const startedMs = performance.now();
    sent++;
    try {
      await producer.send({ topic: plan.topic, body, orderingKey: key });
      acknowledged.add(body);
    } catch (error) {
      failures.push(`${body}: ${(error as Error).message}`);
    }
    longestSendMs = Math.max(longestSendMs, performance.now() - startedMs);
    await sleep(plan.pauseMs);
  }
}

/** Clients that are just starting: each connection must be taken. */
async function newcomerLoop(): Promise<void> {
  while (!stopping) {
    newcomers++;
    void newcomer();
    await sleep(NEWCOMER_MS);
  }
}

function newcomer(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_TIMEOUT_MS });
    const done = (problem: string | null): void => {
      if (problem !== null && !stopping) refused.push(problem);
      socket.destroy();
      resolve();
    };
    socket.once('connect', () => done(null));
    socket.once('timeout', () => done('timeout'));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
  });
}

const lanes = Array.from({ length: plan.lanes }, (_, index) => lane(`k${index}`));
const atDoor = newcomerLoop();
process.stdout.write('running\n');
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${line} ${acknowledged.size}\n`);
}
stopping = true;
await Promise.all([...lanes, atDoor]);
const missing = (): string[] => [...acknowledged].filter((body) => !received.has(body));
const deadlineMs = performance.now() + CONSUME_TIMEOUT_MS;
while (missing().length > 0 && performance.now() < deadlineMs) await sleep(100);
const report: LoadReport = {
  sent,
  acknowledged: acknowledged.size,
  failures: failures.slice(0, 10),
  lost: missing().slice(0, 10),
  duplicated: [...received.values()].filter((times) => times > 1).length,
  outOfOrder,
  fabricated,
  longestSendMs: Math.round(longestSendMs),
  newcomers,
  refused: refused.length,
  refusedWith: [...new Set(refused)],
};
process.stdout.write(`${JSON.stringify(report)}\n`);
await consumer.close();
