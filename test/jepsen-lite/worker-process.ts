import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const WORKER = join(import.meta.dirname, 'worker.ts');

export interface WorkerOptions {
  readonly endpoints: readonly string[];
  readonly workload: string;
  readonly id: number;
  readonly seed: number;
  readonly originNs: bigint;
  readonly history: string;
  readonly rate?: number;
}

/** A worker as a child of this process. */
export class WorkerProcess {
  readonly options: WorkerOptions;
  readonly #child: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  progress = { ok: 0, fail: 0, info: 0 };
  stderr = '';

  constructor(options: WorkerOptions) {
    this.options = options;
    const { endpoints, workload, id, seed, originNs, history, rate } = options;
    const args = ['--endpoints', endpoints.join(','), '--workload', workload, '--id', String(id), '--seed', String(seed)];
    args.push('--origin-ns', String(originNs), '--history', history, ...(rate === undefined ? [] : ['--rate', String(rate)]));
    this.#child = spawn(process.execPath, [WORKER, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const { event, ...rest } = JSON.parse(line) as { event: string; ok: number; fail: number; info: number };
      if (event === 'ready') this.#ready.resolve();
      else if (event === 'progress') this.progress = rest;
    });
    // Nobody may be waiting for it any more.
    this.#ready.promise.catch(() => undefined);
    this.#child.once('exit', (code) => this.#ready.reject(new Error(`${workload} ${id} ended with ${code}: ${this.stderr}`)));
  }

  /** @throws Error when it ends before */
  ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Asks it to finish. @returns its exit code; null when it was killed */
  async finish(): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end(`${JSON.stringify({ do: 'finish' })}\n`);
    const [code] = (await ended) as [number | null];
    return code;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}
