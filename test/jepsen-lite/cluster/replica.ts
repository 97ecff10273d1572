import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NetHost, NetHosts } from '../../support/net-hosts.ts';
import type { Shim } from '../shim/shim.ts';
import type { Volume } from '../volumes.ts';

const PROGRAM = join(import.meta.dirname, '../../../src/cli/main.ts');
export const CLIENT_PORT = 7460;
export const ADMIN_PORT = CLIENT_PORT + 2;
export const BROKER_NAME = 'a';

export interface ReplicaExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ReplicaOptions {
  readonly id: number;
  readonly hosts: NetHosts;
  readonly host: NetHost;
  readonly volume: Volume;
  readonly shim: Shim | null;
  /** Where libfaketime reads the shift of its wall clock; null: the clock is left alone. */
  readonly clock: { readonly file: string; readonly library: string } | null;
  readonly logFile: string;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly env: Readonly<Record<string, string>>;
}

/** One `ledgermq broker` on a host of its own. */
export class ChaosReplica {
  readonly id: number;
  readonly host: NetHost;
  readonly volume: Volume;
  readonly shim: Shim | null;
  readonly #options: ReplicaOptions;
  #child: ChildProcess | null = null;
  #exited: Promise<ReplicaExit> = Promise.resolve({ code: null, signal: null });
  /** A fault keeps it down, or is about to end it. */
  held = false;
  /** Called when it ends, in whatever way. */
  onExit: (exit: ReplicaExit) => void = () => undefined;

  constructor(options: ReplicaOptions) {
    this.id = options.id;
    this.host = options.host;
    this.volume = options.volume;
    this.shim = options.shim;
    this.#options = options;
    this.shiftClock(0);
  }

  get name(): string {
    return this.host.name;
  }
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }
  get dataDir(): string {
    return join(this.volume.path, 'data');
  }
  get endpoint(): string {
    return `ws://${this.host.name}:${CLIENT_PORT}`;
  }
  /** By address: names are for those inside. */
  get adminUrl(): string {
    return `http://${this.host.address}:${ADMIN_PORT}`;
  }
  get canShiftClock(): boolean {
    return this.#options.clock !== null;
  }

  /** @param members ids of all that `--replicas` names */
  start(members: readonly number[]): void {
    if (this.#child !== null) return;
    this.held = false;
    const { hosts, settings, env, shim, clock, logFile } = this.#options;
    const identity = {
      'broker-name': BROKER_NAME,
      'replica-id': this.id,
      host: '0.0.0.0',
      'advertised-host': this.host.name,
      port: CLIENT_PORT,
      'data-dir': this.dataDir,
      replicas: members.map((id) => `${id}@n${id}:${CLIENT_PORT}`).join(','),
    };
    const flags = Object.entries({ ...settings, ...identity }).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    const preloaded = [shim?.env['LD_PRELOAD'], clock?.library].filter((library) => library !== undefined);
    const set = {
      ...env,
      ...shim?.env,
      // Of all writes that go past the preload library.
      UV_USE_IO_URING: '0',
      ...(preloaded.length === 0 ? {} : { LD_PRELOAD: preloaded.join(':') }),
      ...(clock === null ? {} : clockEnv(clock.file)),
    };
    const words = Object.entries(set).map(([name, value]) => `${name}=${value}`);
    const log = openSync(logFile, 'a');
    const program = [...words, process.execPath, '--initial-old-space-size=64', PROGRAM, 'broker', '--stop-with-stdin', ...flags];
    const child = hosts.spawn(this.host, 'env', program, { stdio: ['pipe', log, log], detached: true });
    closeSync(log);
    child.stdin?.on('error', () => undefined);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#child = null;
        resolve({ code, signal });
        this.onExit({ code, signal });
      });
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Sends the signal and keeps it down. */
  end(signal: NodeJS.Signals): Promise<ReplicaExit> {
    this.held = true;
    this.#child?.kill(signal);
    return this.#exited;
  }

  /** Resolves when the process that runs now has ended; null after `timeoutMs`. */
  async exited(timeoutMs: number): Promise<ReplicaExit | null> {
    const { promise, resolve } = Promise.withResolvers<null>();
    const timer = setTimeout(() => resolve(null), timeoutMs);
    const exit = await Promise.race([this.#exited, promise]);
    clearTimeout(timer);
    return exit;
  }

  /** State letter of its process in /proc: R, S, T …; null when it is gone. */
  processState(): string | null {
    if (this.pid === null) return null;
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, 'utf8');
      return stat[stat.lastIndexOf(')') + 2] ?? null;
    } catch {
      return null;
    }
  }

  /** Wall clock only; monotonic time goes on as it does. */
  shiftClock(seconds: number): void {
    const { clock } = this.#options;
    if (clock !== null) writeFileSync(clock.file, `${seconds < 0 ? '' : '+'}${seconds}\n`);
  }
}

function clockEnv(file: string): Record<string, string> {
  return {
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_CACHE_DURATION: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    FAKETIME_DONT_RESET: '1',
    FAKETIME_DISABLE_SHM: '1',
    NO_FAKE_STAT: '1',
  };
}
