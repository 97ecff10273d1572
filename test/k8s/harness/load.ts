import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { KubeCluster } from './kube-cluster.ts';

export interface LoadPlan {
  readonly topic: string;
  readonly queues: number;
  /** Ordering keys, each with one message under way. */
  readonly lanes: number;
  readonly pauseMs: number;
  readonly host: string;
  readonly port: number;
}

export interface LoadReport {
  readonly sent: number;
  readonly acknowledged: number;
  /** The first ten: sends that were refused, or whose outcome is unknown. */
  readonly failures: readonly string[];
  /** The first ten: acknowledged, and never consumed. */
  readonly lost: readonly string[];
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly fabricated: number;
  /** From the call to the acknowledgement, over all messages. */
  readonly longestSendMs: number;
  /** Connections that clients which are just starting tried to make through the service. */
  readonly newcomers: number;
  readonly refused: number;
  readonly refusedWith: readonly string[];
}

export const DEFAULT_LOAD: LoadPlan = { topic: 'orders', queues: 4, lanes: 8, pauseMs: 20, host: 'ledgermq.ledgermq', port: 7460 };

/** Traffic from the client host, through the client service. */
export class Load {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: Interface) {
    this.#child = child;
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** Runs when this resolves: the topic is made, the consumer has joined. */
  static async start(cluster: KubeCluster, plan: Partial<LoadPlan> = {}): Promise<Load> {
    const program = join(import.meta.dirname, 'load-process.ts');
    const words = [program, JSON.stringify({ ...DEFAULT_LOAD, ...plan })];
    const child = cluster.hosts.spawn(cluster.client, process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin?.on('error', () => undefined);
    const load = new Load(child, createInterface({ input: child.stdout as NodeJS.ReadableStream }));
    await load.#line();
    return load;
  }

  /** Acknowledged so far. */
  async acknowledged(): Promise<number> {
    this.#child.stdin?.write('count\n');
    return Number((await this.#line()).split(' ')[1]);
  }

  async finish(): Promise<LoadReport> {
    this.#child.stdin?.end();
    return JSON.parse(await this.#line()) as LoadReport;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the load ended with ${this.#child.exitCode}`);
    return value;
  }
}
