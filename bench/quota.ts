/**
 * F44: what a neighbour notices of a client that sends far more than its quota. Rounds in turn without and with the busy
 * client, against one cluster: `node bench/quota.ts [ENDPOINTS] [ROUNDS]`; without endpoints it starts three replicas of its own.
 * Prints the neighbour's p99 of each round, the ratio of the medians, and the rate that the busy client got.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalCluster } from '../src/cli/local-cluster.ts';
import { LedgerClient, type LedgerError, type Producer } from '../src/index.ts';

const TOPIC = 'quota-bench';
const BUSY_BODY_BYTES = 1_024;
/** More than the quota lets through in any round: the busy client always has something to send. */
const BUSY_IN_FLIGHT = 2_000;

export interface QuotaRound {
  readonly busy: boolean;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** What the busy client got through in this round. */
  readonly busyBytesPerS: number;
}
export interface QuotaReport {
  readonly quotaBytesPerS: number;
  readonly rounds: readonly QuotaRound[];
  /** Median p99 with the busy client over median p99 without. */
  readonly p99Ratio: number;
  readonly busyBytesPerS: number;
  readonly refused: number;
}

export interface QuotaBenchOptions {
  readonly endpoints: readonly string[];
  readonly quotaBytesPerS: number;
  readonly rounds: number;
  readonly roundMs: number;
  /** Between the neighbour's sends. */
  readonly everyMs: number;
}

export async function measureNeighbour(options: QuotaBenchOptions): Promise<QuotaReport> {
  const { endpoints, quotaBytesPerS, rounds, roundMs, everyMs } = options;
  await using operator = new LedgerClient({ endpoints });
  const admin = operator.admin();
  await admin.createTopic(TOPIC, { queues: 2 });
  const { failed } = await admin.setQuota({ client: 'busy-*' }, { bytesPerSecond: quotaBytesPerS });
  if (failed.length > 0) throw failed[0]?.error;
  await using neighbour = new LedgerClient({ endpoints, clientId: 'neighbour' });
  await using busy = new LedgerClient({ endpoints, clientId: 'busy-1' });
  const calm = neighbour.producer();
  const flood = new Flood(busy.producer());
  await latencies(calm, 500, everyMs);
  const measured: QuotaRound[] = [];
  for (let round = 0; round < 2 * rounds; round++) {
    const isBusy = round % 2 === 1;
    if (isBusy) flood.start();
    const sentBefore = flood.storedBytes;
    const atMs = performance.now();
    const all = await latencies(calm, roundMs, everyMs);
    const busyBytesPerS = ((flood.storedBytes - sentBefore) * 1_000) / (performance.now() - atMs);
    await flood.stop();
    measured.push({ busy: isBusy, p50Ms: at(all, 0.5), p99Ms: at(all, 0.99), busyBytesPerS });
  }
  const { quotas } = await admin.quotas();
  await admin.removeQuota({ client: 'busy-*' });
  const p99Of = (wanted: boolean): number => median(measured.filter((round) => round.busy === wanted).map(({ p99Ms }) => p99Ms));
  return {
    quotaBytesPerS,
    rounds: measured,
    p99Ratio: p99Of(true) / p99Of(false),
    busyBytesPerS: median(measured.filter((round) => round.busy).map((round) => round.busyBytesPerS)),
    refused: quotas.reduce((sum, { refused }) => sum + refused, 0),
  };
}

/** One message each `everyMs`, whatever the answers to those before it. @returns sorted */
async function latencies(producer: Producer, forMs: number, everyMs: number): Promise<number[]> {
  const found: number[] = [];
  const sends: Promise<void>[] = [];
  const startMs = performance.now();
  for (let i = 0; i * everyMs < forMs; i++) {
    const dueMs = startMs + i * everyMs;
    const aheadMs = dueMs - performance.now();
    if (aheadMs > 0) await sleep(aheadMs);
    sends.push(producer.send({ topic: TOPIC, body: 'small' }).then(() => void found.push(performance.now() - dueMs)));
  }
  await Promise.all(sends);
  return found.sort((a, b) => a - b);
}

class Flood {
  readonly #producer: Producer;
  readonly #body = new Uint8Array(BUSY_BODY_BYTES);
  #running = false;
  #senders: Promise<void>[] = [];
  storedBytes = 0;

  constructor(producer: Producer) {
    this.#producer = producer;
  }

  start(): void {
    this.#running = true;
    this.#senders = Array.from({ length: BUSY_IN_FLIGHT }, () => this.#send());
  }

  async #send(): Promise<void> {
    while (this.#running) {
      try {
        await this.#producer.send({ topic: TOPIC, body: this.#body });
        this.storedBytes += BUSY_BODY_BYTES;
      } catch (error) {
        // At the delivery deadline, still above the quota.
        if ((error as LedgerError).code !== 'RETRIES_EXHAUSTED') throw error;
      }
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#senders.splice(0));
  }
}

const at = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] as number;

function median(values: readonly number[]): number {
  return at(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

if (import.meta.main) {
  const [given, rounds = '5'] = process.argv.slice(2);
  const dir = mkdtempSync(join(tmpdir(), 'ledgermq-quota-'));
  const cluster = given === undefined ? await LocalCluster.start({ dir, basePort: 0 }) : null;
  try {
    const endpoints = given?.split(',') ?? (cluster as LocalCluster).endpoints;
    const report = await measureNeighbour({ endpoints, quotaBytesPerS: 2_000_000, rounds: Number(rounds), roundMs: 5_000, everyMs: 5 });
    for (const { busy, p50Ms, p99Ms, busyBytesPerS } of report.rounds) {
      const who = busy ? `busy client at ${(busyBytesPerS / 1e6).toFixed(2)} MB/s` : 'alone';
      process.stdout.write(`p50 ${p50Ms.toFixed(2)} ms  p99 ${p99Ms.toFixed(2)} ms  ${who}\n`);
    }
    process.stdout.write(
      `neighbour's p99 with / without: ${report.p99Ratio.toFixed(2)}; busy client ${(report.busyBytesPerS / 1e6).toFixed(2)} of ${report.quotaBytesPerS / 1e6} MB/s, ${report.refused} sends refused\n`,
    );
  } finally {
    await cluster?.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
