import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/**
 * Hosts on one machine: each a network namespace with an address and a name of its own, all on one bridge in a further namespace.
 * Nothing of it shows in the machine's own network, so that several runs use the same addresses side by side. Needs root, iproute2
 * and nftables.
 *
 * Names of namespaces begin with their owner, `lmq<pid>x<start time of the pid>`: what a killed run has left is known by it.
 */
const OWNER = /^lmq(\d+)x(\d+)-/;
const NETNS_DIR = '/run/netns';
/** `ip netns exec` lays the files of this directory over those of /etc. */
const NETNS_ETC = '/etc/netns';
const SUBNET = '10.60';
const PREFIX_BITS = 16;
const HOST_PORT = /^[a-z][a-z0-9-]{0,30}$/;
const KILL_TRIES = 50;
const KILL_POLL_MS = 20;

const run = promisify(execFile);

/** Root, a tool or a right is missing: the message says which. */
export class HostsUnavailable extends Error {
  override name = 'HostsUnavailable';
}

export interface NetHost {
  readonly name: string;
  /** IPv4; another one after `changeAddress`. */
  readonly address: string;
  readonly namespace: string;
}

/** Traffic of one direction. */
export interface Direction {
  readonly from: NetHost;
  readonly to: NetHost;
}

/** Packets dropped between hosts until `heal()`. */
export interface Cut {
  /** So far. */
  droppedPackets(): Promise<number>;
  /** @returns packets dropped in all; again is fine */
  heal(): Promise<number>;
}

interface MutableHost {
  name: string;
  address: string;
  namespace: string;
  /** Its end of the cable at the switch. */
  port: string;
}

/** Owner part of the names of things made by this process that outlive it when it is killed: namespaces, mounts, directories. */
export function ownerPrefix(): string {
  return `lmq${process.pid}x${startTimeOf(process.pid) ?? 0}-`;
}

/** Whether `name` was made by a process that is gone. Names without an owner are nobody's business here. */
export function isLeftover(name: string): boolean {
  const [, pid, startTime] = OWNER.exec(name) ?? [];
  return pid !== undefined && startTimeOf(Number(pid)) !== startTime;
}

/** Clock ticks since boot: with it a process id is not confused with a later one's. */
function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command in brackets may hold spaces and brackets itself; field 22 is counted from behind it.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Removes namespaces and their processes whose owner is gone. @returns names of what was removed */
export async function sweepLeftovers(): Promise<string[]> {
  const names = namespaces().filter(isLeftover);
  for (const name of names) await removeNamespace(name);
  return names;
}

/** @throws HostsUnavailable without root, iproute2 or nftables */
export async function assertHostsPossible(): Promise<void> {
  if (process.getuid?.() !== 0) throw new HostsUnavailable('network namespaces need root: run this as root');
  for (const [tool, version] of [
    ['ip', '-V'],
    ['nft', '-v'],
  ] as const) {
    await run(tool, [version]).catch(() => {
      throw new HostsUnavailable(`no \`${tool}\`: install iproute2 and nftables`);
    });
  }
}

export class NetHosts {
  readonly #prefix: string;
  readonly #switch: string;
  readonly #hosts = new Map<string, MutableHost>();
  /** Names besides those of the hosts: name → address. */
  readonly #extraNames = new Map<string, string>();
  #addresses = 0;
  #ports = 0;
  #cuts = 0;
  #destroyed = false;

  private constructor(prefix: string) {
    this.#prefix = prefix;
    this.#switch = `${prefix}switch`;
  }

