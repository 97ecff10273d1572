import { ACTORS, type ActorKind, QUEUES, QUICK_TOPIC, type Stage, TOPIC } from './actors.ts';
import { BrokerGroup, CLIENT_PORT, type SimReplica } from './broker-group.ts';
import type { StartBroker } from './broker-hook.ts';
import type { Acked } from './checkers/lost.ts';
import { type FinalLog, Violation } from './checkers/violation.ts';
import { SimDisk } from './disk.ts';
import { FaultInjector } from './fault-injector.ts';
import { describePlan, drawFaultPlan, type FaultKind, type FaultPlan } from './fault-plan.ts';
import { type GroupLog, pullAll } from './final-log.ts';
import { SimNet } from './net.ts';
import { Prng } from './prng.ts';
import { type Death, SimProcess } from './process.ts';
import { Referee } from './referee.ts';
import { EventKind, SimScheduler } from './scheduler.ts';
import type { TraceSink } from './trace.ts';
import { Verdict } from './verdict.ts';
import { WireClient } from './wire-client.ts';
import type { InTheEnd, Retained, WorkloadActor } from './workloads/workload.ts';
import { drawWorkloads, type WorkloadName } from './workloads.ts';

const BROKER_NAMES = ['a', 'b', 'c'];
const STATUS_INTERVAL_MS = 10;
/** Longest delivery timeout, and 30 simulated seconds (FAULTS 24). */
const LIVENESS_MS = 60_000;
const CONVERGENCE_MS = 30_000;
/** The scrub reads everything once in 30 s and a little. */
const REPAIR_MS = 90_000;
/** So are the features that are attacked. */
const WORKLOAD_SALT = 0x776f726b;
/** Changes of membership are drawn by a generator of their own. */
const MEMBERSHIP_SALT = 0x6d656d62;
const SETTLE_MS = 1_000;
const HEALTHY_LINK = { cut: false, delayMs: 0, lossRate: 0, duplicateRate: 0 };
const HEALTHY_DISK = { latencyMs: 0.3, frozenUntilUs: 0, errorRate: 0, full: false };

