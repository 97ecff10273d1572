import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freeBasePort, PORT_STRIDE } from '../../src/cli/local-ports.ts';
import { LocalReplica } from '../../src/cli/local-replica.ts';
import { cli, type Ran } from '../cli/run.ts';
import { until } from '../e2e/test-cluster.ts';

const HOST = '127.0.0.1';
const COUNT = 3;
const STOP_GRACE_MS = 20_000;
const READY_TIMEOUT_MS = 30_000;

export interface UpgradeGroupOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Settings that every build knows. */
  readonly flags?: Readonly<Record<string, string>>;
}

/**
 * Three replica processes, each of a release of its own. Started with flags that the oldest build knows: a newer setting goes
 * through the environment, where unknown names are left alone.
 */
export class UpgradeGroup {
  readonly dir: string;
  readonly replicas: readonly LocalReplica[];

  private constructor(dir: string, basePort: number, { env = {}, flags: more = {} }: UpgradeGroupOptions) {
    this.dir = dir;
    const port = (id: number): number => basePort + PORT_STRIDE * (id - 1);
    const ids = Array.from({ length: COUNT }, (_, at) => at + 1);
    const replicas = ids.map((id) => `${id}@${HOST}:${port(id)}`).join(',');
    this.replicas = ids.map((replicaId) => {
      const dataDir = join(dir, `a-${replicaId}`);
      const flags = { 'replica-id': replicaId, port: port(replicaId), replicas, 'data-dir': dataDir, 'segment-bytes': '16MiB', ...more };
      const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
      return new LocalReplica({ brokerName: 'a', replicaId, host: HOST, port: port(replicaId), dataDir, args, env });
    });
  }

  static async make(options: UpgradeGroupOptions = {}): Promise<UpgradeGroup> {
    return new UpgradeGroup(mkdtempSync(join(tmpdir(), 'ledgermq-upgrade-')), await freeBasePort(HOST, COUNT), options);
  }

  get endpoints(): string[] {
    return this.replicas.map((replica) => replica.endpoint);
  }

  replica(replicaId: number): LocalReplica {
    return this.replicas[replicaId - 1] as LocalReplica;
  }

  /** All at once, by this program. */
  async start(program: string): Promise<void> {
    for (const replica of this.replicas) {
      replica.program = program;
      replica.spawn(() => undefined);
    }
    for (const replica of this.replicas) await this.#ready(replica);
  }

  /** Drains one replica (SIGTERM) and starts it by `program` on the same directory; back when it serves and is in step. */
  async replace(replicaId: number, program: string): Promise<void> {
    const replica = this.replica(replicaId);
    const ran = replica.running;
    const exit = await replica.end('SIGTERM', STOP_GRACE_MS);
    if (ran && exit.code !== 0) throw new Error(`replica ${replicaId} ended with ${JSON.stringify(exit)}:\n${replica.logTail()}`);
    replica.program = program;
    replica.spawn(() => undefined);
    await this.#ready(replica);
  }

  async status(replicaId: number): Promise<Record<string, number | string>> {
    const found = await this.replica(replicaId).status();
    if (found === null) throw new Error(`replica ${replicaId} does not answer:\n${this.replica(replicaId).logTail()}`);
    return found as Record<string, number | string>;
  }

  /** Of each replica; a build of the first level says nothing and counts as 1. */
  async levels(): Promise<number[]> {
    const statuses = await Promise.all(this.replicas.map(({ replicaId }) => this.status(replicaId)));
    return statuses.map(({ featureLevel }) => Number(featureLevel ?? 1));
  }

  /** Makes this replica lead, and waits until it says so itself. */
  async lead(replicaId: number): Promise<void> {
    await until(
      `replica ${replicaId} leads`,
      async () => {
        if ((await this.status(replicaId))['role'] === 'leader') return this.replica(replicaId).isReady();
        await this.cli('raft', 'transfer', '--to', String(replicaId));
        return false;
      },
      READY_TIMEOUT_MS,
    );
  }

  cli(...args: string[]): Promise<Ran> {
    return cli([...args, '--endpoint', this.endpoints.join(',')]);
  }

  /** This release's command line. */
  async json(...args: string[]): Promise<Record<string, unknown>> {
    const ran = await this.cli(...args, '--json');
    if (ran.exit !== 0) throw new Error(`ledgermq ${args.join(' ')}: exit ${ran.exit}: ${ran.stderr}${ran.stdout}`);
    return JSON.parse(ran.stdout) as Record<string, unknown>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.replicas.map((replica) => replica.end('SIGTERM', STOP_GRACE_MS)));
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5 });
  }

  async #ready(replica: LocalReplica): Promise<void> {
    try {
      await until(`replica ${replica.replicaId} is ready`, () => replica.isReady(), READY_TIMEOUT_MS);
      // One that lags is no reserve when the next is stopped.
      await until(
        `replica ${replica.replicaId} is in step`,
        async () => {
          const statuses = await Promise.all(this.replicas.filter(({ running }) => running).map((other) => other.status()));
          const commit = Math.max(...statuses.map((found) => Number(found?.['commitIndex'] ?? 0)));
          return Number((await replica.status())?.['durableIndex'] ?? 0) >= commit;
        },
        READY_TIMEOUT_MS,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}:\n${await replica.trouble()}\n${replica.logTail()}`);
    }
  }
}
