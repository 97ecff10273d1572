import { expect } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { encodeCommand } from '../../src/broker/commands.ts';
import { type BrokerConfig, resolveConfig } from '../../src/config.ts';
import type { Disk } from '../../src/io/disk.ts';
import { EntryType } from '../../src/replica/types.ts';
import { Server } from '../../src/server.ts';
import type { SimDisk } from '../sim/disk.ts';
import type { Death } from '../sim/process.ts';
import { toyWorld } from '../sim/toy.ts';

const MIB = 1024 * 1024;
const PORT = 7460;
/** What is proposed counts up from here: a retention that never cuts anything. */
export const FIRST_VALUE = 2 ** 50;

function configOf(replicaId: number, ids: readonly number[], more: Partial<BrokerConfig>): BrokerConfig {
  const resolved = resolveConfig({
    flags: {
      replicaId,
      host: `r${replicaId}`,
      port: PORT,
      replicas: ids.map((id) => ({ replicaId: id, host: `r${id}`, port: PORT })),
      dataDir: '/data',
      segmentBytes: 16 * MIB,
      hotTailBytes: 16 * MIB,
      logLevel: 'silent',
    },
  });
  return { ...resolved, ...more };
}

/** Replicas as processes of one simulated world, and an application that proposes all the time. */
export class Group {
  readonly #world;
  readonly #machines = new Map<number, ReturnType<ReturnType<typeof toyWorld>['process']>>();
  readonly servers = new Map<number, Server>();
  readonly events = new Map<number, string[]>();
  readonly refused: string[] = [];
  #nowUs = 0;
  #counter = 0;
  /** Values that were committed, by what a leader said. */
  acknowledged = 0;
  readonly #waiting: { index: number; term: number; server: Server; value: number }[] = [];

  readonly #config: Partial<BrokerConfig>;
  /** What the application sets. */
  readonly #setting: 'retentionBytes' | 'retentionMs';

  /** @param config of all replicas, besides what each is told of the others; below what a user may set, too */
  constructor(seed: number, config: Partial<BrokerConfig> = {}) {
    this.#world = toyWorld(seed);
    this.#config = config;
    this.#setting = (config.retentionBytes ?? 0) > 0 ? 'retentionMs' : 'retentionBytes';
  }

  disk(id: number): SimDisk {
    return (this.#machines.get(id) as ReturnType<ReturnType<typeof toyWorld>['process']>).disk;
  }

  start(id: number, ids: readonly number[]): void {
    const machine = this.#machines.get(id) ?? this.#world.process(`r${id}`);
    this.#machines.set(id, machine);
    const events: string[] = [];
    this.events.set(id, events);
    machine.start((io) => {
      const server = new Server(configOf(id, ids, this.#config), io, {
        hotTail: { chunkBytes: 8 * MIB, maxChunks: 3 },
        limits: { retentionCheckMs: 1_000 },
        reserveBytes: 2 * MIB,
        onEvent: (name) => events.push(name),
      });
      this.servers.set(id, server);
      server.start().catch((error: unknown) => this.refused.push(`${id}: ${String(error)}`));
    });
  }

  kill(id: number, death: Death = 'kill'): void {
    (this.#machines.get(id) as { kill(death: Death): void }).kill(death);
    this.servers.delete(id);
  }

  /** The machine gets a new volume. */
  empty(id: number): void {
    this.kill(id);
    this.#machines.delete(id);
  }

  /** Something is done to a machine's disk while its replica is down. */
  async decide(id: number, act: (disk: Disk) => Promise<void>): Promise<void> {
    const machine = this.#machines.get(id) as ReturnType<ReturnType<typeof toyWorld>['process']>;
    let done = false;
    machine.start((io) => {
      void act(io.disk).then(() => {
        done = true;
      });
    });
    for (let waited = 0; waited < 50 && !done; waited++) await this.run(20);
    expect(done).toBe(true);
    machine.kill('kill');
  }

  get leader(): Server | null {
    const leaders = [...this.servers.values()].filter((server) => server.replica?.status().role === 'leader');
    return leaders.sort((a, b) => (b.replica?.status().term ?? 0) - (a.replica?.status().term ?? 0))[0] ?? null;
  }

  /** Time passes under load: a command each 20 ms. */
  async run(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 20) {
      this.#nowUs += 20_000;
      await this.#world.scheduler.run(this.#nowUs);
      this.#settle();
      const replica = this.leader?.replica;
      if (replica === undefined || replica === null) continue;
      const body = encodeCommand({ type: 'setSetting', name: this.#setting, value: FIRST_VALUE + ++this.#counter });
      const index = replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
      if (typeof index === 'number') {
        this.#waiting.push({ index, term: replica.status().term, server: this.leader as Server, value: FIRST_VALUE + this.#counter });
      }
    }
  }

  /** Time passes without load. */
  async pass(ms: number): Promise<void> {
    this.#nowUs += ms * 1000;
    await this.#world.scheduler.run(this.#nowUs);
  }

  #settle(): void {
    for (const { index, term, server, value } of this.#waiting.splice(0)) {
      const status = server.replica?.status();
      if (status?.term === term && status.role === 'leader' && status.commitIndex >= index)
        this.acknowledged = Math.max(this.acknowledged, value);
    }
  }

  /** Runs until the change is done. */
  async change(act: (server: Server) => Promise<void> | undefined): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt++) {
      let outcome: 'done' | 'failed' | null = null;
      const leader = this.leader;
      if (leader !== null) {
        act(leader)?.then(
          () => {
            outcome = 'done';
          },
          () => {
            outcome = 'failed';
          },
        );
        for (let waited = 0; waited < 20_000 && outcome === null; waited += 200) await this.run(200);
        if (outcome === 'done') return;
      }
      await this.run(500);
    }
    throw new Error(
      `the change does not come about: ${JSON.stringify([...this.servers.values()].map((server) => server.replica?.status()))}`,
    );
  }

  add(id: number): Promise<void> {
    return this.change((server) => server.replica?.addReplica({ replicaId: id, host: `r${id}`, port: PORT }));
  }

  remove(id: number): Promise<void> {
    return this.change((server) => server.replica?.removeReplica(id));
  }

  voters(): readonly number[] {
    return this.leader?.replica?.membership().voters ?? [];
  }

  /** All voters of the leader's membership hold the same, and that holds everything acknowledged. */
  expectIdentical(): void {
    const states = this.voters().map((id) => {
      const server = this.servers.get(id) as Server;
      return {
        applied: server.replica?.appliedIndex(),
        digest: server.stateMachine?.digest(),
        membership: server.replica?.membershipIndex,
      };
    });
    expect(states.length).toBeGreaterThan(0);
    for (const state of states) expect(state).toEqual(states[0]);
    expect(this.leader?.stateMachine?.setting(this.#setting) ?? 0).toBeGreaterThanOrEqual(this.acknowledged);
  }

  /** The load stops, everybody catches up. */
  async rest(): Promise<void> {
    this.#nowUs += 3_000_000;
    await this.#world.scheduler.run(this.#nowUs);
    this.#settle();
  }
}