export interface RunOptions {
  readonly seed: number;
  readonly startBroker: StartBroker;
  readonly sink?: TraceSink;
  /** On in any case, besides what the seed draws. */
  readonly faults?: readonly FaultKind[];
  /** Features that are attacked; default: what the seed draws. */
  readonly workloads?: readonly WorkloadName[];
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

/** One run: broker groups, their clients, what goes wrong, and what must hold all the same. */
export class World {
  readonly #scheduler: SimScheduler;
  readonly #net: SimNet;
  readonly #referee: Referee;
  readonly #verdict = new Verdict();
  readonly #prng: Prng;
  readonly #groups: readonly BrokerGroup[];
  readonly #clients = new Map<SimProcess, WorkloadActor>();
  readonly #workloads: ReturnType<typeof drawWorkloads>;
  /** Where its present life was told that the brokers are. */
  readonly #told = new Map<SimProcess, readonly string[]>();
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
    this.#scheduler = new SimScheduler(options.seed, options.sink ?? null);
    this.#net = new SimNet(this.#scheduler);
    this.#referee = new Referee(this.#scheduler, this.#net);
    this.#prng = this.#scheduler.prng.fork();
    const apart = new Prng(options.seed ^ MEMBERSHIP_SALT);
    this.#plan = drawFaultPlan(this.#prng, apart, options.faults);
    this.#groups = this.#makeGroups(options.startBroker, apart);
    let producers = 1;
    const groups = this.#groups;
    const scheduler = this.#scheduler;
    this.#stage = {
      // Those of today: who starts again is told where the brokers are now (seed 272: all that were there at first had left or were down).
      get endpoints() {
        return groups.flatMap((group) => group.endpoints);
      },
      faults: this.#plan,
      get nowMs() {
        return scheduler.nowUs / 1000;
      },
      groups,
      referee: this.#referee,
      open: true,
      retained: (place) => this.#retained(place),
      nextProducer: () => producers++,
      begin: () => () => {},
    };
    const names = this.#groups.map(({ brokerName }) => brokerName);
    this.#workloads = drawWorkloads(new Prng(options.seed ^ WORKLOAD_SALT), names, options.workloads);
    for (const { workload } of this.#workloads) for (const group of this.#groups) group.configure(workload.config ?? {});
    this.#makeClients();
    this.#injector = new FaultInjector(this.#scheduler, this.#net, this.#plan, {
      groups: () => this.#groups.map(({ replicas }) => replicas.map(({ process }) => process)),
      clients: [...this.#clients.keys()],
      kill: (victim, death) => this.#kill(victim, death),
      start: (victim) => this.#start(victim),
      transfer: () => this.#prng.pick(this.#groups).transfer(),
      rot: (victim) => this.#rot(victim),
      reshape: (victim) => this.#groupOf(victim)?.group.operator.reshape(),
      empty: (victim) => {
        const found = this.#groupOf(victim);
        found?.group.operator.empty(found.replica);
      },
    });
  }

  async run(): Promise<RunResult> {
    const sizes = this.#groups.map(({ replicas }) => replicas.length).join(' + ');
    this.#scheduler.say(
      'world',
      `seed ${this.#seed}, ${sizes} replicas, faults: ${describePlan(this.#plan)}${this.#workloads.map(({ name }) => `, ${name}`).join('')}`,
    );
    for (const { process } of this.#replicas) this.#start(process);
    for (const process of this.#clients.keys()) this.#start(process);
    this.#watchStatus();
    // Mostly after the groups are formed; sometimes into the middle of it.
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
      terms: this.#groups.reduce((sum, { referee }) => sum + referee.leaders.terms, 0),
      simulatedMs: Math.round(this.#scheduler.nowUs / 1000),
    };
  }

  readonly #retained: Retained = ({ brokerName, topic, queueId, offset }) => {
    const group = this.#groups.find((other) => other.brokerName === brokerName) as BrokerGroup;
    return offset >= group.minOffset(topic, queueId);
  };

  // ---- processes -----------------------------------------------------------------------------------------------------------

  #makeGroups(startBroker: StartBroker, apart: Prng): BrokerGroup[] {
    const count = this.#prng.pick([1, 1, 1, 1, 2, 2, 3]);
    return BROKER_NAMES.slice(0, count).map((brokerName) => {
      const referee = this.#referee.group(brokerName);
      const size = this.#prng.pick(count === 1 ? [3, 3, 3, 3, 3, 5, 1] : [3, 3, 1]);
      const makeProcess = (name: string): SimProcess => this.#process(name);
      const makeDisk = (name: string): SimDisk => new SimDisk(name, this.#scheduler);
      const seeds =
        count === 1
          ? ''
          : BROKER_NAMES.slice(0, count)
              .map((name) => `${name}1:${CLIENT_PORT}`)
              .join(',');
      return new BrokerGroup(brokerName, size, {
        scheduler: this.#scheduler,
        prng: this.#prng,
        referee,
        startBroker,
        makeProcess,
        makeDisk,
        operatorPrng: apart.fork(),
        seeds,
      });
    });
  }

  get #replicas(): SimReplica[] {
    return this.#groups.flatMap(({ replicas }) => replicas);
  }

  #makeClients(): void {
    const kinds: ActorKind[] = ['admin', 'reader', 'offset', 'operator'];
    for (let i = this.#prng.between(1, 3); i > 0; i--) kinds.push('producer');
    for (let i = this.#prng.between(1, 3); i > 0; i--) kinds.push('consumer');
    kinds.forEach((kind, at) => {
      this.#clients.set(this.#process(`client${at + 1}`), ACTORS[kind]);
    });
    for (const { name, workload } of this.#workloads)
      for (const [at, actor] of workload.actors.entries()) this.#clients.set(this.#process(`${name}${at + 1}`), actor);
  }

  #process(name: string): SimProcess {
    const disk = new SimDisk(name, this.#scheduler);
    return new SimProcess(this.#nextProcess++, name, this.#scheduler, this.#net, disk, (process, error) => this.#crashed(process, error));
  }

  #groupOf(process: SimProcess): { readonly group: BrokerGroup; readonly replica: SimReplica } | null {
    for (const group of this.#groups) {
      const replica = group.of(process);
      if (replica !== undefined) return { group, replica };
    }
    return null;
  }

  #start(process: SimProcess): void {
    const found = this.#groupOf(process);
    if (found !== null) found.group.start(found.replica);
    else if (!process.alive) this.#startClient(process);
  }

  #startClient(process: SimProcess): void {
    this.#scheduler.say(process.name, 'starts');
    const act = this.#clients.get(process) as WorkloadActor;
    const pending = { sends: 0 };
    this.#pending.set(process, pending);
    this.#told.set(process, this.#stage.endpoints);
    const begin = (): (() => void) => {
      pending.sends++;
      return () => pending.sends--;
    };
    const stage = Object.create(this.#stage, { begin: { value: begin } }) as Stage;
    process.start((io) => void act(io, stage).catch((error: unknown) => this.#crashed(process, error)));
  }

  #crashed(process: SimProcess, error: unknown): void {
    this.#scheduler.say(process.name, `crashed: ${error instanceof Error ? error.stack : String(error)}`);
    this.#scheduler.fail(error);
  }

  #kill(process: SimProcess, death: Death): void {
    if (!process.alive) return;
    const found = this.#groupOf(process);
    if (found !== null) found.group.kill(found.replica, death);
    else {
      this.#pending.delete(process);
      process.kill(death);
    }
  }

  #rot(victim: SimProcess): void {
    const found = this.#groupOf(victim);
    const what = found?.group.rot.strike(found.replica) ?? null;
    if (what !== null) this.#scheduler.say(victim.name, what);
  }

  #watchStatus(): void {
    this.#scheduler.schedule(null, STATUS_INTERVAL_MS * 1000, EventKind.world, () => {
      for (const group of this.#groups) {
        group.watchStatus();
        group.operator.tick();
      }
      this.#watchStatus();
    });
  }

  // ---- phases --------------------------------------------------------------------------------------------------------------

  /** A random majority of each group is healed, everything else stays as broken as it is; whatever is pending must end. */
  async #liveness(): Promise<void> {
    this.#injector.stop();
    const healed = this.#groups.flatMap(({ replicas, members, rot, operator, referee, isRaised }) => {
      operator.stop();
      // The one good copy may be on any of them, a change that was begun may need any of them, and a group is formed by all (I5), its
      // feature level raised by all (seed 286).
      const needsAll = rot.standing().length > 0 || operator.unfinished() !== null || referee.committedIndex === 0 || !isRaised;
      const all = this.#prng.chance(0.5) || needsAll;
      const size = all ? replicas.length : Math.floor(members.length / 2) + 1;
      return this.#prng.shuffle(all ? replicas : members).slice(0, size);
    });
    this.#scheduler.say('world', `liveness: healed ${healed.map(({ process }) => process.name).join(' ')}`);
    for (const left of this.#replicas) if (!healed.includes(left)) this.#cutOff(left.process);
    const reachable = new Set(this.#groups.flatMap((group) => group.endpointsOf(healed)));
    // All that it was told of has left, or stays unreachable, and it may not have heard of others: its operator gives it the addresses of today (seed 3113).
    for (const [client, told] of this.#told) if (!told.some((url) => reachable.has(url))) this.#kill(client, 'kill');
    this.#heal(healed.map(({ process }) => process));
    this.#stage.open = false;
    await this.#until('the healed majorities', LIVENESS_MS, () => this.#unfinished());
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
    for (const from of all) for (const to of all) this.#net.links.set(from.name, to.name, HEALTHY_LINK);
    for (const process of all) {
      Object.assign(process.disk.faults, HEALTHY_DISK);
      process.resume();
      this.#start(process);
    }
    this.#net.nudge();
  }

  /** What is not done yet, in words; null when everything is. */
  #unfinished(): string | null {
    for (const group of this.#groups) if (group.leader === undefined) return `no leader of ${group.brokerName}`;
    for (const { operator } of this.#groups) {
      const left = operator.unfinished();
      if (left !== null) return left;
    }
    for (const [{ name }, { sends }] of this.#pending) if (sends > 0) return `${sends} sends of ${name} unanswered`;
    for (const { workload } of this.#workloads) {
      const left = workload.unfinished(this.#retained);
      if (left !== null) return left;
    }
    const { acked, handled } = this.#referee;
    for (; this.#consumed < acked.length; this.#consumed++) {
      const { queue, offset } = acked[this.#consumed] as Acked;
      const [brokerName, topic, queueId] = queue.split('/') as [string, string, string];
      if (topic !== TOPIC || offset < 0 || handled.has(`${queue}@${offset}`)) continue;
      const group = this.#groups.find((other) => other.brokerName === brokerName) as BrokerGroup;
      // What retention cut away nobody can consume.
      if (offset >= group.minOffset(topic, Number(queueId))) return `${queue}@${offset} is not consumed`;
    }
    return null;
  }

  /** All are healed: they end with the same log and the same state. */
  async #convergence(): Promise<void> {
    this.#heal(this.#replicas.map(({ process }) => process));
    // From here on the log stands still: what is on its way arrives, nothing new is sent.
    for (const process of this.#clients.keys()) this.#kill(process, 'kill');
    await this.#scheduler.run(this.#scheduler.nowUs + SETTLE_MS * 1000);
    await this.#converged();
    await this.#until('repair', REPAIR_MS, () => {
      for (const { rot } of this.#groups) {
        const left = rot.unrepaired();
        if (left !== null) return left;
      }
      return null;
    });
    for (const group of this.#groups) group.startDamaged();
    await this.#until('derived files', CONVERGENCE_MS, () => {
      for (const group of this.#groups) {
        const left = group.notConverged() ?? group.notBuiltAnew();
        if (left !== null) return left;
      }
      return null;
    });
  }

  #converged(): Promise<void> {
    return this.#until('all replicas', CONVERGENCE_MS, () => {
      for (const group of this.#groups) {
        const left = group.notConverged();
        if (left !== null) return left;
      }
      return null;
    });
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
    const inTheEnd: InTheEnd = {
      topicsAt: (brokerName) => this.#groups.find((group) => group.brokerName === brokerName)?.topics() ?? [],
      quotasAt: (brokerName) => this.#groups.find((group) => group.brokerName === brokerName)?.quotas() ?? [],
    };
    for (const { workload } of this.#workloads) workload.judge(this.#retained, inTheEnd);
    const logs = await this.#finalLogs();
    // A leader may have been elected while everything was read: its first entry is not everywhere yet (seed 513).
    await this.#converged();
    for (const group of this.#groups) group.checkEqual(this.#verdict);
    // Each replica's word counts: the n-th log has the n-th of every group, or its last.
    for (let n = 0; n < Math.max(...logs.map((ofGroup) => ofGroup.length)); n++) {
      const log: FinalLog = { queues: new Map(logs.flatMap((ofGroup) => [...(ofGroup[Math.min(n, ofGroup.length - 1)] as GroupLog)])) };
      this.#verdict.shown(log, this.#referee.acked);
      this.#referee.readers.checkShown(log);
      for (const { workload } of this.#workloads) workload.shown?.(log);
    }
  }

  /** What every replica of every group answers to a reader who pulls everything. */
  async #finalLogs(): Promise<GroupLog[][]> {
    let refusal = '';
    let missing = this.#groups.flatMap(({ members }) => members).length;
    const logs = this.#groups.map((): GroupLog[] => []);
    const topics = [TOPIC, QUICK_TOPIC, ...this.#workloads.flatMap(({ workload }) => workload.topics ?? [])];
    const reader = this.#process('judge');
    reader.start((io) => {
      this.#groups.forEach((group, at) => {
        for (const url of group.endpoints) {
          const replica = new WireClient(io, url);
          const minOffset = (topic: string, queueId: number): number => group.minOffset(topic, queueId);
          const pull = (): void => {
            pullAll(replica, group.brokerName, topics, QUEUES, minOffset).then(
              (log) => {
                (logs[at] as GroupLog[]).push(log);
                missing--;
              },
              (error: unknown) => {
                refusal = String(error);
                io.clock.setTimer(200, pull);
              },
            );
          };
          io.clock.setTimer(50, pull);
        }
      });
    });
    await this.#until('reading everything', CONVERGENCE_MS, () => (missing === 0 ? null : `not everything could be read: ${refusal}`));
    return logs;
  }
}

/** Runs one seed. Throws a Violation, or what else went wrong. */
export async function runSeed(options: RunOptions): Promise<RunResult> {
  return new World(options).run();
}
