import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { encodeCommand } from '../../src/broker/commands.ts';
import { type BrokerConfig, resolveConfig } from '../../src/config.ts';
import type { Disk } from '../../src/io/disk.ts';
import { writeRecoverNote } from '../../src/replica/forced-recovery.ts';
import { EntryType } from '../../src/replica/types.ts';
import { Server } from '../../src/server.ts';
import { toyWorld } from '../sim/toy.ts';

const MIB = 1024 * 1024;
const PORT = 7460;
/** What is proposed counts up from here: a retention that never cuts anything. */
const FIRST_VALUE = 2 ** 50;

function configOf(replicaId: number, ids: readonly number[]): BrokerConfig {
  return resolveConfig({
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
}

/** Replicas as processes of one simulated world, and an application that proposes all the time. */
class Group {
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

  constructor(seed: number) {
    this.#world = toyWorld(seed);
  }

  start(id: number, ids: readonly number[]): void {
    const machine = this.#machines.get(id) ?? this.#world.process(`r${id}`);
    this.#machines.set(id, machine);
    const events: string[] = [];
    this.events.set(id, events);
    machine.start((io) => {
      const server = new Server(configOf(id, ids), io, {
        hotTail: { chunkBytes: 8 * MIB, maxChunks: 3 },
        onEvent: (name) => events.push(name),
      });
      this.servers.set(id, server);
      server.start().catch((error: unknown) => this.refused.push(`${id}: ${String(error)}`));
    });
  }

  kill(id: number): void {
    (this.#machines.get(id) as { kill(death: 'kill'): void }).kill('kill');
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
      const body = encodeCommand({ type: 'setSetting', name: 'retentionBytes', value: FIRST_VALUE + ++this.#counter });
      const index = replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
      if (typeof index === 'number') {
        this.#waiting.push({ index, term: replica.status().term, server: this.leader as Server, value: FIRST_VALUE + this.#counter });
      }
    }
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
    expect(this.leader?.stateMachine?.setting('retentionBytes') ?? 0).toBeGreaterThanOrEqual(this.acknowledged);
  }

  /** The load stops, everybody catches up. */
  async rest(): Promise<void> {
    this.#nowUs += 3_000_000;
    await this.#world.scheduler.run(this.#nowUs);
    this.#settle();
  }
}

describe('membership', () => {
  test('F35 FAULTS 13 1 → 3 → 5 → 3 under load: learners first, joint, nothing acknowledged is lost, all voters identical', async () => {
    const group = new Group(1);
    group.start(1, [1]);
    await group.run(4000);
    for (const id of [2, 3, 4, 5]) {
      group.start(id, [1, id]);
      await group.run(1000);
      await group.add(id);
      expect(group.voters()).toContain(id);
    }
    expect(group.voters()).toEqual([1, 2, 3, 4, 5]);
    // The one that the group began with goes, whoever leads.
    await group.remove(1);
    await group.run(3000);
    await group.remove(4);
    await group.run(3000);
    expect(group.voters()).toEqual([2, 3, 5]);
    await group.rest();
    group.expectIdentical();
    expect(group.acknowledged).toBeGreaterThan(FIRST_VALUE + 300);
    expect(group.refused).toEqual([]);
    // They go on without those who left, and know each other after a restart of all.
    for (const id of [1, 4]) group.kill(id);
    for (const id of [2, 3, 5]) group.kill(id);
    for (const id of [2, 3, 5]) group.start(id, [1, id]);
    await group.run(6000);
    expect(group.voters()).toEqual([2, 3, 5]);
    await group.rest();
    group.expectIdentical();
  });

  test('FAULTS 13 a replica that slept while another one was added hears it when it leads: it dials back who introduces itself', async () => {
    const group = new Group(4);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    group.kill(3);
    await group.run(500);
    group.start(4, [1, 2, 4]);
    await group.run(1000);
    await group.add(4);
    await group.change((server) => server.replica?.transfer(4));
    await group.run(2000);
    expect(group.leader?.replica?.id).toBe(4);
    group.start(3, [1, 2, 3]);
    await group.run(4000);
    expect(group.leader?.replica?.id).toBe(4);
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([1, 2, 3, 4]);
    await group.rest();
    group.expectIdentical();
  });

  test('I5 FAULTS 6 an emptied directory under a known id does not vote; the leader replaces it, and it votes when it holds everything', async () => {
    const group = new Group(2);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    group.empty(3);
    await group.run(500);
    group.start(3, [1, 2, 3]);
    await group.run(1000);
    expect(group.events.get(3)).toContain('joining');
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([]);
    await group.run(15_000);
    expect(group.voters()).toEqual([1, 2, 3]);
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([1, 2, 3]);
    await group.rest();
    group.expectIdentical();
    // Its vote counts again: one of the others may go.
    group.kill(1);
    await group.run(6000);
    expect(group.leader).not.toBeNull();
  });

  test('I5 FAULTS 6 two emptied of three never form a group: nothing is acknowledged any more, and the third keeps what it has', async () => {
    const group = new Group(3);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    const before = group.acknowledged;
    expect(before).toBeGreaterThan(0);
    for (const id of [2, 3]) group.empty(id);
    for (const id of [2, 3]) group.start(id, [1, 2, 3]);
    await group.run(2000);
    const acknowledged = group.acknowledged;
    await group.run(20_000);
    expect(group.leader).toBeNull();
    expect(group.acknowledged).toBe(acknowledged);
    for (const id of [2, 3]) expect(group.servers.get(id)?.replica?.membership().voters ?? []).toEqual([]);
  });

  test('two removals that wait together never leave a group without voters: the last one is refused', async () => {
    const group = new Group(4);
    group.start(1, [1]);
    await group.run(3000);
    group.start(2, [1, 2]);
    await group.run(500);
    await group.add(2);
    const outcomes: string[] = [];
    const leader = group.leader as Server;
    const leaderId = leader.replica?.id as number;
    for (const id of [3 - leaderId, leaderId]) {
      leader.replica?.removeReplica(id).then(
        () => outcomes.push(`${id} removed`),
        (error: unknown) => outcomes.push(String(error)),
      );
    }
    await group.run(5000);
    expect(group.voters()).toEqual([leaderId]);
    expect(outcomes).toEqual([`${3 - leaderId} removed`, expect.stringContaining('the last voter cannot be removed')]);
  });

  test('I5 FAULTS 6 raft recover: after a majority is lost an operator lets one go on; those left behind do not vote, emptied ones come back', async () => {
    const group = new Group(5);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    for (const id of [1, 2, 3]) group.kill(id);
    await group.run(500);
    const acknowledged = group.acknowledged;
    group.empty(3);
    await group.decide(1, (disk) => writeRecoverNote(disk, '/data', { reason: 'test: 2 and 3 are lost' }));
    group.start(1, [1, 2, 3]);
    await group.run(4000);
    expect(group.events.get(1)).toContain('membership forced by an operator');
    expect(group.voters()).toEqual([1]);
    expect(group.acknowledged).toBeGreaterThan(acknowledged);
    // The decision is in the log now: a restart needs no note.
    group.kill(1);
    group.start(1, [1, 2, 3]);
    await group.run(3000);
    expect(group.events.get(1)).not.toContain('membership forced by an operator');
    expect(group.voters()).toEqual([1]);
    // The one that was left behind with its old directory ends by itself and says why; the emptied one is taken in.
    group.start(2, [1, 2, 3]);
    group.start(3, [1, 2, 3]);
    await group.run(12_000);
    expect(group.servers.get(2)?.state).toBe('failed');
    expect(group.voters()).toEqual([1, 3]);
    await group.rest();
    group.expectIdentical();
  });
});
