import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConfigKey, flagOf } from '../config.ts';
import { blockIsFree, freeBasePort, PORT_STRIDE } from './local-ports.ts';
import { LocalReplica, type ReplicaExit } from './local-replica.ts';

export interface LocalClusterOptions {
  /** Data and logs: DIR/<brokerName>-<replicaId>/ and .log. Used again when it exists. */
  readonly dir: string;
  /** Broker groups, 1 (default) … 9: a, b, c … */
  readonly groups?: number;
  /** Of each broker group: 1, 3 or 5. Default 3. */
  readonly replicas?: number;
  /** Client port of the first replica, the next ones +10 each; 0 (default) takes a free block. */
  readonly basePort?: number;
  /** Settings for all replicas besides identity, ports and directory. */
  readonly settings?: Partial<Readonly<Record<ConfigKey, string | number>>>;
  /** Start a replica again that ended without being asked, after 1, 2, 4 … 30 s. Default false. */
  readonly restart?: boolean;
  readonly onEvent?: (event: ClusterEvent) => void;
}

export type ClusterEvent =
  /** `again`: it had run before. */
  | { readonly event: 'started'; readonly brokerName: string; readonly replicaId: number; readonly pid: number; readonly again: boolean }
  /** `expected`: it was asked to end. */
  | ({
      readonly event: 'exited';
      readonly brokerName: string;
      readonly replicaId: number;
      readonly expected: boolean;
      readonly restartInMs: number | null;
    } & ReplicaExit);

export const LOCAL_HOST = '127.0.0.1';
export const MAX_LOCAL_GROUPS = 9;
/** a, b, c … */
export const localBrokerName = (group: number): string => String.fromCharCode('a'.charCodeAt(0) + group);
const FIRST_GROUP = localBrokerName(0);
const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 25;
const STOP_GRACE_MS = 15_000;
const MAX_PORT_TRIES = 3;
const MAX_RESTART_DELAY_MS = 30_000;
/** A replica that ran this long before it ended is started again without a longer wait. */
const HEALTHY_RUN_MS = 60_000;

/**
 * A cluster whose replicas are processes of this machine: what `dev`, `demo`, `bench` and the end-to-end tests run on.
 * Replicas are named by their broker group, the first one when none is given, and their id in it, 1…N.
 */
export class LocalCluster {
  readonly replicas: readonly LocalReplica[];
  readonly basePort: number;
  readonly dir: string;
  readonly #options: LocalClusterOptions;
  readonly #expectedExits = new Set<LocalReplica>();
  readonly #restartTimers = new Set<NodeJS.Timeout>();
  readonly #restartCounts = new Map<LocalReplica, { count: number; startedMs: number }>();
  #state = 'running' as 'running' | 'stopping';

  private constructor(options: LocalClusterOptions, basePort: number, groups: number, count: number) {
    this.#options = options;
    this.basePort = basePort;
    this.dir = resolve(options.dir);
    // One that is given lets brokers that somebody else starts join.
    const peerSecret = process.env['LEDGERMQ_PEER_SECRET'] || randomBytes(32).toString('hex');
    const portOf = (group: number, at: number): number => basePort + PORT_STRIDE * (group * count + at);
    // One replica of each group is enough to find all others; a group alone needs none.
    const seeds = groups === 1 ? [] : Array.from({ length: groups }, (_, group) => `${LOCAL_HOST}:${portOf(group, 0)}`);
    this.replicas = Array.from({ length: groups * count }, (_, number) => {
      const group = Math.floor(number / count);
      const at = number % count;
      const brokerName = localBrokerName(group);
      const port = portOf(group, at);
      const dataDir = join(this.dir, `${brokerName}-${at + 1}`);
      const replicas = Array.from({ length: count }, (_, each) => `${each + 1}@${LOCAL_HOST}:${portOf(group, each)}`).join(',');
      const identity = { clusterId: 'local', brokerName, replicaId: at + 1, dataDir, host: LOCAL_HOST, port, replicas };
      // Replica r of every group as if on machine r, so that leaders spread as they would there.
      const several = seeds.length === 0 ? {} : { machine: `machine-${at + 1}`, seeds: seeds.join(',') };
      const settings = { ...several, ...options.settings, ...identity };
      const args = Object.entries(settings).flatMap(([key, value]) => [`--${flagOf(key as ConfigKey)}`, String(value)]);
      const env = { LEDGERMQ_PEER_SECRET: peerSecret };
      return new LocalReplica({ brokerName, replicaId: at + 1, host: LOCAL_HOST, port, dataDir, args, env });
    });
  }

