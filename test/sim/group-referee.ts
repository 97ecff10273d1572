import type { RaftStatus } from '../../src/protocol/requests.ts';
import type { Message } from '../../src/raft/types.ts';
import { CommittedChecker } from './checkers/committed.ts';
import { LeadersChecker } from './checkers/leaders.ts';
import { ProgressChecker } from './checkers/progress.ts';
import { SyncedChecker } from './checkers/synced.ts';
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
  /** The highest index that any replica has said is committed. */
  committedIndex = 0;
  readonly #scheduler: SimScheduler;
  readonly #peers: PeerObserver;
  readonly #replicaIds = new Map<SimProcess, number>();

  constructor(brokerName: string, scheduler: SimScheduler) {
    this.brokerName = brokerName;
    this.#scheduler = scheduler;
    this.synced = new SyncedChecker(this.probe);
    this.#peers = new PeerObserver((message) => this.#said(message));
  }

  watch(replicaId: number, process: SimProcess): void {
    this.#replicaIds.set(process, replicaId);
    this.probe.watch(replicaId, process.disk);
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
    this.committed.digest(status.replicaId, status.appliedIndex, status.stateDigest);
    if (status.role === 'leader') this.leaders.leads(status.replicaId, status.term);
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
        if (message.granted) this.synced.vote(from, term, to);
        return;
      case 'appendResponse':
        if (message.success) this.synced.appendResponse(from, term, message.lastIndex);
        return;
      case 'appendRequest':
      case 'heartbeatRequest':
        this.leaders.leads(from, term);
        this.synced.spoke(from, term, message.type);
        return;
      default:
        this.synced.spoke(from, term, message.type);
    }
  }
}

function describe(message: Message): string {
  const { type, from: _from, to: _to, ...rest } = message;
  return `${type} ${Object.entries(rest)
    .filter(([name]) => name !== 'groups')
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ')}`;
}
