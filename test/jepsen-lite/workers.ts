import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { NetHost } from '../support/net-hosts.ts';
import type { ChaosCluster } from './cluster/chaos-cluster.ts';
import type { WorkerPlan } from './worker-plans.ts';

const WORKER = join(import.meta.dirname, 'worker.ts');
const READY_TIMEOUT_MS = 60_000;

export interface Progress {
  readonly ok: number;
  readonly fail: number;
  readonly info: number;
}

/** One client process on one of the client hosts. */
export class ChaosWorker {
  readonly name: string;
  readonly historyFile: string;
  readonly #child: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  readonly #ended: Promise<string | null>;
  progress: Progress = { ok: 0, fail: 0, info: 0 };

  constructor(cluster: ChaosCluster, host: NetHost, plan: WorkerPlan, run: { seed: number; originNs: bigint; out: string }) {
    this.name = `${plan.workload}-${plan.id}`;
    this.historyFile = join(run.out, 'histories', `${this.name}.jsonl`);
    const flags = {
      endpoints: cluster.endpoints.join(','),
      workload: plan.workload,
      id: plan.id,
      seed: run.seed,
      'origin-ns': run.originNs,
      history: this.historyFile,
      ...(plan.rate === null ? {} : { rate: plan.rate }),
    };
    const words = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const log = openSync(join(run.out, 'logs', `${this.name}.log`), 'a');
    this.#child = cluster.hosts.spawn(host, process.execPath, [WORKER, ...words], { stdio: ['pipe', 'pipe', log], detached: true });
    closeSync(log);
    this.#child.stdin?.on('error', () => undefined);
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.#heard(line));
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => {
      this.#ready.reject(new Error(`worker ${this.name} ended with ${signal ?? code} before it was ready; see its log`));
      return code === 0 ? null : `worker ${this.name} ended with ${signal ?? code}; see its log`;
    });
    // Nobody may be waiting for it any more.
    this.#ready.promise.catch(() => undefined);
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** @throws Error when it ends before, or takes too long */
  async ready(): Promise<void> {
    const timer = setTimeout(() => this.#ready.reject(new Error(`worker ${this.name} did not get ready`)), READY_TIMEOUT_MS);
    await this.#ready.promise;
    clearTimeout(timer);
  }

  /** Asks it to finish, and kills it when it does not. @returns null, or how it ended instead of with 0 */
  async finish(timeoutMs: number): Promise<string | null> {
    this.#child.stdin?.write('{"do":"finish"}\n');
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#child.kill('SIGKILL');
    }, timeoutMs);
    const trouble = await this.#ended;
    clearTimeout(timer);
    return late ? `worker ${this.name} did not finish within ${timeoutMs / 1000} s` : trouble;
  }

  #heard(line: string): void {
    const { event, ...rest } = JSON.parse(line) as { event: string } & Progress;
    if (event === 'ready') this.#ready.resolve();
    else if (event === 'progress') this.progress = rest;
  }
}
