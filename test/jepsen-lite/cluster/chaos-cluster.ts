import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RaftStatus } from '../../../src/protocol/raft-requests.ts';
import { HostsUnavailable, type NetHost, NetHosts } from '../../support/net-hosts.ts';
import { compileRelay } from '../relay/relay.ts';
import { compileShim, Shim } from '../shim/shim.ts';
import { Volumes } from '../volumes.ts';
import { Prober } from './prober.ts';
import { BROKER_NAME, ChaosReplica, type ReplicaExit } from './replica.ts';

const MIB = 1024 * 1024;
const VOLUME_BYTES = 1536 * MIB;
/** Small, so that segments are rolled over, snapshots taken and logs cut within minutes, and memory bounds the run. */
const SETTINGS = {
  'cluster-id': 'chaos',
  'segment-bytes': 16 * MIB,
  'snapshot-interval-bytes': 32 * MIB,
  // Two minutes at least: what is cut before a consumer that was away has read it proves nothing.
  'retention-bytes': 512 * MIB,
  'hot-tail-bytes': 16 * MIB,
};
/** 1…3 form the group; 4 is there for changes of membership. */
export const MEMBERS: readonly number[] = [1, 2, 3];
export const SPARE = 4;
const CLIENT_HOSTS = 2;
const PROGRAM = join(import.meta.dirname, '../../../src/cli/main.ts');
const FAKETIME_LIBRARIES = ['x86_64', 'aarch64'].map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketimeMT.so.1`);
const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
/** What a supervisor waits before it starts a process again that ended by itself. */
const RESTART_MS = 500;

export interface ClusterTools {
  /** Disk faults and losses of power. */
  readonly shim: boolean;
  readonly clock: boolean;
  /** Delay and reorder. */
  readonly relay: boolean;
}

/** Ended though no fault was at it. */
export interface UnexpectedExit extends ReplicaExit {
  readonly replica: string;
}

/** Three replicas, a spare one, clients and an operator, each a host of its own. */
export class ChaosCluster {
  readonly hosts: NetHosts;
  readonly volumes: Volumes;
  readonly clients: readonly NetHost[];
  /** null: not asked for. */
  readonly relayProgram: string | null;
  readonly unexpectedExits: UnexpectedExit[] = [];
  readonly #replicas: ReadonlyMap<number, ChaosReplica>;
  readonly #operator: NetHost;
  readonly #prober: Prober;
  readonly #restarts = new Set<NodeJS.Timeout>();
  #destroyed: Promise<void> | null = null;

  private constructor(parts: {
    hosts: NetHosts;
    volumes: Volumes;
    clients: readonly NetHost[];
    operator: NetHost;
    replicas: ReadonlyMap<number, ChaosReplica>;
    relayProgram: string | null;
  }) {
    this.hosts = parts.hosts;
    this.volumes = parts.volumes;
    this.clients = parts.clients;
    this.relayProgram = parts.relayProgram;
    this.#operator = parts.operator;
    this.#replicas = parts.replicas;
    this.#prober = new Prober(parts.hosts, parts.operator);
    for (const replica of parts.replicas.values()) replica.onExit = (exit) => this.#ended(replica, exit);
  }

  /** Makes hosts and volumes; no replica runs yet. @throws HostsUnavailable for a tool or right that is missing */
  static async create(logs: string, tools: ClusterTools): Promise<ChaosCluster> {
    const library = FAKETIME_LIBRARIES.find((path) => existsSync(path));
    if (tools.clock && library === undefined) throw new HostsUnavailable('no libfaketime: install it, or leave the fault `clock` out');
    mkdirSync(logs, { recursive: true });
    const hosts = await NetHosts.create();
    const volumes = await Volumes.create();
    try {
      const env = { LEDGERMQ_PEER_SECRET: randomBytes(16).toString('hex') };
      const shimLibrary = tools.shim ? await compileShim(volumes.directory) : null;
      const replicas = new Map<number, ChaosReplica>();
      for (const id of [...MEMBERS, SPARE]) {
        const name = `n${id}`;
        const volume = await volumes.add(name, VOLUME_BYTES);
        const shim = shimLibrary === null ? null : new Shim(volumes.directory, name, shimLibrary, volume.path);
        const clock = tools.clock && library !== undefined ? { file: join(volumes.directory, `${name}.clock`), library } : null;
        const host = await hosts.add(name);
        replicas.set(
          id,
          new ChaosReplica({ id, hosts, host, volume, shim, clock, logFile: join(logs, `${name}.log`), settings: SETTINGS, env }),
        );
      }
      const clients: NetHost[] = [];
      for (let at = 1; at <= CLIENT_HOSTS; at++) clients.push(await hosts.add(`c${at}`));
      const operator = await hosts.add('operator');
      const relayProgram = tools.relay ? await compileRelay(volumes.directory) : null;
      return new ChaosCluster({ hosts, volumes, clients, operator, replicas, relayProgram });
    } catch (error) {
      await hosts.destroy();
      await volumes.destroy();
      throw error;
    }
  }

  /** The three that form the group. */
  get members(): readonly ChaosReplica[] {
    return MEMBERS.map((id) => this.replica(id));
  }
  get endpoints(): readonly string[] {
    return this.members.map(({ endpoint }) => endpoint);
  }

  replica(id: number): ChaosReplica {
    const found = this.#replicas.get(id);
    if (found === undefined) throw new Error(`no replica ${id}`);
    return found;
  }

  /** Starts all three and waits until each is ready. @throws Error */
  async start(): Promise<void> {
    this.startAll();
    const trouble = await this.waitRecovered(READY_TIMEOUT_MS);
    if (trouble !== null) throw new Error(`the replicas did not get ready: ${trouble}`);
  }

  /** Whatever was held down. */
  startAll(): void {
    for (const replica of this.members) replica.start(MEMBERS);
  }

  async status(replica: ChaosReplica): Promise<RaftStatus | null> {
    if (replica.pid === null) return null;
    const { status, text } = await this.#prober.ask(`${replica.adminUrl}/api/status`);
    return status === 200 ? (JSON.parse(text) as RaftStatus) : null;
  }

  /** Waits until it answers at the address that its host has now. @returns false after `timeoutMs` */
  async answers(replica: ChaosReplica, timeoutMs: number): Promise<boolean> {
    const deadlineMs = performance.now() + timeoutMs;
    while ((await this.status(replica)) === null) {
      if (performance.now() > deadlineMs) return false;
      await sleep(POLL_MS);
    }
    return true;
  }

  /** ms that the replica's wall clock is ahead of ours, in whole seconds' precision; null when it does not answer. */
  async clockAheadMs(replica: ChaosReplica): Promise<number | null> {
    const { date } = await this.#prober.ask(`${replica.adminUrl}/livez`);
    return date === '' ? null : Date.parse(date) - Date.now();
  }

  /** Who says that it leads, in the highest term. */
  async leader(): Promise<number | null> {
    const found = await Promise.all(
      [...this.#replicas.values()].map(async (replica) => ({ id: replica.id, status: await this.status(replica) })),
    );
    const leaders = found.filter(({ status }) => status?.role === 'leader');
    return leaders.sort((left, right) => (right.status?.term ?? 0) - (left.status?.term ?? 0))[0]?.id ?? null;
  }

  /**
   * Waits until all three run, are ready, vote, and hold what was committed when the last of them came up.
   * @returns null, or what is not so after `timeoutMs`
   */
  async waitRecovered(timeoutMs: number, stop?: AbortSignal): Promise<string | null> {
    const deadlineMs = performance.now() + timeoutMs;
    let wanted: number | null = null;
    for (;;) {
      const found = await Promise.all(this.members.map((replica) => this.status(replica)));
      const statuses = found.filter((status) => status !== null);
      const voters = statuses.find(({ role }) => role === 'leader')?.voters ?? [];
      if (statuses.length === MEMBERS.length && voters.join() === MEMBERS.join()) {
        wanted ??= Math.max(...statuses.map(({ commitIndex }) => commitIndex));
        const behind = statuses.some(({ appliedIndex, durableIndex }) => Math.min(appliedIndex, durableIndex) < (wanted as number));
        if (!behind && (await this.#allReady())) return null;
      }
      if (stop?.aborted) return 'interrupted';
      if (performance.now() > deadlineMs) return this.#troubleOf(found, wanted);
      await sleep(POLL_MS);
    }
  }

  async #allReady(): Promise<boolean> {
    const answers = await Promise.all(this.members.map(({ adminUrl }) => this.#prober.ask(`${adminUrl}/readyz`)));
    return answers.every(({ status }) => status === 200);
  }

  async #troubleOf(found: readonly (RaftStatus | null)[], wanted: number | null): Promise<string> {
    const texts = this.members.map(async (replica, at) => {
      const status = found[at] ?? null;
      if (status === null)
        return `${replica.name} does not answer (${replica.pid === null ? 'not running' : `process state ${replica.processState()}`})`;
      const { role, term, voters = [], commitIndex, appliedIndex, durableIndex } = status;
      const ready = await this.#prober.ask(`${replica.adminUrl}/readyz`);
      const state = `${role} in term ${term}, voters ${voters.join()}, committed ${commitIndex}, applied ${appliedIndex}, durable ${durableIndex}`;
      return `${replica.name} is ${state}${ready.status === 200 ? '' : `, not ready: ${ready.text.trim()}`}`;
    });
    return `${(await Promise.all(texts)).join('; ')}; wanted up to ${wanted}`;
  }

  /** Runs `ledgermq` at the operator's. @returns its output. @throws Error with what it said unless it exits with 0 */
  cli(args: readonly string[], timeoutMs: number): Promise<string> {
    return this.hosts.run(this.#operator, process.execPath, [PROGRAM, ...args, '--endpoint', this.endpoints.join(',')], timeoutMs);
  }

  /** `raft add` or `raft remove`, until it is done or the time is over. @throws Error */
  changeMembers(change: 'add' | 'remove', replica: ChaosReplica, timeoutMs: number): Promise<string> {
    const who = change === 'add' ? `${replica.id}@${new URL(replica.endpoint).host}` : String(replica.id);
    const seconds = String(Math.max(1, Math.floor(timeoutMs / 1000)));
    return this.cli(['raft', change, BROKER_NAME, who, '--timeout', seconds, '--json'], timeoutMs + 10_000);
  }

  /** Ends all that runs in the hosts, and removes all of it. Again is fine. */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    for (const timer of this.#restarts) clearTimeout(timer);
    this.#prober.end();
    await this.hosts.destroy();
    for (const { shim } of this.#replicas.values()) shim?.close();
    await this.volumes.destroy();
  }

  #ended(replica: ChaosReplica, exit: ReplicaExit): void {
    if (this.#destroyed !== null || replica.held) return;
    this.unexpectedExits.push({ replica: replica.name, ...exit });
    const timer = setTimeout(() => {
      this.#restarts.delete(timer);
      if (!replica.held && this.#destroyed === null) replica.start(MEMBERS);
    }, RESTART_MS);
    this.#restarts.add(timer);
  }
}
