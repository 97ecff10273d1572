/**
 * Delayed messages across a leader change (F13): so many timers, each message its own, wait in a cluster of three replicas; they fall due
 * over a while; in the middle of it the leader is killed (-9). Says how many came early, twice or never, and how late the others.
 *
 *   node bench/timers.ts [--timers 1000000] [--lead-s 240] [--spread-s 120]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LocalCluster } from '../src/cli/local-cluster.ts';
import { httpGet } from '../src/cli/local-ports.ts';
import { LedgerClient } from '../src/index.ts';

const { values } = parseArgs({
  options: {
    timers: { type: 'string', default: '1000000' },
    'lead-s': { type: 'string', default: '240' },
    'spread-s': { type: 'string', default: '120' },
  },
});
const timers = Number(values.timers);
const leadMs = Number(values['lead-s']) * 1_000;
const spreadMs = Number(values['spread-s']) * 1_000;
const TOPIC = 'timers';
/** Each producer has 8 batches in flight at a queue, and here every message is a batch. */
const QUEUES = 256;
const IN_FLIGHT = 8_192;

const dir = mkdtempSync(join(tmpdir(), 'ledgermq-timers-'));
const cluster = await LocalCluster.start({ dir, basePort: 0 });
const client = new LedgerClient({ endpoints: cluster.endpoints });
const say = (text: string): void => console.error(`${((performance.now() - startedMs) / 1_000).toFixed(1)} s: ${text}`);

/** How late a timer of this process is: what the machine does to everybody. */
const drifts: number[] = [];
let expectedAt = performance.now() + 10;
const probe = setInterval(() => {
  drifts.push(Math.max(0, performance.now() - expectedAt));
  expectedAt = performance.now() + 10;
}, 10);

const startedMs = performance.now();
const firstDueMs = Date.now() + leadMs;
/** In no order of the sends: neighbours in the log are due far apart. */
const dueOf = (n: number): number => firstDueMs + Math.floor((((n * 7_919) % timers) / timers) * spreadMs);

async function metric(replicaId: number, name: string): Promise<number> {
  const page = await httpGet(`${cluster.replica(replicaId).adminUrl}/metrics`, 5_000);
  const line = page?.text.split('\n').find((text) => text.startsWith(`${name}{`));
  return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(' ') + 1));
}

async function sendAll(): Promise<void> {
  const producer = client.producer();
  const queues = await client.pullConsumer().queues(TOPIC);
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let n = next++; n < timers; n = next++) {
      const queue = queues[n % queues.length];
      await producer.send({ topic: TOPIC, body: String(n), deliverAt: dueOf(n), ...(queue && { queue }) });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  await producer.close();
}

const lateMs = new Float64Array(timers).fill(Number.NaN);
let seen = 0;
let twice = 0;
let early = 0;

async function readAll(): Promise<void> {
  const puller = client.pullConsumer();
  const queues = await puller.queues(TOPIC);
  await Promise.all(
    queues.map(async (queue) => {
      for (let offset = 0; seen < timers && performance.now() < giveUpMs; ) {
        const pulled = await puller.pull(queue, offset, { waitMs: 1_000, maxMessages: 4_096 }).catch(() => null);
        if (pulled === null) await sleep(100);
        for (const message of pulled?.messages ?? []) {
          const n = Number(message.text());
          if (Number.isNaN(lateMs[n])) seen++;
          else twice++;
          lateMs[n] = message.storeTimeMs - dueOf(n);
          if ((lateMs[n] as number) < 0) early++;
        }
        offset = pulled?.nextOffset ?? offset;
      }
    }),
  );
}

const quantile = (values: Float64Array | number[], q: number): number => {
  const sorted = Float64Array.from(values).sort();
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN);
};

let giveUpMs = Number.POSITIVE_INFINITY;
try {
  await client.admin().createTopic(TOPIC, { queues: QUEUES });
  await sendAll();
  const leftMs = firstDueMs - Date.now();
  say(`${timers} timers wait, ${Math.round(leftMs)} ms before the first is due`);
  if (leftMs < 0) throw new Error('sent too slowly: give a longer --lead-s');
  const leader = (await cluster.leader()) as number;
  const near = await metric(leader, 'ledgermq_timers_near');
  const bytesEach = (await metric(leader, 'ledgermq_timers_near_bytes')) / near;
  giveUpMs = performance.now() + leftMs + spreadMs + 60_000;
  const reading = readAll();
  await sleep(leftMs + spreadMs / 2);
  const killedMs = Date.now();
  await cluster.kill(leader);
  say(`leader killed, ${seen} delivered`);
  await reading;
  // Those that fell due while nobody led, or were still to be read by the new leader, wait for it; the others do not.
  const later = lateMs.filter((late, n) => !Number.isNaN(late) && (dueOf(n) < killedMs - 1_000 || dueOf(n) > killedMs + 10_000));
  const gapMs = lateMs.reduce((max, late) => (late > max ? late : max), 0);
  console.log(
    JSON.stringify({
      timers,
      early,
      twice,
      lost: timers - seen,
      p50_late_ms: quantile(lateMs, 0.5),
      p99_late_ms: quantile(lateMs, 0.99),
      p99_late_ms_without_gap: quantile(later, 0.99),
      max_late_ms: Math.round(gapMs),
      loop_delay_p99_ms: quantile(drifts, 0.99),
      near_timers: near,
      bytes_each: Math.round(bytesEach),
      spread_s: spreadMs / 1_000,
      machine: `${cpus().length} × ${cpus()[0]?.model ?? '?'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    }),
  );
} finally {
  clearInterval(probe);
  await client.close();
  await cluster.stop();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
}