  /**
   * Starts all replicas and waits until each is ready. Nothing is left running when it fails.
   * @throws Error saying which replica is not ready, and why
   */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    const count = options.replicas ?? 3;
    if (![1, 3, 5].includes(count)) throw new Error(`${count} replicas: a broker group has 1, 3 or 5`);
    const groups = options.groups ?? 1;
    if (!Number.isInteger(groups) || groups < 1 || groups > MAX_LOCAL_GROUPS)
      throw new Error(`${groups} broker groups: a local cluster has 1 … ${MAX_LOCAL_GROUPS}`);
    const asked = options.basePort ?? 0;
    if (asked !== 0 && !(await blockIsFree(LOCAL_HOST, asked, groups * count))) {
      throw new Error(
        `a port between ${asked} and ${asked + PORT_STRIDE * groups * count} is in use; choose another base port, or 0 for a free block`,
      );
    }
    for (let tries = 1; ; tries++) {
      const cluster = new LocalCluster(options, asked === 0 ? await freeBasePort(LOCAL_HOST, groups * count) : asked, groups, count);
      try {
        for (const replica of cluster.replicas) cluster.#spawn(replica);
        await cluster.waitReady();
        if (groups > 1) await cluster.#waitMet(groups);
        return cluster;
      } catch (error) {
        await cluster.kill();
        // Somebody else took a port between the check and the use.
        const taken = cluster.replicas.some((replica) => replica.logTail().includes('EADDRINUSE'));
        if (!taken || asked !== 0 || tries === MAX_PORT_TRIES) throw error;
      }
    }
  }

  get endpoints(): string[] {
    return this.replicas.map((replica) => replica.endpoint);
  }
  get admin(): string[] {
    return this.replicas.map((replica) => replica.adminUrl);
  }
  get pids(): (number | null)[] {
    return this.replicas.map((replica) => replica.pid);
  }

  /** Of all broker groups. */
  get brokerNames(): string[] {
    return [...new Set(this.replicas.map(({ brokerName }) => brokerName))];
  }

  replica(replicaId: number, brokerName = FIRST_GROUP): LocalReplica {
    const replica = this.replicas.find((each) => each.brokerName === brokerName && each.replicaId === replicaId);
    if (replica === undefined) throw new Error(`no replica ${replicaId} of ${brokerName}`);
    return replica;
  }

  #group(brokerName: string): LocalReplica[] {
    return this.replicas.filter((replica) => replica.brokerName === brokerName);
  }

  /** Id of the replica that says it leads its group with the highest term; null when none does. */
  async leader(brokerName = FIRST_GROUP): Promise<number | null> {
    const answers = await Promise.all(this.#group(brokerName).map((replica) => (replica.running ? replica.status() : null)));
    const leaders = answers
      .filter((answer) => answer !== null && answer['role'] === 'leader')
      .sort((left, right) => Number(right?.['term']) - Number(left?.['term']));
    return leaders.length === 0 ? null : Number(leaders[0]?.['replicaId']);
  }

  /** Waits until a leader answers. @throws Error after `timeoutMs` */
  async waitLeader(brokerName = FIRST_GROUP, timeoutMs = READY_TIMEOUT_MS): Promise<number> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const leader = await this.leader(brokerName);
      if (leader !== null) return leader;
      if (performance.now() > deadlineMs) throw new Error(`no leader of ${brokerName} after ${timeoutMs} ms`);
      await sleep(READY_POLL_MS);
    }
  }

  /** Waits until the replica, or every one, is ready. @throws Error when one ends or is not ready in time, with its reason */
  async waitReady(replicaId?: number, timeoutMs = READY_TIMEOUT_MS, brokerName = FIRST_GROUP): Promise<void> {
    const waiting = replicaId === undefined ? this.replicas : [this.replica(replicaId, brokerName)];
    const deadlineMs = performance.now() + timeoutMs;
    await Promise.all(
      waiting.map(async (replica) => {
        while (!(await replica.isReady())) {
          if (!replica.running && !this.#options.restart) throw new Error(`replica ${nameOf(replica)} ended:\n${replica.logTail()}`);
          if (performance.now() > deadlineMs) {
            throw new Error(`replica ${nameOf(replica)} is not ready after ${timeoutMs} ms:\n${await replica.trouble()}`);
          }
          await sleep(READY_POLL_MS);
        }
      }),
    );
  }

  /** Waits until every replica tells of a leader in each group: a topic that is made now is made on all of them. @throws Error */
  async #waitMet(groups: number): Promise<void> {
    const { AdminSession } = await import('./admin-session.ts');
    const deadlineMs = performance.now() + READY_TIMEOUT_MS;
    await Promise.all(
      this.endpoints.map(async (endpoint) => {
        using session = await AdminSession.connect([endpoint]);
        while ((await session.routeOf(endpoint)).filter(({ leader }) => leader !== 0).length < groups) {
          if (performance.now() > deadlineMs)
            throw new Error(`${endpoint} has not heard of all ${groups} groups after ${READY_TIMEOUT_MS} ms`);
          await sleep(READY_POLL_MS);
        }
      }),
    );
  }

  /** kill -9 of one replica, or of all. It is not started again by itself. */
  async kill(replicaId?: number, brokerName = FIRST_GROUP): Promise<void> {
    if (replicaId === undefined) this.#state = 'stopping';
    await this.#end(replicaId === undefined ? this.replicas : [this.replica(replicaId, brokerName)], 'SIGKILL');
  }

  /** kill -9 of all replicas of a broker group. */
  async killGroup(brokerName: string): Promise<void> {
    await this.#end(this.#group(brokerName), 'SIGKILL');
  }

  /** Starts all replicas of a group that was killed, and waits until they are ready. */
  async restartGroup(brokerName: string, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
    const replicas = this.#group(brokerName);
    for (const replica of replicas) this.#spawn(replica);
    await Promise.all(replicas.map(({ replicaId }) => this.waitReady(replicaId, timeoutMs, brokerName)));
  }

  /** A clean stop (SIGTERM) of one replica. */
  async stopReplica(replicaId: number, brokerName = FIRST_GROUP): Promise<ReplicaExit> {
    const replica = this.replica(replicaId, brokerName);
    await this.#end([replica], 'SIGTERM');
    return replica.lastExit as ReplicaExit;
  }

  /** Starts a replica that was killed or stopped, and waits until it is ready. */
  async restart(replicaId: number, timeoutMs = READY_TIMEOUT_MS, brokerName = FIRST_GROUP): Promise<void> {
    this.#spawn(this.replica(replicaId, brokerName));
    await this.waitReady(replicaId, timeoutMs, brokerName);
  }

  /** Clean stop of all; a replica that does not end within its grace is killed. Calling it again waits for the same end. */
  async stop(): Promise<void> {
    this.#state = 'stopping';
    await this.#end(this.replicas, 'SIGTERM');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #end(replicas: readonly LocalReplica[], signal: NodeJS.Signals): Promise<void> {
    if (this.#state === 'stopping') {
      for (const timer of this.#restartTimers) clearTimeout(timer);
      this.#restartTimers.clear();
    }
    const running = replicas.filter((replica) => replica.running);
    for (const replica of running) this.#expectedExits.add(replica);
    await Promise.all(running.map((replica) => replica.end(signal, STOP_GRACE_MS)));
  }

  #spawn(replica: LocalReplica): void {
    if (this.#state === 'stopping' || replica.running) return;
    this.#expectedExits.delete(replica);
    const again = this.#restartCounts.has(replica);
    const runs = this.#restartCounts.get(replica) ?? { count: 0, startedMs: 0 };
    this.#restartCounts.set(replica, { count: runs.count, startedMs: performance.now() });
    replica.spawn((exit) => this.#onExit(replica, exit));
    const { brokerName, replicaId } = replica;
    this.#options.onEvent?.({ event: 'started', brokerName, replicaId, pid: replica.pid ?? 0, again });
  }

  #onExit(replica: LocalReplica, exit: ReplicaExit): void {
    const expected = this.#state === 'stopping' || this.#expectedExits.has(replica);
    const restartInMs = expected || !this.#options.restart ? null : this.#restartDelayMs(replica);
    const { brokerName, replicaId } = replica;
    this.#options.onEvent?.({ event: 'exited', brokerName, replicaId, expected, restartInMs, ...exit });
    if (restartInMs === null) return;
    const timer = setTimeout(() => {
      this.#restartTimers.delete(timer);
      this.#spawn(replica);
    }, restartInMs);
    this.#restartTimers.add(timer);
  }

  #restartDelayMs(replica: LocalReplica): number {
    const runs = this.#restartCounts.get(replica) ?? { count: 0, startedMs: 0 };
    const count = performance.now() - runs.startedMs > HEALTHY_RUN_MS ? 1 : runs.count + 1;
    this.#restartCounts.set(replica, { ...runs, count });
    return Math.min(MAX_RESTART_DELAY_MS, 1000 * 2 ** (count - 1));
  }
}

/** a-1, as its directory is called. */
function nameOf({ brokerName, replicaId }: LocalReplica): string {
  return `${brokerName}-${replicaId}`;
}
