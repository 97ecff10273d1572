import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { NetHost, NetHosts } from '../../support/net-hosts.ts';
import { compile } from '../shim/shim.ts';

const run = promisify(execFile);

export interface RelayCounts {
  readonly packets: number;
  /** Sent after one that came later, in the same direction. */
  readonly reordered: number;
  readonly dropped: number;
}

export interface RelayPlan {
  readonly delayMs: number;
  /** Up to this much more, drawn for each packet: what draws less overtakes. */
  readonly jitterMs: number;
  readonly seed: number;
}

/** @returns path of the program */
export async function compileRelay(directory: string): Promise<string> {
  const program = join(directory, 'relay');
  await compile(['-o', program, join(import.meta.dirname, 'relay.c')]);
  return program;
}

/** Stands between a host and the switch, for all packets in both directions, until it ends. */
export class Relay {
  readonly #namespace: string;
  readonly #port: string;
  readonly #child: ChildProcess;
  #counts: RelayCounts = { packets: 0, reordered: 0, dropped: 0 };

  private constructor(namespace: string, port: string, child: ChildProcess) {
    this.#namespace = namespace;
    this.#port = port;
    this.#child = child;
  }

  static async start(program: string, hosts: NetHosts, host: NetHost, plan: RelayPlan): Promise<Relay> {
    const { namespace, port } = hosts.portOf(host);
    const inner = `${port}r`;
    const outer = `${port}s`;
    const ip = (...words: string[]) => run('ip', ['-n', namespace, ...words]);
    await ip('link', 'add', inner, 'type', 'veth', 'peer', 'name', outer);
    // The bridge sees the host behind the outer end; packets reach that through the relay and the inner one alone.
    await ip('link', 'set', inner, 'up');
    const words = [port, inner, plan.delayMs * 1000, plan.jitterMs * 1000, plan.seed >>> 0].map(String);
    const child = spawn('ip', ['netns', 'exec', namespace, program, ...words], { stdio: ['pipe', 'pipe', 'inherit'] });
    const relay = new Relay(namespace, port, child);
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      const [packets = 0, reordered = 0, dropped = 0] = line.split(' ').map(Number);
      relay.#counts = { packets, reordered, dropped };
    });
    const first = once(lines, 'line');
    const died = once(child, 'exit').then(([code]) => Promise.reject(new Error(`relay ended with ${code}`)));
    await Promise.race([first, died]);
    died.catch(() => undefined);
    await ip('link', 'set', port, 'nomaster');
    await ip('link', 'set', outer, 'master', 'bridge', 'up');
    return relay;
  }

  get counts(): RelayCounts {
    return this.#counts;
  }

  /** Back to the direct way; what is under way is lost. */
  async end(): Promise<RelayCounts> {
    const ended = once(this.#child, 'close');
    this.#child.stdin?.end();
    await ended;
    const ip = (...words: string[]) => run('ip', ['-n', this.#namespace, ...words]);
    await ip('link', 'del', `${this.#port}r`);
    await ip('link', 'set', this.#port, 'master', 'bridge');
    return this.#counts;
  }
}
