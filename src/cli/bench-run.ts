import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient } from '../client/ledger-client.ts';
import type { Producer } from '../client/producer.ts';
import { LedgerError } from '../protocol/errors.ts';
import { connectClient } from './client.ts';
import { LatencyHistogram } from './latency-histogram.ts';

/** The bodies of a benchmark are one letter: compressed they would be nothing, and the figures would be of something else. */
const PLAIN = { compressType: 'none' } as const;

/** The JSON of a measurement; the names are those of the other brokers' loaders, so that lines can be laid side by side. */
export interface BenchResult {
  readonly peer: 'ledgermq';
  readonly mode: string;
  readonly msg_bytes: number;
  readonly msgs_per_s: number;
  readonly mb_per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
  readonly errors: number;
  readonly seconds: number;
}

export type ProduceMode = 'sync' | 'async' | 'batch';

export interface ProduceOptions {
  readonly endpoints: readonly string[];
  readonly topic: string;
  readonly mode: ProduceMode;
  readonly concurrency: number;
  readonly producers: number;
  readonly sizeBytes: number;
  readonly warmupS: number;
  readonly seconds: number;
  readonly onProgress: (text: string) => void;
}

/** Messages of one call in mode `batch`. */
export const BATCH_MESSAGES = 32;
/** How long answers are waited for at the end. */
const DRAIN_MS = 30_000;

/** What was counted since the warm-up ended. */
export class Measurement {
  readonly histogram = new LatencyHistogram();
  messages = 0;
  errors = 0;
  /** Why, for people: a count alone helps nobody. */
  firstError: Error | null = null;
  recording = false;

  done(startMs: number, messages: number): void {
    if (!this.recording) return;
    this.messages += messages;
    // Each message of a batch had its latency.
    const us = (performance.now() - startMs) * 1000;
    for (let at = 0; at < messages; at++) this.histogram.record(us);
  }

  failed(messages: number, error: unknown): void {
    this.firstError ??= error as Error;
    if (this.recording) this.errors += messages;
  }

  result(mode: string, sizeBytes: number, seconds: number): BenchResult {
    const { histogram } = this;
    const perSecond = this.messages / seconds;
    return {
      peer: 'ledgermq',
      mode,
      msg_bytes: sizeBytes,
      msgs_per_s: Math.round(perSecond),
      mb_per_s: round((perSecond * sizeBytes) / 1e6, 2),
      p50_ms: round(histogram.quantileUs(0.5) / 1000, 3),
      p99_ms: round(histogram.quantileUs(0.99) / 1000, 3),
      max_ms: round(histogram.maxUs / 1000, 3),
      errors: this.errors,
      seconds: round(seconds, 3),
    };
  }
}

function round(value: number, digits: number): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

/** One sender that has one call in flight and makes the next when it is answered. */
type Lane = () => Promise<void> | void;

/**
 * Keeps `concurrency` calls in flight for warm-up and measured time.
 * sync: loops that await each acknowledgement · async: the next send leaves from the acknowledgement's callback · batch: calls of 32.
 */
export async function benchProduce(options: ProduceOptions): Promise<BenchResult> {
  const clients = await Promise.all(Array.from({ length: options.producers }, () => connectClient(options.endpoints)));
  try {
    const producers = clients.map((client) =>
      client.producer({ ...PLAIN, maxBufferedMessages: 1_000_000, maxBufferedBytes: 512 * 1024 * 1024 }),
    );
    const measurement = new Measurement();
    const run = { stopped: false, active: options.concurrency };
    const body = Buffer.alloc(options.sizeBytes, 0x61);
    const makeLane = { sync: syncLane, async: asyncLane, batch: batchLane }[options.mode];
    for (let at = 0; at < options.concurrency; at++) {
      const lane = makeLane(producers[at % producers.length] as Producer, options.topic, body, measurement, run);
      void Promise.resolve(lane()).catch((error: unknown) => options.onProgress(String(error)));
    }
    const seconds = await measure(measurement, options);
    run.stopped = true;
    const drainUntilMs = performance.now() + DRAIN_MS;
    while (run.active > 0 && performance.now() < drainUntilMs) await sleep(10);
    sayFirstError(measurement, options.onProgress);
    return measurement.result(`${options.mode}-${options.concurrency}`, options.sizeBytes, seconds);
  } finally {
    await closeAll(clients);
  }
}