  /** Sweeps leftovers and makes an empty switch. @throws HostsUnavailable */
  static async create(): Promise<NetHosts> {
    await assertHostsPossible();
    await sweepLeftovers();
    const hosts = new NetHosts(`${ownerPrefix()}${randomBytes(3).toString('hex')}-`);
    try {
      await run('ip', ['netns', 'add', hosts.#switch]);
      await run('ip', ['-n', hosts.#switch, 'link', 'add', 'bridge', 'type', 'bridge']);
      await run('ip', ['-n', hosts.#switch, 'link', 'set', 'bridge', 'up']);
    } catch (error) {
      await hosts.destroy();
      throw new HostsUnavailable(`network namespaces cannot be made here: ${(error as Error).message}`);
    }
    return hosts;
  }

  get hosts(): readonly NetHost[] {
    return [...this.#hosts.values()];
  }

  /** Namespace of the switch, and the host's port there: where a relay is put between. */
  portOf(host: NetHost): { readonly namespace: string; readonly port: string } {
    return { namespace: this.#switch, port: this.#of(host).port };
  }

  /** A host, up and reachable by its name from all others. @param name letters, digits, `-` */
  async add(name: string): Promise<NetHost> {
    if (!HOST_PORT.test(name) || this.#hosts.has(name)) throw new Error(`${name}: not a host's name, or taken`);
    const host = { name, address: this.#nextAddress(), namespace: `${this.#prefix}${name}`, port: `p${++this.#ports}` };
    this.#hosts.set(name, host);
    await run('ip', ['netns', 'add', host.namespace]);
    const cable = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', host.namespace];
    await run('ip', ['-n', this.#switch, 'link', 'add', host.port, ...cable]);
    await run('ip', ['-n', this.#switch, 'link', 'set', host.port, 'master', 'bridge', 'up']);
    await run('ip', ['-n', host.namespace, 'addr', 'add', `${host.address}/${PREFIX_BITS}`, 'dev', 'eth0']);
    for (const link of ['lo', 'eth0']) await run('ip', ['-n', host.namespace, 'link', 'set', link, 'up']);
    this.#writeNames();
    return host;
  }

  /** Ends what runs in it, and takes it away with its address and its name. */
  async remove(host: NetHost): Promise<void> {
    const own = this.#of(host);
    this.#hosts.delete(own.name);
    await removeNamespace(own.namespace);
    this.#writeNames();
  }

  /** A name that is no host's own, or null to forget it: seen by all hosts, also by processes that run already. */
  setName(name: string, address: string | null): void {
    if (address === null) this.#extraNames.delete(name);
    else this.#extraNames.set(name, address);
    this.#writeNames();
  }

  /** As if the host came up elsewhere: the old address is gone and its connections with it, the name leads to the new one. */
  async changeAddress(host: NetHost): Promise<void> {
    const own = this.#of(host);
    const old = own.address;
    own.address = this.#nextAddress();
    // In this order: addresses of one subnet beside the first one go away with it.
    await run('ip', ['-n', own.namespace, 'addr', 'del', `${old}/${PREFIX_BITS}`, 'dev', 'eth0']);
    await run('ip', ['-n', own.namespace, 'addr', 'add', `${own.address}/${PREFIX_BITS}`, 'dev', 'eth0']);
    this.#writeNames();
  }

  /** A process in a host; its pid is that of the command itself. */
  spawn(host: NetHost, command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.#of(host).namespace, command, ...args], options);
  }

  /** @returns standard output. @throws Error unless it exits with 0 */
  async run(host: NetHost, command: string, args: readonly string[], timeoutMs = 60_000): Promise<string> {
    const all = ['netns', 'exec', this.#of(host).namespace, command, ...args];
    return (await run('ip', all, { timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 })).stdout;
  }

  /**
   * Drops packets at the switch, silently, until healed; cuts are independent of each other and follow addresses as they are now.
   * @param lossPercent 1 … 100 of the packets, drawn at random
   */
  async cut(directions: readonly Direction[], lossPercent = 100): Promise<Cut> {
    const table = `cut${++this.#cuts}`;
    const chance = lossPercent >= 100 ? '' : `numgen random mod 100 < ${lossPercent} `;
    const rules = directions.map(({ from, to }) => `ip saddr ${from.address} ip daddr ${to.address} ${chance}counter drop`);
    const chain = `chain forward {\ntype filter hook forward priority 0; policy accept;\n${rules.join('\n')}\n}`;
    await this.#nft(`table bridge ${table} {\n${chain}\n}\n`);
    let dropped: number | null = null;
    const droppedPackets = async (): Promise<number> => dropped ?? this.#dropped(table);
    const heal = async (): Promise<number> => {
      if (dropped === null) {
        dropped = await this.#dropped(table);
        await run('ip', ['netns', 'exec', this.#switch, 'nft', 'delete', 'table', 'bridge', table]);
      }
      return dropped;
    };
    return { droppedPackets, heal };
  }

  /** Ends every process in the hosts and removes all of it. Again is fine. */
  async destroy(): Promise<void> {
    if (this.#destroyed) return;
    this.#destroyed = true;
    for (const name of namespaces().filter((each) => each.startsWith(this.#prefix))) await removeNamespace(name);
  }

  #of(host: NetHost): MutableHost {
    const own = this.#hosts.get(host.name);
    if (own === undefined) throw new Error(`no host ${host.name}`);
    return own;
  }

  #nextAddress(): string {
    const number = ++this.#addresses;
    return `${SUBNET}.${number >> 8}.${number & 0xff}`;
  }

  /** In place, not by rename: the file is mounted over /etc/hosts of processes that run. */
  #writeNames(): void {
    const own = [...this.#hosts.values()].map(({ name, address }) => `${address} ${name}`);
    const extra = [...this.#extraNames].map(([name, address]) => `${address} ${name}`);
    const text = ['127.0.0.1 localhost', ...own, ...extra, ''].join('\n');
    for (const { namespace } of this.#hosts.values()) {
      mkdirSync(join(NETNS_ETC, namespace), { recursive: true });
      writeFileSync(join(NETNS_ETC, namespace, 'hosts'), text);
    }
  }

  async #nft(script: string): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.#switch, 'nft', '-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let trouble = '';
    child.stderr?.on('data', (text) => {
      trouble += text;
    });
    child.stdin?.end(script);
    const code = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
    if (code !== 0) throw new Error(`nft: ${trouble}`);
  }

  async #dropped(table: string): Promise<number> {
    const { stdout } = await run('ip', ['netns', 'exec', this.#switch, 'nft', '-j', 'list', 'table', 'bridge', table]);
    type Expression = { readonly counter?: { readonly packets: number } };
    const { nftables } = JSON.parse(stdout) as { nftables: readonly { rule?: { expr: readonly Expression[] } }[] };
    return nftables
      .flatMap(({ rule }) => rule?.expr ?? [])
      .reduce((packets, expression) => packets + (expression.counter?.packets ?? 0), 0);
  }
}

function namespaces(): string[] {
  try {
    return readdirSync(NETNS_DIR);
  } catch {
    return [];
  }
}

/** Processes first: a namespace lives on, nameless, as long as one is in it. */
async function removeNamespace(name: string): Promise<void> {
  for (let tries = 0; tries < KILL_TRIES; tries++) {
    const { stdout } = await run('ip', ['netns', 'pids', name]).catch(() => ({ stdout: '' }));
    const pids = stdout.split('\n').filter((pid) => pid !== '');
    if (pids.length === 0) break;
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, KILL_POLL_MS));
  }
  await run('ip', ['netns', 'del', name]).catch((error: Error) => {
    if (namespaces().includes(name)) throw error;
  });
  rmSync(join(NETNS_ETC, name), { recursive: true, force: true });
}
