import type { RaftStatus } from '../../src/protocol/raft-requests.ts';
import type { Message } from '../../src/raft/types.ts';
import { NOBODY } from '../../src/replica/membership.ts';
import { CommittedChecker } from './checkers/committed.ts';
import { LeadersChecker } from './checkers/leaders.ts';
import { MembershipsChecker } from './checkers/memberships.ts';
import { ProgressChecker } from './checkers/progress.ts';
import { type DurableView, SyncedChecker } from './checkers/synced.ts';
import { Violation } from './checkers/violation.ts';
import type { SimDisk } from './disk.ts';
import { DurableProbe } from './durable-probe.ts';
import { PeerObserver } from './peer-observer.ts';
import type { SimProcess } from './process.ts';
import type { SimScheduler } from './scheduler.ts';

/** The checkers of one broker group: each group has a log, terms and disks of its own. */
export class GroupReferee {
  readonly brokerName: string;
  readonly probe = new DurableProbe();
  readonly synced: SyncedChecker;
  readonly leaders = new LeadersChecker();
  readonly progress = new ProgressChecker();
  readonly committed = new CommittedChecker();
  readonly memberships: MembershipsChecker;
  /** The highest index that any replica has said is committed. */
  committedIndex = 0;
  readonly #scheduler: SimScheduler;
  readonly #peers: PeerObserver;
  readonly #replicaIds = new Map<SimProcess, number>();
  /** Disks whose directory has spoken: each has an incarnation of its own. */
  readonly #directories = new Set<SimDisk>();
  readonly #processes = new Map<number, SimProcess>();

  constructor(brokerName: string, scheduler: SimScheduler) {
    this.brokerName = brokerName;
    this.#scheduler = scheduler;
    const { probe } = this;
    this.memberships = new MembershipsChecker(probe);
    const view: DurableView = {
      durableIndex: (replicaId, atLeast) => probe.durableIndex(replicaId, atLeast),
      durableTerm: (replicaId) => probe.durableTerm(replicaId),
      holdsBatch: (replicaId, bodyChecksum) => probe.holdsBatch(replicaId, bodyChecksum),
      deciders: (bodyChecksum) => this.#deciders(probe.indexOfBatch(bodyChecksum)),
    };
    this.synced = new SyncedChecker(view);
    probe.onMembership = (now, before) => {
      try {
        this.memberships.durable(now.index, now.checksum, now.membership, before);
      } catch (error) {
        scheduler.fail(error);
      }
    };
    this.#peers = new PeerObserver((message) => this.#said(message));
  }

  watch(replicaId: number, process: SimProcess): void {
    this.#replicaIds.set(process, replicaId);
    this.#processes.set(replicaId, process);
    this.probe.watch(replicaId, process.disk);
  }

  /** The contents of its directory were kept aside: it is another replica on the same disk from now on. */
  setAside(replicaId: number): void {
    const { disk } = this.#processes.get(replicaId) as SimProcess;
    incarnations.delete(disk);
    this.#directories.delete(disk);
    this.probe.watch(replicaId, disk);
  }

  /** 0: not a replica of this group. */
  idOf(process: SimProcess): number {
    return this.#replicaIds.get(process) ?? 0;
  }

  peerWritten(connection: number, from: SimProcess, to: SimProcess, bytes: Uint8Array): void {
    this.#peers.written(connection, this.idOf(from), this.idOf(to), bytes);
  }

  /** Asked of every running replica, again and again. */
  saw(status: RaftStatus): void {
    this.progress.saw(status.replicaId, status);
    this.committedIndex = Math.max(this.committedIndex, status.commitIndex);
    if (!this.memberships.isFormed) this.#formed(status.replicaId);
    this.memberships.committed(status.commitIndex);
    this.committed.digest(status.replicaId, status.appliedIndex, status.stateDigest);
    if (status.role === 'leader') this.leaders.leads(status.replicaId, status.term);
  }

  /** A group of one may acknowledge before its status was asked for once (seed 7004). */
  #deciders(index: number): ReturnType<MembershipsChecker['deciders']> {
    for (const replicaId of this.#processes.keys()) if (!this.memberships.isFormed) this.#formed(replicaId);
    return this.memberships.deciders(index);
  }

  #formed(replicaId: number): void {
    const { formedWith } = metaOf((this.#processes.get(replicaId) as SimProcess).disk) ?? { formedWith: null };
    if (formedWith === null) return;
    const members = Object.entries(formedWith).map(([id, incarnation]) => ({ replicaId: Number(id), incarnation, host: '', port: 0 }));
    this.memberships.formed({ ...NOBODY, voters: members.map((member) => member.replicaId), members });
  }

  #speaks(replicaId: number, what: string): void {
    const { disk } = this.#processes.get(replicaId) as SimProcess;
    const incarnation = incarnationOf(disk);
    if (incarnation !== null && !this.#directories.has(disk)) {
      for (const other of this.#directories) {
        if (incarnationOf(other) === incarnation)
          throw new Violation('wrong incarnation', `replica ${replicaId} says ${what} as the directory ${incarnation} that was lost`);
      }
      this.#directories.add(disk);
    }
    this.memberships.speaks(replicaId, incarnation, what);
  }

  #said(message: Message): void {
    const { from, to, term } = message;
    if (this.#scheduler.trace.verbose) this.#scheduler.say(`${this.brokerName}${from}`, `→ ${this.brokerName}${to} ${describe(message)}`);
    switch (message.type) {
      case 'preVoteRequest':
      case 'preVoteResponse':
        return;
      case 'voteRequest':
        this.synced.vote(from, term, from);
        return;
      case 'voteResponse':
        if (!message.granted) return;
        this.#speaks(from, 'a vote');
        this.synced.vote(from, term, to);
        return;
      case 'appendResponse':
        if (!message.success) return;
        this.#speaks(from, 'an acknowledgement');
        this.synced.appendResponse(from, term, message.lastIndex);
        return;
      case 'appendRequest':
      case 'heartbeatRequest':
        // Whoever is asked for his status says it later: a learner under an id that was freed a moment ago answers before (seed 2817).
        this.memberships.committed(message.commitIndex);
        this.#speaks(from, "a leader's word");
        this.leaders.leads(from, term);
        this.synced.spoke(from, term, message.type);
        return;
      default:
        this.synced.spoke(from, term, message.type);
    }
  }
}

interface DirectoryMeta {
  readonly incarnation: string;
  readonly formedWith: Readonly<Record<string, string>> | null;
}

function metaOf(disk: SimDisk): DirectoryMeta | null {
  const bytes = disk.visibleBytes('/data/meta.json');
  return bytes === null || bytes.length === 0 ? null : (JSON.parse(Buffer.from(bytes).toString()) as DirectoryMeta);
}

const incarnations = new WeakMap<SimDisk, string>();

/** Of the data directory on this disk, made once; null: none yet. */
export function incarnationOf(disk: SimDisk): string | null {
  const known = incarnations.get(disk) ?? metaOf(disk)?.incarnation ?? null;
  if (known !== null) incarnations.set(disk, known);
  return known;
}

function describe(message: Message): string {
  const { type, from: _from, to: _to, ...rest } = message;
  return `${type} ${Object.entries(rest)
    .filter(([name]) => name !== 'groups')
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ')}`;
}
