import { type BrokerConfig, resolveConfig } from '../../src/config.ts';
import { DiskError, isOutOfSpace } from '../../src/io/disk.ts';
import type { Io } from '../../src/io/io.ts';
import type { RaftStatus } from '../../src/protocol/requests.ts';
import { ACTORS, type ActorKind, QUEUES, QUICK_TOPIC, type Stage, TOPIC } from './actors.ts';
import type { BrokerHandle, StartBroker } from './broker-hook.ts';
import { checkDuplicated } from './checkers/duplicated.ts';
import { checkIdentical } from './checkers/identical.ts';
import { type Acked, checkLost } from './checkers/lost.ts';
import { checkOffsetGap } from './checkers/offset-gap.ts';
import { checkReordered } from './checkers/reordered.ts';
import { type FinalLog, Violation } from './checkers/violation.ts';
import { SimDisk } from './disk.ts';
import { FaultInjector } from './fault-injector.ts';
import { describePlan, drawFaultPlan, type FaultKind, type FaultPlan } from './fault-plan.ts';
import { pullAll } from './final-log.ts';
import { committedBytes } from './log-image.ts';
import { SimNet } from './net.ts';
import type { Prng } from './prng.ts';
import { type Death, SimProcess } from './process.ts';
import { Referee } from './referee.ts';
import { EventKind, SimScheduler } from './scheduler.ts';
import type { TraceSink } from './trace.ts';
import { WireClient } from './wire-client.ts';

const CLIENT_PORT = 7460;
const DATA_DIR = '/data';
const KIB = 1024;
const MIB = 1024 * KIB;
const STATUS_INTERVAL_MS = 10;
/** Longest delivery timeout, and 30 simulated seconds (FAULTS 24). */
const LIVENESS_MS = 60_000;
const CONVERGENCE_MS = 30_000;
const SETTLE_MS = 1_000;

export interface RunOptions {
  readonly seed: number;
  readonly startBroker: StartBroker;
  readonly sink?: TraceSink;
  /** On in any case, besides what the seed draws. */
  readonly faults?: readonly FaultKind[];
}

export interface RunResult {
  readonly seed: number;
  readonly traceHash: string;
  readonly events: number;
  readonly faults: number;
  readonly acked: number;
  readonly handled: number;
  readonly terms: number;
  readonly simulatedMs: number;
}

interface Replica {
  readonly id: number;
  readonly process: SimProcess;
  readonly config: BrokerConfig;
  handle: BrokerHandle | null;
}

/** One run: a broker group, its clients, what goes wrong, and what must hold all the same. */
export class World {
  readonly #scheduler: SimScheduler;
  readonly #net: SimNet;
  readonly #referee: Referee;
  readonly #prng: Prng;
  readonly #startBroker: StartBroker;
  readonly #replicas: Replica[] = [];
  readonly #clients = new Map<SimProcess, ActorKind>();
  /** Unsettled sends of each client's present life. */
  readonly #pending = new Map<SimProcess, { sends: number }>();
  readonly #plan: FaultPlan;
  readonly #injector: FaultInjector;
  readonly #seed: number;
  readonly #stage: { -readonly [K in keyof Stage]: Stage[K] };
  /** So many of what was acknowledged are known to be consumed. */
  #consumed = 0;
  #nextProcess = 1;

