import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readdirSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalCluster, type LocalClusterOptions } from '../../src/cli/local-cluster.ts';
import { httpGet } from '../../src/cli/local-ports.ts';
import { type ClientOptions, LedgerClient, type MessageQueue, type ReceivedMessage } from '../../src/index.ts';
import { cli, type Ran } from '../cli/run.ts';

export const MIB = 1024 * 1024;
const POLL_MS = 10;

/** Polls until `condition` holds. @throws Error naming `what` after `timeoutMs` */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(POLL_MS);
  }
}

/** Replica processes in a temporary directory, and the clients made for them. */
export class TestCluster {
  readonly local: LocalCluster;
  readonly #dir: string;
  readonly #clients = new Set<LedgerClient>();

  private constructor(local: LocalCluster, dir: string) {
    this.local = local;
    this.#dir = dir;
  }

  /** @param size default: one broker group of three replicas */
  static async start(
    settings: LocalClusterOptions['settings'] = {},
    size: Pick<LocalClusterOptions, 'groups' | 'replicas'> = {},
  ): Promise<TestCluster> {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-e2e-'));
    return new TestCluster(await LocalCluster.start({ dir, basePort: 0, settings, ...size }), dir);
  }

  client(options: Partial<ClientOptions> = {}): LedgerClient {
    const client = new LedgerClient({ endpoints: this.local.endpoints, ...options });
    this.#clients.add(client);
    return client;
  }

  async createTopic(topic: string, queues = 1): Promise<MessageQueue[]> {
    await using client = new LedgerClient({ endpoints: this.local.endpoints });
    await client.admin().createTopic(topic, { queues });
    return Array.from({ length: queues }, (_, queueId) => ({ topic, brokerName: 'a', queueId }));
  }

  cli(...args: string[]): Promise<Ran> {
    return cli([...args, '--endpoint', this.local.endpoints.join(',')]);
  }

  /** A command's JSON document. @throws Error unless it exits with 0 */
  async json(...args: string[]): Promise<Record<string, unknown>> {
    const ran = await this.cli(...args, '--json');
    if (ran.exit !== 0) throw new Error(`ledgermq ${args.join(' ')}: exit ${ran.exit}: ${ran.stderr}${ran.stdout}`);
    return JSON.parse(ran.stdout) as Record<string, unknown>;
  }

  async status(replicaId: number): Promise<Record<string, number>> {
    const found = await this.local.replica(replicaId).status();
    if (found === null) throw new Error(`replica ${replicaId} does not answer`);
    return found as Record<string, number>;
  }

  /** Makes this replica lead, and waits until it says so itself. */
  async lead(replicaId: number): Promise<void> {
    await until(
      `replica ${replicaId} leads`,
      async () => {
        if ((await this.local.leader()) === replicaId) return (await this.local.replica(replicaId).isReady()) === true;
        await this.cli('raft', 'transfer', '--to', String(replicaId));
        return false;
      },
      30_000,
    );
  }

  /** Value of a metric without labels of its own; null when the page does not show it. */
  async metric(replicaId: number, name: string, brokerName = 'a'): Promise<number | null> {
    const page = await httpGet(`${this.local.replica(replicaId, brokerName).adminUrl}/metrics`, 5_000);
    const line = page?.text.split('\n').find((text) => text.startsWith(`${name}{`) || text.startsWith(`${name} `));
    return line === undefined ? null : Number(line.slice(line.lastIndexOf(' ') + 1));
  }

  /** Names of the CommitLog's segments. */
  segments(replicaId: number): string[] {
    return readdirSync(this.#commitLog(replicaId)).sort();
  }

  /** Bytes of the CommitLog on this replica's disk. */
  logBytes(replicaId: number, position: number, length: number): Buffer {
    const name = this.segments(replicaId).findLast((segment) => Number(segment) <= position) as string;
    const file = openSync(join(this.#commitLog(replicaId), name), 'r');
    try {
      const bytes = Buffer.alloc(length);
      const found = readSync(file, bytes, 0, length, position - Number(name));
      return bytes.subarray(0, found);
    } finally {
      closeSync(file);
    }
  }

  /** SHA-256 of the CommitLog from `from` to `to` on this replica's disk. */
  logHash(replicaId: number, from: number, to: number): string {
    const hash = createHash('sha256');
    const names = this.segments(replicaId);
    names.forEach((name, at) => {
      const start = Math.max(from, Number(name));
      const end = Math.min(to, at + 1 < names.length ? Number(names[at + 1]) : to);
      for (let position = start; position < end; position += MIB) {
        hash.update(this.logBytes(replicaId, position, Math.min(MIB, end - position)));
      }
    });
    return hash.digest('hex');
  }

  /** Waits until all replicas have written and applied the same end of the log. @returns that position */
  async settled(): Promise<number> {
    let end = 0;
    await until('all replicas at the same end', async () => {
      const all = await Promise.all([1, 2, 3].map((replicaId) => this.status(replicaId)));
      end = all[0]?.['endPosition'] as number;
      return all.every(
        ({ endPosition, lastIndex, appliedIndex, durableIndex }) =>
          endPosition === end && appliedIndex === lastIndex && durableIndex === lastIndex,
      );
    });
    return end;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#clients].map((client) => client.close()));
    await this.local.stop();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }

  #commitLog(replicaId: number): string {
    return join(this.local.replica(replicaId).dataDir, 'commitlog');
  }
}

/** All retained messages of a queue, in offset order, by explicit pulls. */
export async function drain(client: LedgerClient, queue: MessageQueue, from?: number): Promise<ReceivedMessage[]> {
  const puller = client.pullConsumer();
  const range = await puller.range(queue);
  const messages: ReceivedMessage[] = [];
  for (let offset = from ?? range.minOffset; offset < range.maxOffset; ) {
    const pulled = await puller.pull(queue, offset);
    messages.push(...pulled.messages);
    offset = pulled.nextOffset;
  }
  return messages;
}

export const numbered = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `m${from + i}`);
export const texts = (messages: readonly ReceivedMessage[]): string[] => messages.map((message) => message.text());
export const dense = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
