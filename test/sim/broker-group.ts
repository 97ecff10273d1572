import { NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { type BrokerConfig, type ReplicaAddress, resolveConfig } from '../../src/config.ts';
import { DiskError, isOutOfSpace } from '../../src/io/disk.ts';
import type { Io } from '../../src/io/io.ts';
import type { Quota, TopicDescription } from '../../src/protocol/requests.ts';
import type { BrokerHandle, StartBroker } from './broker-hook.ts';
import { Violation } from './checkers/violation.ts';
import type { SimDisk } from './disk.ts';
import { GroupOperator } from './group-operator.ts';
import type { GroupReferee } from './group-referee.ts';
import { committedBytes } from './log-image.ts';
import type { Prng } from './prng.ts';
import type { Death, SimProcess } from './process.ts';
import { Rot } from './rot.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';
import type { Verdict } from './verdict.ts';

export const CLIENT_PORT = 7460;
export const DATA_DIR = '/data';
const KIB = 1024;
const MIB = 1024 * KIB;
const SUPERVISOR_RESTARTS_US = 500_000;
const OPERATOR_RESTARTS_US = 1_000_000;

export interface SimReplica {
  readonly id: number;
  readonly process: SimProcess;
  config: BrokerConfig;
  handle: BrokerHandle | null;
  /** An operator adds it: the others need not know of it yet, so its copies help nobody (simulation seed 1373). */
  joining: boolean;
  /** An operator removes it, or has; its process goes on for a while. */
  leaving: boolean;
  /** Removed and switched off for good. */
  retired: boolean;
}

/** What a group asks of the world around it. */
export interface GroupPorts {
  readonly scheduler: SimScheduler;
  readonly prng: Prng;
  /** Of its own: a run without changes is the same run as ever. */
  readonly operatorPrng: Prng;
  readonly referee: GroupReferee;
  readonly startBroker: StartBroker;
  makeProcess(name: string): SimProcess;
  makeDisk(name: string): SimDisk;
  /** Client addresses by which gossip finds the other groups: HOST:PORT, comma-separated. */
  readonly seeds: string;
}

/** Replicas of one broker group on machines of their own, each under a supervisor that starts it again. */
export class BrokerGroup {
  readonly brokerName: string;
  readonly replicas: SimReplica[] = [];
  readonly referee: GroupReferee;
  readonly rot: Rot;
  readonly #scheduler: SimScheduler;
  readonly #prng: Prng;
  readonly #startBroker: StartBroker;
  readonly #ports: GroupPorts;
  readonly #sizes: Partial<BrokerConfig>;
  readonly operator: GroupOperator;
  /** Replicas that began anew, because what lay in their directories could not be relied upon. */
  setAsides = 0;

  constructor(brokerName: string, size: number, ports: GroupPorts) {
    this.brokerName = brokerName;
    this.referee = ports.referee;
    this.#scheduler = ports.scheduler;
    this.#prng = ports.prng;
    this.#startBroker = ports.startBroker;
    this.#ports = ports;
    this.#sizes = this.#drawSizes();
    this.rot = new Rot(ports.prng, this.replicas, ports.referee, (this.#sizes.retentionBytes ?? 0) > 0);
    this.operator = new GroupOperator(this, ports.operatorPrng, ports.scheduler);
    const addresses = Array.from({ length: size }, (_, at) => {
      return { replicaId: at + 1, host: `${brokerName}${at + 1}`, port: CLIENT_PORT };
    });
    for (const address of addresses) this.#add(address, addresses);
  }

  /** Before it starts: settings of all its replicas. */
  configure(more: Partial<BrokerConfig>): void {
    Object.assign(this.#sizes, more);
    for (const replica of this.replicas) replica.config = { ...replica.config, ...more };
  }

  /** Without those who leave or have left. */
  get members(): SimReplica[] {
    return this.replicas.filter(({ leaving }) => !leaving);
  }

  get endpoints(): string[] {
    return this.endpointsOf(this.members);
  }

  /** @param among replicas of any group */
  endpointsOf(among: readonly SimReplica[]): string[] {
    return this.members.filter((one) => among.includes(one)).map(({ process }) => `ws://${process.name}:${CLIENT_PORT}`);
  }

  get terms(): number {
    return this.referee.leaders.terms;
  }

  /** What needs the newest level is refused until every replica has said what its release knows. */
  get isRaised(): boolean {
    return this.replicas.some(({ handle }) => handle?.featureLevel() === NEWEST_FEATURE_LEVEL);
  }

  get leader(): SimReplica | undefined {
    const leading = this.replicas.filter(({ handle, process }) => !process.paused && handle?.status()?.role === 'leader');
    const termOf = ({ handle }: SimReplica): number => handle?.status()?.term ?? 0;
    return leading.reduce<SimReplica | undefined>(
      (best, one) => (best === undefined || termOf(one) > termOf(best) ? one : best),
      undefined,
    );
  }

  of(process: SimProcess): SimReplica | undefined {
    return this.replicas.find((replica) => replica.process === process);
  }

  // ---- processes -----------------------------------------------------------------------------------------------------------

  start(replica: SimReplica): void {
    if (replica.process.alive || replica.retired) return;
    this.#scheduler.say(replica.process.name, 'starts');
    this.referee.progress.restarted(replica.id, this.referee.probe.durableTerm(replica.id).term);
    replica.process.start((io) => void this.#run(replica, io));
  }

  kill(replica: SimReplica, death: Death): void {
    replica.handle = null;
    replica.process.kill(death);
  }

  async #run(replica: SimReplica, io: Io): Promise<void> {
    const { process } = replica;
    const life = process.life;
    const ended = (error: unknown): void => {
      if (process.life === life) this.#ended(replica, error);
    };
    try {
      const handle = await this.#startBroker(io, replica.config, ended, (name, fields) => {
        this.#scheduler.say(process.name, `${name} ${JSON.stringify(fields)}`);
        if (name === 'directory set aside') this.#setAside(replica);
        else if (name === 'derived file damaged') this.#damageFound(replica, fields);
      });
      if (process.life === life) replica.handle = handle;
    } catch (error) {
      if (causedByDisk(error)) ended(error);
      else this.#scheduler.fail(error);
    }
  }

  /** The process ends by itself, as a poisoned store does; its supervisor starts it again. */
  #ended(replica: SimReplica, error: unknown): void {
    this.#scheduler.say(replica.process.name, `ends: ${String(error)}`);
    // A full disk is a reason to refuse writes, and may be one not to start; never one to end (FAULTS 3).
    if (!causedByDisk(error) || (replica.handle !== null && causedBy(error, isOutOfSpace))) {
      this.#scheduler.fail(error);
      return;
    }
    this.kill(replica, 'kill');
    this.#scheduler.schedule(null, SUPERVISOR_RESTARTS_US, EventKind.world, () => this.start(replica));
  }

  /** A machine for a replica that is to be added: a new one, or that of one that left, with an empty disk or its old one. */
  provide(id: number, keepsDisk: boolean): SimReplica {
    const before = this.replicas.find((replica) => replica.id === id);
    const address = { replicaId: id, host: `${this.brokerName}${id}`, port: CLIENT_PORT };
    const addresses = [...this.members.map(({ config: { replicaId, host, port } }) => ({ replicaId, host, port })), address];
    if (before === undefined) return this.#add(address, addresses);
    this.kill(before, 'kill');
    // Old data may name the replicas that formed the group, and is refused by who does not know their addresses.
    const former = before.config.replicas.filter(({ replicaId }) => !addresses.some((one) => one.replicaId === replicaId));
    before.config = this.#configOf(address, keepsDisk ? [...addresses, ...former] : addresses);
    before.leaving = false;
    before.retired = false;
    if (!keepsDisk) this.#newDisk(before);
    return before;
  }

  /** The machine comes back with a new disk, and a configuration that names the members of today. */
  empty(replica: SimReplica): void {
    const { replicaId, host, port } = replica.config;
    this.kill(replica, 'kill');
    const others = this.members.filter((other) => other !== replica).map(({ config }) => config);
    this.#newDisk(replica);
    replica.config = this.#configOf(
      { replicaId, host, port },
      [...others, replica.config].map((config) => ({ replicaId: config.replicaId, host: config.host, port: config.port })),
    );
    this.#scheduler.schedule(null, this.#prng.between(0, 2000) * 1000, EventKind.world, () => this.start(replica));
  }

  #setAside({ id }: SimReplica): void {
    this.rot.forget(id);
    this.referee.setAside(id);
    this.referee.progress.restarted(id, 0);
    this.setAsides++;
  }

  /** An operator starts it again: that is when it builds the file anew. What nobody has damaged is not to be found damaged. */
  #damageFound(replica: SimReplica, found: object): void {
    if (this.rot.derived.possible(replica.process.disk) === null) {
      this.#scheduler.fail(
        new Violation('no damage', `replica ${replica.id} finds ${JSON.stringify(found)}, and nothing was damaged there`),
      );
      return;
    }
    const { life } = replica.process;
    this.#scheduler.schedule(null, OPERATOR_RESTARTS_US, EventKind.world, () => {
      if (replica.process.alive && replica.process.life === life) this.#startAgain(replica);
    });
  }

  #startAgain(replica: SimReplica): void {
    this.kill(replica, 'kill');
    this.start(replica);
  }

  /** Those of whose derived files something is still damaged: a start finds it. */
  startDamaged(): void {
    for (const replica of this.members) if (this.rot.derived.possible(replica.process.disk) !== null) this.#startAgain(replica);
  }

  /** Where a member's derived file is damaged although it was started again; null: nowhere. */
  notBuiltAnew(): string | null {
    for (const { process } of this.members) {
      const left = this.rot.derived.certain(process.disk);
      if (left !== null) return `${process.name}: ${left}`;
    }
    return null;
  }

  #newDisk(replica: SimReplica): void {
    const { name } = replica.process;
    this.rot.forget(replica.id);
    replica.process.replaceDisk(this.#ports.makeDisk(name));
    this.referee.watch(replica.id, replica.process);
  }

  /** Removed for good, and switched off. */
  retire(replica: SimReplica): void {
    this.kill(replica, 'kill');
    replica.retired = true;
  }

  transfer(): void {
    const target = this.#prng.pick(this.members).id;
    this.leader?.handle?.transfer(target).catch(() => {});
  }

  // ---- what the world sees of it ---------------------------------------------------------------------------------------

  watchStatus(): void {
    for (const { handle, process } of this.replicas) {
      const status = process.paused ? null : (handle?.status() ?? null);
      if (status !== null) this.referee.saw(status);
    }
  }

  /** First retained offset, as the replica knows that has applied most. */
  minOffset(topic: string, queueId: number): number {
    return Math.max(...this.replicas.map(({ handle }) => handle?.minOffset(topic, queueId) ?? 0));
  }

  /** Why its replicas are not all equally far; null when they are. */
  notConverged(): string | null {
    const unsettled = this.operator.unfinished();
    if (unsettled !== null) return unsettled;
    const views = this.members.map(({ handle }) => handle?.status());
    const [first] = views;
    if (first === undefined || first === null || views.some((view) => view === undefined || view === null))
      return `a replica of ${this.brokerName} is not running`;
    const same = views.every(
      // On the own disk too: one that stands still has an older tail in its file, which is not there to be compared yet.
      (view) =>
        view?.appliedIndex === first.appliedIndex &&
        view.commitIndex === first.appliedIndex &&
        view.lastIndex === first.lastIndex &&
        view.durableIndex === first.lastIndex,
    );
    return same && first.lastIndex === first.appliedIndex ? null : `replicas of ${this.brokerName} are not equally far`;
  }

  /** After it has converged: one state, and the same bytes on every disk. */
  checkEqual(verdict: Verdict): void {
    const digests = new Set(this.members.map(({ handle }) => handle?.status()?.stateDigest));
    if (digests.size > 1) throw new Violation('state differs', `${this.brokerName}: digests ${[...digests].join(' ')} at the end`);
    this.topics();
    this.quotas();
    verdict.stored(this.members.map(({ id, process }) => ({ replicaId: id, ...committedBytes(process.disk, `${DATA_DIR}/commitlog`) })));
  }

  /** After it has converged: the topics that users made, as every replica describes them. */
  topics(): readonly TopicDescription[] {
    return this.#same('topics', (handle) => handle.topics());
  }

  quotas(): readonly Quota[] {
    return this.#same('quotas', (handle) => handle.quotas());
  }

  #same<T>(what: string, ask: (handle: BrokerHandle) => readonly T[]): readonly T[] {
    const [first, ...others] = this.members.map(({ id, handle }) => ({ id, found: handle === null ? [] : ask(handle) }));
    const said = JSON.stringify(first?.found);
    for (const { id, found } of others) {
      const other = JSON.stringify(found);
      if (other !== said)
        throw new Violation('state differs', `${this.brokerName}: ${what} are ${said} at replica ${first?.id}, ${other} at ${id}`);
    }
    return first?.found ?? [];
  }

  // ---- configuration ---------------------------------------------------------------------------------------------------

  /** Below what a user may set, so that snapshots, new segments and cuts come within seconds; a producer's batch fits (seed 2349). */
  #drawSizes(): Partial<BrokerConfig> {
    const prng = this.#prng;
    const small = prng.chance(0.3);
    return {
      ...(small ? { segmentBytes: prng.pick([320, 512]) * KIB, retentionBytes: prng.pick([0, 512 * KIB, MIB, 4 * MIB]) } : {}),
      snapshotIntervalBytes: prng.pick([64 * KIB, 512 * KIB, 16 * MIB]),
    };
  }

  #add(address: ReplicaAddress, replicas: readonly ReplicaAddress[]): SimReplica {
    const process = this.#ports.makeProcess(address.host);
    const config = this.#configOf(address, replicas);
    const replica: SimReplica = { id: address.replicaId, process, config, handle: null, joining: false, leaving: false, retired: false };
    this.replicas.push(replica);
    this.referee.watch(address.replicaId, process);
    return replica;
  }

  #configOf(address: ReplicaAddress, replicas: readonly ReplicaAddress[]): BrokerConfig {
    const resolved = resolveConfig({
      flags: {
        ...address,
        brokerName: this.brokerName,
        replicas,
        dataDir: DATA_DIR,
        seeds: this.#ports.seeds,
        segmentBytes: 16 * MIB,
        snapshotIntervalBytes: 16 * MIB,
        hotTailBytes: 16 * MIB,
        logLevel: 'silent',
      },
    });
    return { ...resolved, ...this.#sizes };
  }
}

const causedByDisk = (error: unknown): boolean => causedBy(error, (cause) => cause instanceof DiskError);

function causedBy(error: unknown, is: (cause: unknown) => boolean): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (is(cause)) return true;
  return false;
}