  constructor(options: RunOptions) {
    this.#seed = options.seed;
    this.#startBroker = options.startBroker;
    this.#scheduler = new SimScheduler(options.seed, options.sink ?? null);
    this.#net = new SimNet(this.#scheduler);
    this.#referee = new Referee(this.#scheduler, this.#net);
    this.#prng = this.#scheduler.prng.fork();
    this.#plan = drawFaultPlan(this.#prng, options.faults);
    this.#makeReplicas(this.#prng.pick([3, 3, 3, 3, 3, 5, 1]));
    let producers = 1;
    this.#stage = {
      endpoints: this.#replicas.map(({ process }) => `ws://${process.name}:${CLIENT_PORT}`),
      referee: this.#referee,
      open: true,
      nextProducer: () => producers++,
      begin: () => () => {},
    };
    this.#makeClients();
    this.#injector = new FaultInjector(this.#scheduler, this.#net, this.#plan, {
      replicas: this.#replicas.map(({ process }) => process),
      clients: [...this.#clients.keys()],
      kill: (victim, death) => this.#kill(victim, death),
      start: (victim) => this.#start(victim),
      transfer: () => this.#transfer(),
    });
  }

  async run(): Promise<RunResult> {
    this.#scheduler.say('world', `seed ${this.#seed}, ${this.#replicas.length} replicas, faults: ${describePlan(this.#plan)}`);
    for (const { process } of this.#replicas) this.#start(process);
    for (const process of this.#clients.keys()) this.#start(process);
    this.#watchStatus();
    // Mostly after the group is formed; sometimes into the middle of it.
    this.#scheduler.schedule(null, this.#prng.pick([0, 1_000, 2_000]) * 1000, EventKind.fault, () => this.#injector.start());
    await this.#scheduler.run(this.#prng.between(8, 20) * 1_000_000);
    await this.#liveness();
    await this.#convergence();
    await this.#judge();
    return {
      seed: this.#seed,
      traceHash: this.#scheduler.trace.hash(),
      events: this.#scheduler.trace.events,
      faults: this.#injector.count,
      acked: this.#referee.acked.length,
      handled: this.#referee.handled.size,
      terms: this.#referee.leaders.terms,
      simulatedMs: Math.round(this.#scheduler.nowUs / 1000),
    };
  }

  // ---- processes -----------------------------------------------------------------------------------------------------------

  #makeReplicas(count: number): void {
    const small = this.#prng.chance(0.3);
    const sizes = small ? { segmentBytes: 512 * KIB, retentionBytes: this.#prng.pick([0, MIB, MIB, 4 * MIB]) } : {};
    const replicas = Array.from({ length: count }, (_, at) => ({ replicaId: at + 1, host: `r${at + 1}`, port: CLIENT_PORT }));
    for (const { replicaId, host } of replicas) {
      const process = this.#process(host);
      const resolved = resolveConfig({
        flags: {
          replicaId,
          host,
          port: CLIENT_PORT,
          replicas,
          dataDir: DATA_DIR,
          segmentBytes: 16 * MIB,
          snapshotIntervalBytes: 16 * MIB,
          hotTailBytes: 16 * MIB,
          logLevel: 'silent',
        },
      });
      // Below what a user may set, so that snapshots, new segments and cuts come within seconds.
      const config = { ...resolved, ...sizes, snapshotIntervalBytes: this.#prng.pick([64 * KIB, 512 * KIB, 16 * MIB]) };
      this.#replicas.push({ id: replicaId, process, config, handle: null });
      this.#referee.replica(replicaId, process);
    }
  }

  #makeClients(): void {
    const kinds: ActorKind[] = ['admin', 'reader', 'offset', 'operator'];
    for (let i = this.#prng.between(1, 3); i > 0; i--) kinds.push('producer');
    for (let i = this.#prng.between(1, 3); i > 0; i--) kinds.push('consumer');
    kinds.forEach((kind, at) => {
      this.#clients.set(this.#process(`c${at + 1}`), kind);
    });
  }

  #process(name: string): SimProcess {
    const disk = new SimDisk(name, this.#scheduler);
    return new SimProcess(this.#nextProcess++, name, this.#scheduler, this.#net, disk, (process, error) => this.#crashed(process, error));
  }

  #start(process: SimProcess): void {
    if (process.alive) return;
    this.#scheduler.say(process.name, 'starts');
    const replica = this.#replicas.find((other) => other.process === process);
    if (replica === undefined) {
      const act = ACTORS[this.#clients.get(process) as ActorKind];
      const pending = { sends: 0 };
      this.#pending.set(process, pending);
      const begin = (): (() => void) => {
        pending.sends++;
        return () => pending.sends--;
      };
      const stage = Object.create(this.#stage, { begin: { value: begin } }) as Stage;
      process.start((io) => void act(io, stage).catch((error: unknown) => this.#crashed(process, error)));
      return;
    }
    this.#referee.progress.restarted(replica.id, this.#referee.probe.durableTerm(replica.id).term);
    process.start((io) => void this.#startReplica(replica, io));
  }

  async #startReplica(replica: Replica, io: Io): Promise<void> {
    const { process } = replica;
    const life = process.life;
    const ended = (error: unknown): void => {
      if (process.life === life) this.#ended(replica, error);
    };
    try {
      const handle = await this.#startBroker(io, replica.config, ended, (name, fields) =>
        this.#scheduler.say(process.name, `${name} ${JSON.stringify(fields)}`),
      );
      if (process.life === life) replica.handle = handle;
    } catch (error) {
      if (causedByDisk(error)) ended(error);
      else this.#scheduler.fail(error);
    }
  }

  /** The process ends by itself, as a poisoned store does; its supervisor starts it again. */
  #ended(replica: Replica, error: unknown): void {
    this.#scheduler.say(replica.process.name, `ends: ${String(error)}`);
    // A full disk is a reason to refuse writes, and may be one not to start; never one to end (FAULTS 3).
    if (!causedByDisk(error) || (replica.handle !== null && causedBy(error, isOutOfSpace))) {
      this.#scheduler.fail(error);
      return;
    }
    this.#kill(replica.process, 'kill');
    this.#scheduler.schedule(null, 500_000, EventKind.world, () => this.#start(replica.process));
  }

  #crashed(process: SimProcess, error: unknown): void {
    this.#scheduler.say(process.name, `crashed: ${error instanceof Error ? error.stack : String(error)}`);
    this.#scheduler.fail(error);
  }

  #kill(process: SimProcess, death: Death): void {
    if (!process.alive) return;
    const replica = this.#replicas.find((other) => other.process === process);
    if (replica !== undefined) replica.handle = null;
    else this.#pending.delete(process);
    process.kill(death);
  }

  #transfer(): void {
    const leader = this.#replicas.find(({ handle }) => handle?.status()?.role === 'leader');
    const target = this.#prng.pick(this.#replicas).id;
    if (leader === undefined || leader.process.paused) return;
    leader.handle?.transfer(target).catch(() => {});
  }

  #watchStatus(): void {
    this.#scheduler.schedule(null, STATUS_INTERVAL_MS * 1000, EventKind.world, () => {
      for (const { handle, process } of this.#replicas) if (!process.paused) this.#sawStatus(handle?.status() ?? null);
      this.#watchStatus();
    });
  }

  #sawStatus(status: RaftStatus | null): void {
    if (status !== null) this.#referee.saw(status);
  }

  // ---- phases --------------------------------------------------------------------------------------------------------------

  /** A random majority is healed, everything else stays as broken as it is; whatever is pending must end. */
  async #liveness(): Promise<void> {
    this.#injector.stop();
    const size = this.#prng.chance(0.5) ? this.#replicas.length : Math.floor(this.#replicas.length / 2) + 1;
    const healed = this.#prng.shuffle(this.#replicas).slice(0, size);
    this.#scheduler.say('world', `liveness: healed ${healed.map(({ process }) => process.name).join(' ')}`);
    for (const left of this.#replicas) if (!healed.includes(left)) this.#cutOff(left.process);
    this.#heal(healed.map(({ process }) => process));
    this.#stage.open = false;
    await this.#until('the healed majority', LIVENESS_MS, () => this.#unfinished(healed));
  }

  /** Whatever else is wrong with it: it may not lead a group that its clients cannot reach. */
  #cutOff(process: SimProcess): void {
    for (const other of [...this.#replicas.map((replica) => replica.process), ...this.#clients.keys()]) {
      this.#net.links.set(process.name, other.name, { cut: true });
      this.#net.links.set(other.name, process.name, { cut: true });
    }
  }

  #heal(replicas: readonly SimProcess[]): void {
    const all = [...replicas, ...this.#clients.keys()];
    for (const from of all) for (const to of all) this.#net.links.set(from.name, to.name, { cut: false, delayMs: 0, lossRate: 0 });
    for (const process of all) {
      Object.assign(process.disk.faults, { latencyMs: 0.3, frozenUntilUs: 0, errorRate: 0, full: false });
      process.resume();
      this.#start(process);
    }
    this.#net.nudge();
  }

  /** What is not done yet, in words; null when everything is. */
  #unfinished(healed: readonly Replica[]): string | null {
    if (!healed.some(({ handle }) => handle?.status()?.role === 'leader')) return 'no leader';
    for (const [{ name }, { sends }] of this.#pending) if (sends > 0) return `${sends} sends of ${name} unanswered`;
    const { acked, handled } = this.#referee;
    for (; this.#consumed < acked.length; this.#consumed++) {
      const { queue, offset } = acked[this.#consumed] as Acked;
      if (!queue.startsWith(`${TOPIC}/`) || offset < 0 || handled.has(`${queue}@${offset}`)) continue;
      // What retention cut away nobody can consume.
      if (offset >= this.#minOffset(queue)) return `${queue}@${offset} is not consumed`;
    }
    return null;
  }

  /** First retained offset, as the replica knows that has applied most. */
  #minOffset(queue: string): number {
    const [topic, queueId] = queue.split('/') as [string, string];
    return Math.max(...this.#replicas.map(({ handle }) => handle?.minOffset(topic, Number(queueId)) ?? 0));
  }

  /** All are healed: they end with the same log and the same state. */
  async #convergence(): Promise<void> {
    this.#heal(this.#replicas.map(({ process }) => process));
    // From here on the log stands still: what is on its way arrives, nothing new is sent.
    for (const process of this.#clients.keys()) this.#kill(process, 'kill');
    await this.#scheduler.run(this.#scheduler.nowUs + SETTLE_MS * 1000);
    await this.#until('all replicas', CONVERGENCE_MS, () => {
      const views = this.#replicas.map(({ handle }) => handle?.status());
      const [first] = views;
      if (first === undefined || first === null || views.some((view) => view === undefined || view === null))
        return 'a replica is not running';
      const same = views.every(
        (view) =>
          view?.appliedIndex === first.appliedIndex && view.commitIndex === first.appliedIndex && view.lastIndex === first.lastIndex,
      );
      return same && first.lastIndex === first.appliedIndex ? null : 'replicas are not equally far';
    });
    const digests = new Set(this.#replicas.map(({ handle }) => handle?.status()?.stateDigest));
    if (digests.size > 1) throw new Violation('state differs', `digests ${[...digests].join(' ')} at the end`);
  }

  async #until(what: string, limitMs: number, unfinished: () => string | null): Promise<void> {
    const endUs = this.#scheduler.nowUs + limitMs * 1000;
    let left: string | null = 'nothing was tried';
    let done = false;
    const look = (): void => {
      left = unfinished();
      done = left === null;
      if (!done) this.#scheduler.schedule(null, 50_000, EventKind.world, look);
    };
    this.#scheduler.schedule(null, 50_000, EventKind.world, look);
    await this.#scheduler.run(endUs, () => done);
    if (!done) throw new Violation('not live', `${what}, ${limitMs / 1000} s after healing: ${left}`);
  }

  // ---- verdict -------------------------------------------------------------------------------------------------------------

  async #judge(): Promise<void> {
    const logs = await this.#finalLogs();
    for (const log of logs) {
      checkOffsetGap(log);
      checkDuplicated(log);
      checkReordered(log);
      checkLost(this.#referee.acked, log);
      this.#referee.readers.checkShown(log);
    }
    checkIdentical(this.#replicas.map(({ id, process }) => ({ replicaId: id, ...committedBytes(process.disk, `${DATA_DIR}/commitlog`) })));
  }

  /** What every replica answers to a reader who pulls everything. */
  async #finalLogs(): Promise<FinalLog[]> {
    const logs: FinalLog[] = [];
    let refusal = '';
    const reader = this.#process('judge');
    reader.start((io) => {
      for (const url of this.#stage.endpoints) {
        const replica = new WireClient(io, url);
        const pull = (): void => {
          pullAll(replica, [TOPIC, QUICK_TOPIC], QUEUES, (queue) => this.#minOffset(queue)).then(
            (log) => logs.push(log),
            (error: unknown) => {
              refusal = String(error);
              io.clock.setTimer(200, pull);
            },
          );
        };
        io.clock.setTimer(50, pull);
      }
    });
    await this.#until('reading everything', CONVERGENCE_MS, () =>
      logs.length === this.#replicas.length ? null : `not everything could be read: ${refusal}`,
    );
    return logs;
  }
}

const causedByDisk = (error: unknown): boolean => causedBy(error, (cause) => cause instanceof DiskError);

function causedBy(error: unknown, is: (cause: unknown) => boolean): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (is(cause)) return true;
  return false;
}

/** Runs one seed. Throws a Violation, or what else went wrong. */
export async function runSeed(options: RunOptions): Promise<RunResult> {
  return new World(options).run();
}
