import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LedgerClient } from '../../src/index.ts';
import { Prng } from '../sim/prng.ts';
import { HistoryWriter } from './history.ts';
import { DelayWorkload } from './workloads/delay.ts';
import { FifoWorkload } from './workloads/fifo.ts';
import { type Counts, Lane } from './workloads/lane.ts';
import { MetadataWorkload } from './workloads/metadata.ts';
import { OffsetsWorkload } from './workloads/offsets.ts';
import { RebalanceWorkload } from './workloads/rebalance.ts';
import { TransactionsWorkload } from './workloads/transactions.ts';
import type { Stage, Workload } from './workloads/workload.ts';

/**
 * One client process of a chaos run:
 *
 *     node test/jepsen-lite/worker.ts --endpoints ws://a:7460,ws://b:7460 --workload fifo --id 0 --seed 1 --origin-ns 0 --history FILE
 *
 * Says `{"event":"ready"}` when operations begin and a line of progress each second. On `{"do":"finish"}`, or the end of its input,
 * it begins nothing new, waits for what is under way and ends with 0. What it did is in FILE (history.md).
 */
const WORKLOADS: Readonly<Record<string, new (stage: Stage) => Workload>> = {
  fifo: FifoWorkload,
  offsets: OffsetsWorkload,
  transactions: TransactionsWorkload,
  delay: DelayWorkload,
  rebalance: RebalanceWorkload,
  metadata: MetadataWorkload,
};
/** Drains have deadlines of their own; one that hangs in spite of them must not hold up the run. */
const FINISH_TIMEOUT_MS = 600_000;
const PROGRESS_MS = 1_000;
/** Lanes of a worker, and workers of a workload: a process of the history belongs to one lane. */
const MAX_LANES = 1_000;
const MAX_WORKERS = 100;

const { values } = parseArgs({
  options: {
    endpoints: { type: 'string' },
    workload: { type: 'string' },
    id: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    'origin-ns': { type: 'string', default: '0' },
    history: { type: 'string' },
    rate: { type: 'string' },
  },
});
const { endpoints, workload: name, history: historyPath } = values;
const kind = WORKLOADS[name ?? ''];
if (endpoints === undefined || historyPath === undefined || kind === undefined) {
  process.stderr.write(`needed: --endpoints, --history, --workload ${Object.keys(WORKLOADS).join('|')}\n`);
  process.exit(2);
}
process.on('unhandledRejection', (error) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});

const id = Number(values.id);
const number = Object.keys(WORKLOADS).indexOf(name as string) * MAX_WORKERS + id;
const originNs = BigInt(values['origin-ns']);
const history = new HistoryWriter(historyPath, originNs);
const counts: Counts = { ok: 0, fail: 0, info: 0 };
const clients: LedgerClient[] = [];
const stopping = new AbortController();
const laneNumber = (lane: number): number => number * MAX_LANES + lane;
const stage: Stage = {
  endpoints: endpoints.split(','),
  id,
  historyPath,
  originNs,
  history,
  counts,
  prng: new Prng(Math.imul(Number(values.seed), 1_000_003) + number),
  rate: values.rate === undefined ? Number.POSITIVE_INFINITY : Number(values.rate),
  stop: stopping.signal,
  lane: (lane) => new Lane(history, counts, laneNumber(lane)),
  laneNumber,
  client: () => {
    const client = new LedgerClient({ endpoints, clientId: `${name}-${id}-${clients.length}`, openTelemetry: false });
    clients.push(client);
    return client;
  },
};
const say = (event: object): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

/** Resolves when the worker is asked to finish. */
async function finishAsked(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() !== '' && (JSON.parse(line) as { do?: unknown }).do === 'finish') return;
  }
}

const asked = finishAsked();
const workload = new kind(stage);
await workload.start();
say({ event: 'ready' });
const ticker = setInterval(() => {
  history.flush();
  say({ event: 'progress', ...counts });
}, PROGRESS_MS);
await asked;
stopping.abort();
const drained = await Promise.race([workload.drain().then(() => true), sleep(FINISH_TIMEOUT_MS, false, { ref: false })]);
clearInterval(ticker);
history.close();
say({ event: 'progress', ...counts });
if (!drained) process.stderr.write(`${name} ${id}: not drained within ${FINISH_TIMEOUT_MS} ms\n`);
else await Promise.all(clients.map((client) => client.close()));
process.exit(drained ? 0 : 1);