function sayFirstError({ firstError }: Measurement, say: (text: string) => void): void {
  if (firstError === null) return;
  const causes = firstError instanceof LedgerError ? [...new Set(firstError.causes.map(({ message }) => message))] : [];
  say(`the first error: ${[firstError.message, ...causes].join('; ')}`);
}

interface RunState {
  stopped: boolean;
  active: number;
}

function syncLane(producer: Producer, topic: string, body: Uint8Array, measurement: Measurement, run: RunState): Lane {
  const message = { topic, body };
  return async () => {
    while (!run.stopped) {
      const startMs = performance.now();
      try {
        await producer.send(message);
        measurement.done(startMs, 1);
      } catch (error) {
        measurement.failed(1, error);
      }
    }
    run.active--;
  };
}

function asyncLane(producer: Producer, topic: string, body: Uint8Array, measurement: Measurement, run: RunState): Lane {
  const message = { topic, body };
  let startMs = 0;
  const next = (): void => {
    if (run.stopped) {
      run.active--;
      return;
    }
    startMs = performance.now();
    void producer.send(message, settled);
  };
  const settled = (error: Error | null): void => {
    if (error === null) {
      measurement.done(startMs, 1);
      next();
    } else {
      measurement.failed(1, error);
      // A refusal may come at once: without a turn of the loop between, refusals would never end.
      setImmediate(next);
    }
  };
  return next;
}

function batchLane(producer: Producer, topic: string, body: Uint8Array, measurement: Measurement, run: RunState): Lane {
  const messages = Array.from({ length: BATCH_MESSAGES }, () => ({ topic, body }));
  return async () => {
    while (!run.stopped) {
      const startMs = performance.now();
      try {
        await producer.sendBatch(messages);
        measurement.done(startMs, BATCH_MESSAGES);
      } catch (error) {
        measurement.failed(BATCH_MESSAGES, error);
      }
    }
    run.active--;
  };
}

/** Warm-up, then the measured time. @returns its true length in seconds */
async function measure(
  measurement: Measurement,
  options: { readonly warmupS: number; readonly seconds: number; readonly onProgress: (text: string) => void },
): Promise<number> {
  await sleep(options.warmupS * 1000);
  measurement.recording = true;
  const startMs = performance.now();
  const endMs = startMs + options.seconds * 1000;
  let lastCount = 0;
  let lastMs = startMs;
  for (let nowMs = startMs; nowMs < endMs; nowMs = performance.now()) {
    await sleep(Math.min(2000, endMs - nowMs));
    const rate = ((measurement.messages - lastCount) * 1000) / (performance.now() - lastMs);
    options.onProgress(`${Math.round(rate)} messages/s`);
    lastCount = measurement.messages;
    lastMs = performance.now();
  }
  measurement.recording = false;
  return (performance.now() - startMs) / 1000;
}

export interface ConsumeOptions {
  readonly endpoints: readonly string[];
  readonly topic: string;
  readonly group: string;
  /** Messages of the topic that the group has not committed yet. */
  readonly backlog: number;
  readonly timeoutS: number;
  readonly onProgress: (text: string) => void;
}

