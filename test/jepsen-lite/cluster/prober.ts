import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { NetHost, NetHosts } from '../../support/net-hosts.ts';

export interface Question {
  readonly id: number;
  readonly url: string;
  readonly timeoutMs: number;
}
export interface Answer {
  readonly id: number;
  /** 0: nobody answered in time. */
  readonly status: number;
  readonly text: string;
  /** The answering host's wall clock, as its header has it. */
  readonly date: string;
}

const TIMEOUT_MS = 1_500;

/** HTTP questions to brokers, asked by a process in one of the hosts. */
export class Prober {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #asked = 0;

  constructor(hosts: NetHosts, host: NetHost) {
    this.#child = hosts.spawn(host, process.execPath, [join(import.meta.dirname, 'probe.ts')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    this.#child.stdin?.on('error', () => undefined);
    createInterface({ input: this.#child.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.#answered(JSON.parse(line) as Answer),
    );
    this.#child.once('exit', () => {
      for (const id of this.#waiting.keys()) this.#answered({ id, status: 0, text: '', date: '' });
    });
  }

  ask(url: string, timeoutMs = TIMEOUT_MS): Promise<Answer> {
    const id = ++this.#asked;
    if (this.#child.exitCode !== null) return Promise.resolve({ id, status: 0, text: '', date: '' });
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.stdin?.write(`${JSON.stringify({ id, url, timeoutMs } satisfies Question)}\n`);
    });
  }

  end(): void {
    this.#child.stdin?.end();
  }

  #answered(answer: Answer): void {
    this.#waiting.get(answer.id)?.(answer);
    this.#waiting.delete(answer.id);
  }
}
