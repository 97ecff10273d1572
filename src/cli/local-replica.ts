import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { httpGet } from './local-ports.ts';
import { makeDirectory } from './make-directory.ts';

/**
 * What V8 is told of a replica. It collects the whole heap when its old part and the memory outside of it have grown by a share of
 * the heap's size, which is small here: reading 200 MB/s from sockets in pieces of 64 KB meant ten collections a second, a fifth of
 * the two cores. With room to grow they are one a second. Those pieces are freed by collections of the young part only, and a young
 * part of 16 MiB fills slowly where little is allocated for a message: of 1 MiB, the pieces go before they count as growth, and
 * each pause is short (single sends: p99 11 ms where it was 23, docs/benchmarks.md).
 */
const RUNTIME_FLAGS = ['--initial-old-space-size=128', '--max-semi-space-size=1'];
/**
 * Node's own place for compiled code, said from outside: main.ts enables it for everything behind it, and is itself read before. In a
 * checkout that alone would load the type stripper into each replica, 17 MB of memory for nothing.
 */
const COMPILE_CACHE = { NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache') };
const MAX_LOG_FILE_BYTES = 64 * 1024 * 1024;
const LOG_TAIL_BYTES = 2000;
const PROBE_TIMEOUT_MS = 1000;

export interface LocalReplicaOptions {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  /** Flags of `ledgermq broker`. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface ReplicaExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * One `ledgermq broker` process of a local cluster.
 *
 * The child is in a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor alone; it ends by
 * itself when its standard input does, which the system sees to even when the supervisor is killed with -9.
 */
export class LocalReplica {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly endpoint: string;
  readonly adminUrl: string;
  readonly dataDir: string;
  readonly logFile: string;
  /** The program that the next spawn() runs: this release's, unless an upgrade is tried. */
  program = join(import.meta.dirname, `main${extname(import.meta.filename)}`);
  readonly #options: LocalReplicaOptions;
  #child: ChildProcess | null = null;
  #exited: Promise<ReplicaExit> = Promise.resolve({ code: null, signal: null });
  #lastExit: ReplicaExit | null = null;

  constructor(options: LocalReplicaOptions) {
    this.#options = options;
    this.brokerName = options.brokerName;
    this.replicaId = options.replicaId;
    this.endpoint = `ws://${options.host}:${options.port}`;
    this.adminUrl = `http://${options.host}:${options.port + 2}`;
    this.dataDir = options.dataDir;
    this.logFile = join(dirname(options.dataDir), `${options.brokerName}-${options.replicaId}.log`);
  }

  /** null while it does not run. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  /** How it ended the last time; null when it never did. */
  get lastExit(): ReplicaExit | null {
    return this.#lastExit;
  }

  /** @param onExit called once when the process ends, for whatever reason */
  spawn(onExit: (exit: ReplicaExit) => void): void {
    if (this.#child !== null) return;
    makeDirectory(dirname(this.logFile));
    const log = openSync(this.logFile, sizeOf(this.logFile) > MAX_LOG_FILE_BYTES ? 'w' : 'a');
    const child = spawn(process.execPath, [...RUNTIME_FLAGS, this.program, 'broker', '--stop-with-stdin', ...this.#options.args], {
      stdio: ['pipe', log, log],
      detached: true,
      env: { ...COMPILE_CACHE, ...process.env, ...this.#options.env },
    });
    closeSync(log);
    // The pipe breaks when the child dies first; that is what onExit is for.
    child.stdin?.on('error', () => undefined);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      const ended = (exit: ReplicaExit): void => {
        if (this.#child !== child) return;
        this.#child = null;
        this.#lastExit = exit;
        resolve(exit);
        onExit(exit);
      };
      child.once('exit', (code, signal) => ended({ code, signal }));
      child.once('error', () => ended({ code: null, signal: null }));
    });
  }

  /** Sends a signal; resolves when the process has ended. `graceMs` after that it is killed with -9. */
  async end(signal: NodeJS.Signals, graceMs: number): Promise<ReplicaExit> {
    const child = this.#child;
    if (child === null) return this.#exited;
    child.kill(signal);
    const killer = setTimeout(() => child.kill('SIGKILL'), graceMs);
    const exit = await this.#exited;
    clearTimeout(killer);
    return exit;
  }

  /** SIGSTOP, SIGCONT, … */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async isReady(): Promise<boolean> {
    if (this.#child === null) return false;
    const answer = await httpGet(`${this.adminUrl}/readyz`, PROBE_TIMEOUT_MS);
    return answer?.status === 200;
  }

  /** /api/status, or null when it does not answer. */
  async status(): Promise<Record<string, unknown> | null> {
    const answer = await httpGet(`${this.adminUrl}/api/status`, PROBE_TIMEOUT_MS);
    return answer?.status === 200 ? (JSON.parse(answer.text) as Record<string, unknown>) : null;
  }

  /** Why it is not ready: the failed checks, or the end of its log. */
  async trouble(): Promise<string> {
    const answer = this.#child === null ? null : await httpGet(`${this.adminUrl}/readyz`, PROBE_TIMEOUT_MS);
    const text = answer === null ? this.logTail() : answer.text.trim();
    // A full disk takes the log with it.
    return text === '' ? `${this.logFile} is empty; is there room on its disk?` : text;
  }

  logTail(): string {
    try {
      return readFileSync(this.logFile, 'utf8').slice(-LOG_TAIL_BYTES).trim();
    } catch {
      return '(no log)';
    }
  }
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