/** Drains a backlog to the application's callback, acknowledging. Latency is the time between two deliveries to the callback. */
export async function benchConsume(options: ConsumeOptions): Promise<BenchResult & { consumed: number }> {
  const client = await connectClient(options.endpoints);
  try {
    const measurement = new Measurement();
    const { promise, resolve } = Promise.withResolvers<void>();
    let consumed = 0;
    let bytes = 0;
    let firstMs = 0;
    let lastMs = 0;
    let waitedFromMs = performance.now();
    const consumer = client.consumer({
      group: options.group,
      topics: [options.topic],
      consumeFromWhere: 'first',
      consumeMessageBatchMaxSize: 256,
      batchHandler: (messages) => {
        const nowMs = performance.now();
        if (firstMs === 0) firstMs = nowMs;
        measurement.recording = true;
        // What a consumer waits for its next messages.
        measurement.done(waitedFromMs, messages.length);
        waitedFromMs = nowMs;
        for (const message of messages) bytes += message.body.length;
        consumed += messages.length;
        lastMs = nowMs;
        if (consumed >= options.backlog) resolve();
      },
      onError: (error) => measurement.failed(1, error),
    });
    await consumer.start();
    const ticker = setInterval(() => options.onProgress(`${consumed} of ${options.backlog} messages`), 2000);
    const timeout = new AbortController();
    await Promise.race([promise, sleep(options.timeoutS * 1000, undefined, { signal: timeout.signal }).catch(() => undefined)]);
    timeout.abort();
    clearInterval(ticker);
    await consumer.close();
    const seconds = Math.max(0.001, (lastMs - firstMs) / 1000);
    sayFirstError(measurement, options.onProgress);
    return { ...measurement.result('consume', consumed === 0 ? 0 : Math.round(bytes / consumed), seconds), consumed };
  } finally {
    await client.close();
  }
}

export interface EndToEndOptions extends Omit<ProduceOptions, 'mode' | 'concurrency' | 'producers'> {
  readonly group: string;
  /** Messages per second; 0 = as many as `inFlight` allows. */
  readonly rate: number;
  readonly inFlight: number;
}

const TICK_MS = 1;

/** Produces and consumes at once; latency is from the call of send() to the consumer's handler. One process, one clock. */
export async function benchEndToEnd(options: EndToEndOptions): Promise<BenchResult> {
  const clients = [await connectClient(options.endpoints), await connectClient(options.endpoints)] as const;
  try {
    const measurement = new Measurement();
    const consumer = clients[0].consumer({
      group: options.group,
      topics: [options.topic],
      consumeFromWhere: 'last',
      batchHandler: (messages) => {
        for (const { body } of messages) {
          const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
          // 0: not of this run's clock (an older message of the topic).
          const startMs = view.getFloat64(0, true);
          if (startMs > 0) measurement.done(startMs, 1);
        }
      },
      consumeMessageBatchMaxSize: 256,
      onError: (error) => measurement.failed(1, error),
    });
    await consumer.start();
    const run = { stopped: false, active: 0 };
    const sending = sendAtRate(clients[1].producer(PLAIN), options, measurement, run);
    const seconds = await measure(measurement, options);
    run.stopped = true;
    await sending;
    await consumer.close();
    sayFirstError(measurement, options.onProgress);
    return measurement.result(options.rate === 0 ? `e2e-${options.inFlight}` : `e2e-rate-${options.rate}`, options.sizeBytes, seconds);
  } finally {
    await closeAll(clients);
  }
}

/** Sends what the rate owes at each tick: a late tick catches up, so that a stall shows as latency and not as a lower rate. */
async function sendAtRate(producer: Producer, options: EndToEndOptions, measurement: Measurement, run: RunState): Promise<void> {
  const startMs = performance.now();
  let sent = 0;
  const settled = (error: Error | null): void => {
    run.active--;
    if (error !== null) measurement.failed(1, error);
  };
  while (!run.stopped) {
    const owed = options.rate === 0 ? Number.POSITIVE_INFINITY : ((performance.now() - startMs) / 1000) * options.rate;
    while (sent < owed && run.active < options.inFlight) {
      const body = Buffer.alloc(options.sizeBytes);
      body.writeDoubleLE(performance.now(), 0);
      run.active++;
      sent++;
      void producer.send({ topic: options.topic, body }, settled);
    }
    await sleep(TICK_MS);
  }
  await producer.flush();
}

async function closeAll(clients: readonly LedgerClient[]): Promise<void> {
  await Promise.all(clients.map((client) => client.close()));
}
