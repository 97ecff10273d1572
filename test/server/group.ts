import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freeBasePort, httpGet, PORT_STRIDE } from '../../src/cli/local-ports.ts';
import { type BrokerConfig, resolveConfig } from '../../src/config.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { createLogger } from '../../src/metrics/logger.ts';
import { type Server, startServer } from '../../src/server.ts';

const HOST = '127.0.0.1';
const READY_TIMEOUT_MS = 30_000;

/** Three real replicas in this process, with their admin pages and their logs in memory. */
export class TestGroup {
  readonly #base: number;
  readonly #dir: string;
  readonly #logLevel: string;
  readonly servers = new Map<number, Server>();
  /** Replicas started from now on behave like a release that knows no more; undefined: this release. */
  newestFeatureLevel: number | undefined;
  /** Everything that the replicas logged, one string each line. */
  readonly lines: string[] = [];

  private constructor(base: number, dir: string, logLevel: string) {
    this.#base = base;
    this.#dir = dir;
    this.#logLevel = logLevel;
  }

  static async make(logLevel = 'trace'): Promise<TestGroup> {
    return new TestGroup(await freeBasePort(HOST, 3), mkdtempSync(join(tmpdir(), 'ledgermq-group-')), logLevel);
  }

  config(replicaId: number): BrokerConfig {
    const replicas = [1, 2, 3].map((id) => `${id}@${HOST}:${this.#port(id)}`).join(',');
    const port = this.#port(replicaId);
    return resolveConfig({
      flags: { replicaId, port, replicas, dataDir: join(this.#dir, String(replicaId)), segmentBytes: '16MiB', logLevel: this.#logLevel },
    });
  }

  async start(...replicaIds: number[]): Promise<void> {
    for (const replicaId of replicaIds) {
      const config = this.config(replicaId);
      const io = nodeIo();
      const destination = { write: (line: string) => this.lines.push(line) };
      const fields = { broker: config.brokerName, replica: replicaId };
      const logger = createLogger({ level: config.logLevel, fields, clock: io.clock, destination });
      this.servers.set(replicaId, await startServer(config, io, { logger, ...this.#level() }));
    }
  }

  endpoints(): string[] {
    return [1, 2, 3].map((id) => `ws://${HOST}:${this.#port(id)}`);
  }

  async get(replicaId: number, path: string): Promise<{ status: number; text: string }> {
    const answer = await httpGet(`http://${HOST}:${this.#port(replicaId) + 2}${path}`, 5000);
    if (answer === null) throw new Error(`replica ${replicaId} does not answer ${path}`);
    return answer;
  }

  /** Resolves when `holds` is true of the answer; the replicas' own events drive it, the poll only looks. */
  async until(replicaId: number, path: string, holds: (answer: { status: number; text: string }) => boolean): Promise<string> {
    const deadlineMs = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      const answer = await this.get(replicaId, path);
      if (holds(answer)) return answer.text;
      if (performance.now() > deadlineMs) throw new Error(`replica ${replicaId} ${path}: ${answer.status} ${answer.text.slice(0, 4000)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async ready(): Promise<void> {
    for (const id of this.servers.keys()) await this.until(id, '/readyz', ({ status }) => status === 200);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.servers.values()].map((server) => server.stop()));
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }

  #level(): { newestFeatureLevel?: number } {
    return this.newestFeatureLevel === undefined ? {} : { newestFeatureLevel: this.newestFeatureLevel };
  }

  #port(replicaId: number): number {
    return this.#base + PORT_STRIDE * (replicaId - 1);
  }
}

/** Sum of the series of one metric whose labels hold all of `labels`; NaN when there is none. */
export function metricValue(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
  const series = text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`))
    .filter((line) => wanted.every((label) => line.includes(label)));
  if (series.length === 0) return Number.NaN;
  return series.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
